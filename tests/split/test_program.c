/* The program as scripts use it: --json fields, memory beside the plan, sampling that repeats, stop texts,
 * two jobs at once, starting itself under mpirun.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

static const char *model(void) {
    return test_path("examples/shakespeare");
}

static const char *text_of(const cJSON *json) {
    return golden_get(json, "text")->valuestring;
}
static const char *hash_of(const cJSON *json) {
    return golden_get(json, "logits_hash")->valuestring;
}

/* Promise 2: no rank's peak resident set passes what was planned by more than 200 MB. */
static void check_memory(int np, const char *dir, const char *dtype) {
    const char *words[] = {"--model", dir,       "--prompt-ids", "5,6,7,8", "--max-new-tokens",
                           "8",       "--dtype", dtype,          NULL};
    cJSON *json = golden_run(np, words);
    const cJSON *rank;
    assert_int_equal(cJSON_GetArraySize(golden_get(json, "ranks")), np);
    cJSON_ArrayForEach(rank, golden_get(json, "ranks")) {
        const double planned = golden_get(rank, "planned_bytes")->valuedouble;
        const double peak = golden_get(rank, "peak_bytes")->valuedouble;
        assert_true(peak > 1e6);
#if !defined(__SANITIZE_ADDRESS__) /* the sanitizer's own memory is in no plan */
        if (peak > planned + 200e6)
            fail_msg("np %d %s: rank %g took %.0f bytes, planned %.0f", np, dtype,
                     golden_get(rank, "rank")->valuedouble, peak, planned);
#else
        (void)planned;
#endif
    }
    cJSON_Delete(json);
}

static void test_memory(void **state) {
    (void)state;
    check_memory(1, model(), "bf16");
    check_memory(3, model(), "fp32");
}

static void test_json_fields(void **state) {
    (void)state;
    static const char *const keys[] = {"model",    "prompt_ids",  "token_ids", "text", "finish_reason",
                                       "logprobs", "logits_hash", "timing",    "plan"};
    static const char *const plan_keys[] = {
        "model", "policy", "ctx",        "max_batch", "fits", "bottleneck_bytes",
        "kv",    "stages", "device_map", "chunk"};
    const char *words[] = {"--model",          model(), "--prompt",   "ROMEO:\n",
                           "--max-new-tokens", "5",     "--logprobs", "3",
                           "--temperature",    "0",     NULL};
    cJSON *json = golden_run(2, words);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        golden_get(json, keys[i]);
    for (size_t i = 0; i < sizeof plan_keys / sizeof plan_keys[0]; i++)
        golden_get(golden_get(json, "plan"), plan_keys[i]);
    assert_int_equal(cJSON_GetArraySize(golden_get(json, "token_ids")), 5);
    assert_string_equal(golden_get(json, "finish_reason")->valuestring, "length");
    const cJSON *first = cJSON_GetArrayItem(golden_get(json, "logprobs"), 0);
    assert_int_equal(cJSON_GetArraySize(golden_get(first, "top")), 3);
    /* Greedy: the chosen token is the likeliest. */
    const cJSON *best = cJSON_GetArrayItem(golden_get(first, "top"), 0);
    assert_true(cJSON_GetArrayItem(best, 0)->valuedouble == golden_get(first, "id")->valuedouble);
    assert_true(golden_get(first, "logprob")->valuedouble < 0);
    cJSON_Delete(json);
}

/* The same seed gives the same text at any np; another seed gives another. generation_config.json samples. */
static void test_seeds(void **state) {
    (void)state;
    char *texts[3];
    for (int i = 0; i < 3; i++) {
        const char *words[] = {"--model", model(),  "--prompt",         "JULIET:\n",    "--max-new-tokens",
                               "24",      "--seed", i == 2 ? "8" : "7", "--ignore-eos", NULL};
        cJSON *json = golden_run(i == 1 ? 3 : 1, words);
        texts[i] = strdup(text_of(json));
        cJSON_Delete(json);
    }
    assert_string_equal(texts[0], texts[1]);
    assert_string_not_equal(texts[0], texts[2]);
    for (int i = 0; i < 3; i++)
        free(texts[i]);
}

