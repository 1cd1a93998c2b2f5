/* The program at --device cuda, on fake GPUs of unequal size, as people and scripts use it: any np, the plan
 * that was foretold, memory as planned, machines without a driver. What may go wrong while it runs:
 * tests/faults/table.h and test_standin_road.c.
 *
 * What it catches: bits that depend on where the layers are cut, a plan that differs from `plan --gpus`,
 * memory nobody planned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/golden.h"

#define UNEQUAL "STANDIN_GPUS=3G,2G/1G,2G"

/* A run of a small model on np ranks; more words may follow. */
static test_run *make_run(int np, const char *gpus) {
    test_run *run = test_run_open(90.0);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_STANDIN_BIN, "--model", test_path("tests/golden/models/llama"), "--device",
                 "cuda", "--prompt-ids", "5,9,31,7,22,3", "--temperature", "0", "--max-new-tokens", "6",
                 "--ignore-eos", "--json", NULL);
    test_run_env(run, gpus);
    return run;
}

static cJSON *result_of(test_run *run) {
    cJSON *json = run->exit_code == 0 ? cJSON_Parse(run->out) : NULL;
    if (json == NULL)
        fail_msg("exit %d, stdout \"%.200s\", stderr:\n%.3000s", run->exit_code, run->out, run->err);
    return json;
}

static const char *text_of(const cJSON *json, const char *key) {
    return golden_get(json, key)->valuestring;
}

static double number_of(const cJSON *json, const char *key) {
    return golden_get(json, key)->valuedouble;
}

/* Every rank took exactly its slab and used all of it, and never more than the plan. */
static void check_memory(const cJSON *reports) {
    const cJSON *rank;
    assert_true(cJSON_GetArraySize(reports) > 0);
    cJSON_ArrayForEach(rank, reports) {
        assert_true(number_of(rank, "slab_bytes") > 0);
        assert_true(number_of(rank, "slab_used_bytes") == number_of(rank, "slab_bytes"));
        assert_true(number_of(rank, "peak_bytes") <= number_of(rank, "planned_bytes"));
    }
}

static void test_any_np(void **state) {
    (void)state;
    static const struct {
        int np;
        const char *road, *order;
    } ways[] = {{1, "auto", "ascending"},
                {2, "nccl", "descending"},
                {3, "nccl", "shuffled:5"},
                {3, "mpi", "ascending"}};
    enum { N = sizeof ways / sizeof ways[0] };
    static const char *const dtypes[] = {"bf16", "fp32"};
    for (int d = 0; d < 2; d++) {
        char hash[32] = "";
        for (int i = 0; i < N; i++) {
            char order[64];
            snprintf(order, sizeof order, "STANDIN_ORDER=%s", ways[i].order);
            test_run *run = make_run(ways[i].np, UNEQUAL);
            test_run_add(run, "--road", ways[i].road, "--dtype", dtypes[d], NULL);
            test_run_env(run, order);
            test_run_go(run);
            cJSON *json = result_of(run);
            check_memory(golden_get(json, "ranks"));
            if (i == 0)
                snprintf(hash, sizeof hash, "%s", text_of(json, "logits_hash"));
            if (strcmp(hash, text_of(json, "logits_hash")) != 0)
                fail_msg("%s, np %d, road %s: logits %s, np 1 has %s", dtypes[d], ways[i].np, ways[i].road,
                         text_of(json, "logits_hash"), hash);
            cJSON_Delete(json);
            assert_int_equal(test_run_left(run), 0);
            test_run_close(run);
        }
    }
}

/* Layers that are looked at: taps in the slab, rows for a head without its norm and scale, hidden rows at
 * home; the choices are those of the CPU, at any np. */
static void test_taps(void **state) {
    (void)state;
    static const char *const ways[][9] = {
        {"tests/golden/models/granite", "--decoding", "dola", "--dola-layers", "0,1,2,3", "--dola-js", "hf",
         "--dola-norm", "off"},
        {"tests/golden/models/llama", "--decoding", "conservative-dynamic", "--cd-method", "consistency",
         "--cd-decay", "0.8", "--cd-consistency", "0.4"}};
    for (int way = 0; way < 2; way++) {
        cJSON *json[3]; /* the CPU, one GPU, three */
        for (int i = 0; i < 3; i++) {
            test_run *run = test_run_open(90.0);
            if (i == 2)
                test_run_mpirun(run, 3);
            test_run_add(run, CDPIPE_STANDIN_BIN, "--device", i == 0 ? "cpu" : "cuda", "--dtype", "fp32",
                         "--prompt-ids", "5,9,31,7,22,3", "--temperature", "0", "--max-new-tokens", "6",
                         "--ignore-eos", "--json", "--model", test_path(ways[way][0]), NULL);
            for (int k = 1; k < 9; k++)
                test_run_add(run, ways[way][k], NULL);
            test_run_env(run, UNEQUAL);
            test_run_go(run);
            json[i] = result_of(run);
            if (i > 0)
                check_memory(golden_get(json[i], "ranks"));
            for (int k = 0; k < 2; k++) {
                const char *const key = k == 0 ? "selected_layers" : "token_ids";
                if (!cJSON_Compare(golden_get(json[0], key), golden_get(json[i], key), true))
                    fail_msg("%s, run %d: other %s than on the CPU", ways[way][2], i, key);
            }
            test_run_close(run);
        }
        assert_string_equal(text_of(json[1], "logits_hash"), text_of(json[2], "logits_hash"));
        for (int i = 0; i < 3; i++)
            cJSON_Delete(json[i]);
    }
}

/* bench takes the ceilings of a GPU in memory beside the slab, on a small one, too. */
static void test_bench(void **state) {
    (void)state;
    test_run *run = test_run_open(90.0);
    test_run_add(run, CDPIPE_STANDIN_BIN, "bench", "--model", test_path("tests/golden/models/llama"),
                 "--device", "cuda", "--pp", "4", "--tg", "2", "--batch", "1", "--repeat", "1", "--json",
                 NULL);
    test_run_env(run, "STANDIN_GPUS=1G");
    test_run_go(run);
    cJSON *json = result_of(run);
    assert_true(number_of(json, "bandwidth_bytes_per_s") > 0);
    assert_true(number_of(json, "peak_flop_per_s") > 0);
    check_memory(golden_get(json, "rank_reports"));
    cJSON_Delete(json);
    test_run_close(run);
}

/* The plan of a run on GPUs is the one that `plan --gpus` foretells from their free memory. */
static void test_same_plan(void **state) {
    (void)state;
    test_run *foretell = test_run_open(30);
    test_run_add(foretell, CDPIPE_STANDIN_BIN, "plan", "--model", test_path("tests/golden/models/llama"),
                 "--gpus", "3GiB,1GiB,2GiB", "--ctx", "12", "--json", NULL);
    test_run_env(foretell, "STANDIN_GPUS=none");
    test_run_go(foretell);
    cJSON *plan = result_of(foretell);
    test_run *run = make_run(3, UNEQUAL);
    test_run_go(run);
    cJSON *json = result_of(run);
    const cJSON *want = golden_get(plan, "stages"), *got = golden_get(golden_get(json, "plan"), "stages");
    assert_int_equal(cJSON_GetArraySize(got), 3);
    static const char *const keys[] = {"first_layer",   "end_layer",     "free_bytes",
                                       "budget_bytes",  "weights_bytes", "kv_bytes",
                                       "scratch_bytes", "context_bytes", "total_bytes"};
    for (int i = 0; i < 3; i++)
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            const double w = number_of(cJSON_GetArrayItem(want, i), keys[k]),
                         g = number_of(cJSON_GetArrayItem(got, i), keys[k]);
            if (g != w)
                fail_msg("rank %d: %s is %.0f, plan --gpus says %.0f", i, keys[k], g, w);
        }
    cJSON_Delete(json);
    cJSON_Delete(plan);
    test_run_close(run);
    test_run_close(foretell);
}

/* One command and what it must say; NULL words end the list. */
static void expect(const char *const *words, const char *env, int code, const char *says) {
    test_run *run = test_run_open(30);
    test_run_add(run, CDPIPE_STANDIN_BIN, NULL);
    for (; *words != NULL; words++)
        test_run_add(run, *words, NULL);
    test_run_env(run, env);
    test_run_go(run);
    if (run->exit_code != code || (strstr(run->err, says) == NULL && strstr(run->out, says) == NULL))
        fail_msg("%s: exit %d, expected %d and \"%s\"\n%s%s", env, run->exit_code, code, says, run->out,
                 run->err);
    test_run_close(run);
}

static void test_no_driver(void **state) {
    (void)state;
    const char *const model = test_path("tests/golden/models/llama");
    expect((const char *[]){"--device", "cuda", "--model", model, "--prompt-ids", "1", NULL},
           "STANDIN_GPUS=none", 69, "driver");
    expect((const char *[]){"--device", "cpu", "--model", model, "--prompt-ids", "1", "--max-new-tokens", "1",
                            NULL},
           "STANDIN_GPUS=none", 0, "cpu");
    expect((const char *[]){"devices", NULL}, "STANDIN_GPUS=none", 0, "driver");
    expect((const char *[]){"devices", NULL}, UNEQUAL, 0, "GPU-5354414e-4449-4e00-0000-000000000002");
}

/* A GPU that has too little: known before anything is loaded. */
static void test_too_small(void **state) {
    (void)state;
    expect((const char *[]){"--device", "cuda", "--model", test_path("tests/golden/models/llama"),
                            "--prompt-ids", "1", NULL},
           "STANDIN_GPUS=2G/600M", 69, "budget");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_np),    cmocka_unit_test(test_taps),      cmocka_unit_test(test_bench),
        cmocka_unit_test(test_same_plan), cmocka_unit_test(test_no_driver), cmocka_unit_test(test_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