/* A stop text ends the answer before it, also when it lies across tokens. */
static void test_stop(void **state) {
    (void)state;
    const char *words[] = {"--model", model(),         "--prompt", "ROMEO:\n",    "--max-new-tokens",
                           "48",      "--temperature", "0",        "--dtype",     "fp32",
                           "--stop",  "sure you",      "--stop",   "never there", NULL};
    cJSON *json = golden_run(2, words);
    assert_string_equal(text_of(json), "I am not well, sir, but I am ");
    assert_string_equal(golden_get(json, "finish_reason")->valuestring, "stop");
    cJSON_Delete(json);
}

/* What is printed as it is made equals the text of --json, and ends in a newline. */
static void test_streaming(void **state) {
    (void)state;
    test_run *run = test_run_open(30.0);
    test_run_add(run, CDPIPE_BIN, "--np", "2", "--device", "cpu", "--model", model(), "--prompt", "ROMEO:\n",
                 "--max-new-tokens", "12", "--temperature", "0", "--dtype", "fp32", "--echo", "--quiet",
                 NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(run->out, "ROMEO:\nI am not well, sir, but I am sure you\n");
    assert_string_equal(run->err, "");
    test_run_close(run);
}

/* Text on standard input, ids without a tokenizer, a prompt as long as the context. */
static void test_prompts(void **state) {
    (void)state;
    test_run *run = test_run_open(30.0);
    run->input = "ROMEO:\n";
    test_run_add(run, CDPIPE_BIN, "--device", "cpu", "--model", model(), "--max-new-tokens", "3",
                 "--temperature", "0", "--dtype", "fp32", "--quiet", NULL);
    test_run_go(run);
    assert_string_equal(run->out, "I am not\n");
    test_run_close(run);

    const char *ids[] = {
        "--model", test_path("tests/golden/models/llama"), "--prompt-ids", "5,6,7", "--ctx", "3", NULL};
    cJSON *json = golden_run(1, ids);
    assert_true(cJSON_IsNull(golden_get(json, "text")));
    assert_int_equal(cJSON_GetArraySize(golden_get(json, "token_ids")), 0);
    assert_string_equal(golden_get(json, "finish_reason")->valuestring, "length");
    cJSON_Delete(json);

    const char *endless[] = {"--model",          model(),      "--prompt-ids", "5,6,7", "--ctx", "8",
                             "--max-new-tokens", "2147483647", "--ignore-eos", NULL};
    json = golden_run(1, endless); /* ctx is what bounds it */
    assert_int_equal(cJSON_GetArraySize(golden_get(json, "token_ids")), 5);
    cJSON_Delete(json);
}

/* Two jobs side by side do not disturb each other. */
static void test_two_jobs(void **state) {
    (void)state;
    test_run *jobs[2];
    for (int i = 0; i < 2; i++) {
        jobs[i] = test_run_open(60.0);
        test_run_mpirun(jobs[i], 2);
        test_run_add(jobs[i], CDPIPE_BIN, "--device", "cpu", "--model", model(), "--prompt", "ROMEO:\n",
                     "--max-new-tokens", "60", "--temperature", "0", "--json", NULL);
        test_run_start(jobs[i]);
    }
    char *hashes[2];
    for (int i = 0; i < 2; i++) {
        test_run_wait(jobs[i]);
        if (jobs[i]->exit_code != 0)
            fail_msg("job %d ended with %d\n%s", i, jobs[i]->exit_code, jobs[i]->err);
        cJSON *json = cJSON_Parse(jobs[i]->out);
        hashes[i] = strdup(hash_of(json));
        cJSON_Delete(json);
        test_run_close(jobs[i]);
    }
    assert_string_equal(hashes[0], hashes[1]);
    free(hashes[0]);
    free(hashes[1]);
}

/* A plan that was saved is a device map; a rank left out holds nothing and is reported idle. */
static void test_saved_plan_and_idle(void **state) {
    (void)state;
    char path[4200];
    snprintf(path, sizeof path, "%s/plan.json", test_temp_dir());
    const char *plan[] = {"plan",         "--model", model(),  "--gpus", "1GiB,2GiB,1GiB",
                          "--device-map", "3,4,1",   "--save", path,     NULL};
    test_run *run = test_run_open(20.0);
    test_run_add(run, CDPIPE_BIN, NULL);
    for (int i = 0; plan[i] != NULL; i++)
        test_run_add(run, plan[i], NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    test_run_close(run);

    const char *words[] = {"--model", model(),        "--prompt", "A", "--max-new-tokens",
                           "4",       "--device-map", path,       NULL};
    cJSON *json = golden_run(3, words);
    const cJSON *stages = golden_get(golden_get(json, "plan"), "stages");
    assert_int_equal(golden_get(cJSON_GetArrayItem(stages, 1), "first_layer")->valueint, 3);
    assert_int_equal(golden_get(cJSON_GetArrayItem(stages, 1), "end_layer")->valueint, 7);
    cJSON_Delete(json);

    const char *idle[] = {"--model", model(),        "--prompt", "A", "--max-new-tokens",
                          "4",       "--device-map", "4,0,4",    NULL};
    json = golden_run(3, idle);
    const cJSON *middle = cJSON_GetArrayItem(golden_get(golden_get(json, "plan"), "stages"), 1);
    assert_true(cJSON_IsTrue(golden_get(middle, "idle")));
    assert_true(golden_get(middle, "total_bytes")->valuedouble == 0);
    assert_true(golden_get(middle, "first_layer")->valuedouble ==
                golden_get(middle, "end_layer")->valuedouble);
    cJSON_Delete(json);
}

/* Whoever starts several processes, mpirun or srun with pmix, a command that needs no world answers once. */
static void test_one_answer(void **state) {
    (void)state;
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"};
    for (int i = 0; i < 4; i++) {
        char variable[64];
        const int rank = i / 2;
        snprintf(variable, sizeof variable, "%s=%d", names[i % 2], rank);
        test_run *run = test_run_open(20.0);
        test_run_add(run, CDPIPE_BIN, "plan", "--model", model(), "--gpus", "1GiB", "--json", NULL);
        test_run_env(run, variable);
        test_run_go(run);
        assert_int_equal(run->exit_code, 0);
        if ((run->out[0] == '{') != (rank == 0) || (rank == 1 && run->err[0] != '\0'))
            fail_msg("%s: \"%.100s\", \"%.100s\"", variable, run->out, run->err);
        test_run_close(run);
    }
}

/* score: log probabilities of the embedded text, their sum, and the same at np 2. */
static void test_score(void **state) {
    (void)state;
    const char *words[] = {"score",   "--model", model(), "--prompt", "To be, or not to be",
                           "--dtype", "fp32",    NULL};
    cJSON *one = golden_run(1, words), *two = golden_run(2, words);
    const cJSON *logprobs = golden_get(one, "logprobs");
    assert_true(cJSON_IsNull(cJSON_GetArrayItem(logprobs, 0)));
    double sum = 0;
    for (int i = 1; i < cJSON_GetArraySize(logprobs); i++)
        sum += cJSON_GetArrayItem(logprobs, i)->valuedouble;
    assert_true(sum - golden_get(one, "sum")->valuedouble < 1e-6 &&
                golden_get(one, "sum")->valuedouble - sum < 1e-6);
    assert_string_equal(hash_of(one), hash_of(two));
    cJSON_Delete(two);
    cJSON_Delete(one);
}

/* Every tier of this processor gives nearly the same numbers, and its own bits at any split. */
static void test_tiers(void **state) {
    (void)state;
    double sums[CDP_N_TIERS] = {0};
    for (int i = 0; i <= (int)cdp_cpu_best_tier(); i++) {
        const char *name = cdp_cpu_tier_name((cdp_cpu_tier)i);
        const char *words[] = {
            "score",      "--model", model(), "--prompt", "Now is the winter of our discontent",
            "--cpu-tier", name,      NULL};
        cJSON *one = golden_run(1, words), *two = golden_run(2, words);
        sums[i] = golden_get(one, "sum")->valuedouble;
        assert_string_equal(hash_of(one), hash_of(two));
        assert_true(sums[i] - sums[0] < 0.5 && sums[0] - sums[i] < 0.5 && sums[i] < -5);
        cJSON_Delete(two);
        cJSON_Delete(one);
    }
}

/* A rate stands beside its share of what all ranks reach together. */
static void check_share(const cJSON *json, const cJSON *result, const char *rate, const char *ceiling,
                        const char *share, int np) {
    const double expected =
        golden_get(result, rate)->valuedouble / (np * golden_get(json, ceiling)->valuedouble);
    assert_true(expected > 0);
    assert_true(fabs(golden_get(result, share)->valuedouble - expected) <= 1e-4);
}

/* Bytes of one run, by its rate. */
static double bytes_of(const cJSON *result) {
    const double n_tokens =
        golden_get(result, "tokens")->valuedouble * golden_get(result, "batch")->valuedouble;
    return golden_get(result, "bytes_per_s")->valuedouble * n_tokens /
           golden_get(golden_get(result, "tokens_per_s"), "median")->valuedouble;
}

/* Behind 40 tokens, in chunks that end at different moments: three sequences decode in the same four steps as
 * one, so that all they read more is their own keys and values. */
static void test_depth(void **state) {
    (void)state;
    const char *words[] = {"bench", "--model", model(), "--pp",     "0", "--tg",    "4",  "--depth",
                           "40",    "--batch", "1,3",   "--repeat", "1", "--chunk", "13", NULL};
    cJSON *json = golden_run(1, words);
    const cJSON *one = cJSON_GetArrayItem(golden_get(json, "results"), 0);
    const cJSON *three = cJSON_GetArrayItem(golden_get(json, "results"), 1);
    const double token =
        golden_get(golden_get(golden_get(json, "plan"), "kv"), "bytes_per_token")->valuedouble;
    const double more = bytes_of(three) - bytes_of(one), expected = 2 * token * (41 + 42 + 43 + 44);
    assert_int_equal(golden_get(one, "depth")->valueint, 40);
    if (fabs(more - expected) > 1e-2 * expected)
        fail_msg("two sequences more read %.0f bytes more, expected %.0f", more, expected);
    cJSON_Delete(json);
}

/* bench measures what was asked, each stage's shares add up to 1, and the ceilings are there. */
static void test_bench(void **state) {
    (void)state;
    const char *words[] = {"bench", "--model", model(),   "--pp", "24",       "--tg", "6",
                           "--pg",  "20,4",    "--batch", "1,3",  "--repeat", "2",    NULL};
    for (int np = 1; np <= 3; np++) {
        cJSON *json = golden_run(np, words);
        const cJSON *result, *stage;
        assert_int_equal(cJSON_GetArraySize(golden_get(json, "results")), 6);
        cJSON_ArrayForEach(result, golden_get(json, "results")) {
            const cJSON *rate = golden_get(result, "tokens_per_s");
            assert_true(golden_get(rate, "min")->valuedouble > 0);
            assert_true(golden_get(rate, "min")->valuedouble <= golden_get(rate, "median")->valuedouble);
            assert_true(golden_get(rate, "median")->valuedouble <= golden_get(rate, "max")->valuedouble);
            check_share(json, result, "bytes_per_s", "bandwidth_bytes_per_s", "bandwidth_share", np);
            check_share(json, result, "flop_per_s", "peak_flop_per_s", "peak_share", np);
            assert_int_equal(cJSON_GetArraySize(golden_get(result, "stages")), np);
            cJSON_ArrayForEach(stage, golden_get(result, "stages")) {
                const double sum = golden_get(stage, "busy")->valuedouble +
                                   golden_get(stage, "wait")->valuedouble +
                                   golden_get(stage, "send")->valuedouble;
                assert_true(sum > 0.99 && sum < 1.01);
                assert_true(golden_get(stage, "busy")->valuedouble > 0);
            }
        }
        const cJSON *mixed = cJSON_GetArrayItem(golden_get(json, "results"), 2);
        assert_string_equal(golden_get(mixed, "test")->valuestring, "pg");
        assert_int_equal(golden_get(mixed, "tokens")->valueint, 24);
        assert_int_equal(golden_get(mixed, "prompt_tokens")->valueint, 20);
        assert_int_equal(golden_get(json, "ranks")->valueint, np);
#if !defined(__SANITIZE_ADDRESS__) /* the ceilings were measured with 128 MiB that are in no plan */
        const cJSON *report;
        cJSON_ArrayForEach(report, golden_get(json, "rank_reports"))
            assert_true(golden_get(report, "peak_bytes")->valuedouble <=
                        golden_get(report, "planned_bytes")->valuedouble);
#endif
        assert_int_equal(cJSON_GetArraySize(golden_get(json, "rank_reports")), np);
        assert_true(golden_get(json, "threads")->valueint >= 1);
        assert_true(golden_get(json, "bandwidth_bytes_per_s")->valuedouble > 1e8);
        assert_true(golden_get(json, "peak_flop_per_s")->valuedouble > 1e8);
        cJSON_Delete(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_json_fields),
        cmocka_unit_test(test_seeds),      cmocka_unit_test(test_stop),
        cmocka_unit_test(test_streaming),  cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_two_jobs),   cmocka_unit_test(test_saved_plan_and_idle),
        cmocka_unit_test(test_score),      cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_bench),      cmocka_unit_test(test_depth),
        cmocka_unit_test(test_one_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
