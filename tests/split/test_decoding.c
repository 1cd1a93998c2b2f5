/* Decoding that looks at layers, over the ring: Conservative Dynamic in all its variants, full and lazy, and
 * DoLa in both forms, against exact arithmetic (tests/golden/decoding), all sequences of a model at once with
 * plain ones between them, on one rank, two and three.
 *
 * What it catches: a layer counted from the wrong end, a tapped row of another sequence, the final norm left
 * out or applied to DoLa's bare rows, a scale on rows that have none, K = 0 or p = 0 that is not plain
 * decoding bit for bit, a lazy walk that sees something else than the full one.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/golden.h"

/* A number over all logits that tokens were drawn from. */
static unsigned long long play(int np, const char *name, const char *map, const char *chunk) {
    char folder[512], model[512];
    int n_sequences = 0, n_compared = 0, n_skipped = 0;
    unsigned long long saw = 0;
    test_run *run = test_run_open(120.0);
    snprintf(folder, sizeof folder, "tests/golden/decoding/%s", name);
    snprintf(model, sizeof model, strcmp(name, "shakespeare") == 0 ? "examples/%s" : "tests/golden/models/%s",
             name);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_TEST_BIN_DIR "/split_rank_decoding", test_path(folder), "--model",
                 test_path(model), "--device", "cpu", "--threads", "1", "--dtype", "fp32", "--device-map",
                 map, "--chunk", chunk, "--quiet", NULL);
    test_run_go(run);
    if (run->exit_code != 0 ||
        sscanf(run->out, "ok, %*d ranks, %d sequences, %d tokens compared, %d not, saw %llx", &n_sequences,
               &n_compared, &n_skipped, &saw) != 4)
        fail_msg("%s, np %d: exit %d, %s%s", name, np, run->exit_code, run->out, run->err);
    print_message("    %s: %s", name, run->out);
    assert_int_equal(n_sequences, 177);
    assert_true(n_compared > 1750); /* the rest comes too near to another choice */
    test_run_close(run);
    return saw;
}

static void test_any_number_of_ranks(void **state) {
    (void)state;
    const unsigned long long saw = play(1, "llama", "5", "64");
    assert_true(play(2, "llama", "0,5", "5") == saw);
    assert_true(play(3, "llama", "2,2,1", "16") == saw);
}

/* A tied head, q/k norms, a logit scale; and a model that was trained. */
static void test_families(void **state) {
    (void)state;
    play(1, "llama-tied-rope3", "auto", "64");
    play(2, "qwen3", "auto", "64");
    play(3, "granite", "auto", "64");
    play(2, "shakespeare", "auto", "64");
}

/* What a script reads: the fields people know, one row a token, one value a layer, and null where a lazy walk
 * did not look; the choice is the walk's over the entropies beside it. */
static void test_fields(void **state) {
    (void)state;
    for (int is_lazy = 0; is_lazy < 2; is_lazy++) {
        const char *words[] = {"--model",
                               test_path("examples/shakespeare"),
                               "--prompt",
                               "JULIET:\n",
                               "--max-new-tokens",
                               "12",
                               "--temperature",
                               "0",
                               "--decoding",
                               "conservative-dynamic",
                               "--tap-window",
                               "5",
                               is_lazy ? "--cd-lazy" : "--echo",
                               NULL};
        cJSON *json = golden_run(is_lazy + 2, words);
        const cJSON *selected = golden_get(json, "selected_layers"),
                    *rows = golden_get(json, "layer_entropies");
        const int n = cJSON_GetArraySize(golden_get(json, "generated_token_ids"));
        assert_string_equal(golden_get(json, "generated_text")->valuestring,
                            golden_get(json, "text")->valuestring);
        assert_true(
            cJSON_Compare(golden_get(json, "generated_token_ids"), golden_get(json, "token_ids"), true));
        assert_int_equal(cJSON_GetArraySize(selected), n);
        assert_int_equal(golden_get(golden_get(json, "plan"), "taps")->valueint, 5);
        assert_int_equal(cJSON_GetArraySize(golden_get(json, "generated_tokens")), n);
        for (int t = 0; t < n; t++) {
            const cJSON *texts = cJSON_GetArrayItem(golden_get(json, "all_layer_tokens"), t);
            const cJSON *row = cJSON_GetArrayItem(rows, t);
            const int layer = cJSON_GetArrayItem(selected, t)->valueint;
            assert_int_equal(cJSON_GetArraySize(row), 8);
            assert_in_range(layer, 2, 7);
            for (int i = layer; i < 7; i++) /* surer and surer from the top down to it */
                assert_true(cJSON_GetArrayItem(row, i)->valuedouble <
                            cJSON_GetArrayItem(row, i + 1)->valuedouble);
            if (layer > 2)
                assert_true(cJSON_GetArrayItem(row, layer - 1)->valuedouble >=
                            cJSON_GetArrayItem(row, layer)->valuedouble);
            for (int i = 0; i < 8; i++)
                assert_int_equal(cJSON_IsNull(cJSON_GetArrayItem(row, i)),
                                 i < (is_lazy && layer > 2 ? layer - 1 : 2));
            const cJSON *tokens = cJSON_GetArrayItem(golden_get(json, "all_layer_token_ids"), t);
            assert_int_equal(cJSON_GetArrayItem(tokens, layer)->valueint,
                             cJSON_GetArrayItem(golden_get(json, "token_ids"), t)->valueint);
            assert_string_equal(cJSON_GetArrayItem(texts, layer)->valuestring, /* greedy: it is the token */
                                cJSON_GetArrayItem(golden_get(json, "generated_tokens"), t)->valuestring);
        }
        cJSON_Delete(json);
    }
}

/* The entropies of few tokens: other numbers, another walk, told in the fields; the same on any number of
 * ranks. */
static void test_entropy_top_k(void **state) {
    (void)state;
    const char *words[] = {"--model",
                           test_path("examples/shakespeare"),
                           "--prompt",
                           "JULIET:\n",
                           "--max-new-tokens",
                           "16",
                           "--temperature",
                           "0",
                           "--decoding",
                           "conservative-dynamic",
                           "--cd-entropy-top-k",
                           "2",
                           NULL};
    cJSON *one = golden_run(1, words), *three = golden_run(3, words);
    words[11] = "0";
    cJSON *all = golden_run(2, words);
    assert_int_equal(golden_get(one, "entropy_top_k")->valueint, 2);
    assert_null(cJSON_GetObjectItemCaseSensitive(all, "entropy_top_k"));
    assert_true(
        cJSON_Compare(golden_get(one, "layer_entropies"), golden_get(three, "layer_entropies"), true));
    assert_true(
        cJSON_Compare(golden_get(one, "selected_layers"), golden_get(three, "selected_layers"), true));
    assert_string_equal(golden_get(one, "logits_hash")->valuestring,
                        golden_get(three, "logits_hash")->valuestring);
    assert_false(cJSON_Compare(golden_get(one, "selected_layers"), golden_get(all, "selected_layers"), true));
    const cJSON *row, *nats;
    int t = 0;
    cJSON_ArrayForEach(row, golden_get(one, "layer_entropies")) {
        const int layer = cJSON_GetArrayItem(golden_get(one, "selected_layers"), t++)->valueint;
        cJSON_ArrayForEach(nats, row) assert_true(nats->valuedouble >= 0 && nats->valuedouble <= 0.693148);
        for (int i = layer; i < 7; i++)
            assert_true(cJSON_GetArrayItem(row, i)->valuedouble <
                        cJSON_GetArrayItem(row, i + 1)->valuedouble);
    }
    assert_int_equal(t, 16);
    cJSON_Delete(all);
    cJSON_Delete(three);
    cJSON_Delete(one);
}

/* The score of a layer by the fields. */
static double score_of(const cJSON *json, int t, int layer, double weight, int vocab) {
    const cJSON *nats = cJSON_GetArrayItem(golden_get(json, "layer_entropies"), t),
                *cosines = cJSON_GetArrayItem(golden_get(json, "layer_cosines"), t);
    return weight * cJSON_GetArrayItem(cosines, layer)->valuedouble -
           (1 - weight) * cJSON_GetArrayItem(nats, layer)->valuedouble / log(vocab);
}

/* Hidden rows in bf16: the choice is the best by the fields beside it, and the same on any number of ranks.
 */
static void test_consistency(void **state) {
    (void)state;
    static const char *const decays[] = {"0", "0.75"};
    for (int i = 0; i < 2; i++) {
        const char *words[] = {"--model",
                               test_path("examples/shakespeare"),
                               "--prompt",
                               "JULIET:\n",
                               "--max-new-tokens",
                               "12",
                               "--temperature",
                               "0",
                               "--dtype",
                               "bf16",
                               "--tap-window",
                               "6",
                               "--decoding",
                               "conservative-dynamic",
                               "--cd-method",
                               "consistency",
                               "--cd-consistency",
                               "0.4",
                               "--cd-decay",
                               decays[i],
                               NULL};
        cJSON *json = golden_run(1, words);
        const cJSON *selected = golden_get(json, "selected_layers");
        int n_left = 0;
        for (int t = 0; t < cJSON_GetArraySize(selected); t++) {
            const int layer = cJSON_GetArrayItem(selected, t)->valueint;
            n_left += layer < 7;
            for (int other = 1; other < 8; other++)
                assert_true(score_of(json, t, other, 0.4, 2048) < score_of(json, t, layer, 0.4, 2048) + 1e-6);
            const cJSON *cosines = cJSON_GetArrayItem(golden_get(json, "layer_cosines"), t);
            assert_true(cJSON_IsNull(cJSON_GetArrayItem(cosines, 0))); /* below the window */
            assert_true(i > 0 || cJSON_GetArrayItem(cosines, 7)->valuedouble == 1);
        }
        assert_true(n_left > 0);
        for (int np = 2; np <= 3; np++) {
            cJSON *more = golden_run(np, words);
            static const char *const same[] = {"selected_layers", "layer_entropies", "layer_cosines",
                                               "token_ids", "logits_hash"};
            for (size_t k = 0; k < sizeof same / sizeof same[0]; k++)
                assert_true(cJSON_Compare(golden_get(json, same[k]), golden_get(more, same[k]), true));
            cJSON_Delete(more);
        }
        cJSON_Delete(json);
    }
}

/* A line a token on stderr, and the text alone on stdout. */
static void test_verbose(void **state) {
    (void)state;
    test_run *run = test_run_open(30.0);
    test_run_add(run, CDPIPE_BIN, "--np", "2", "--device", "cpu", "--model",
                 test_path("examples/shakespeare"), "--prompt", "ROMEO:\n", "--max-new-tokens", "3",
                 "--temperature", "0", "--dtype", "fp32", "--decoding", "dola", "--repetition-penalty", "1.2",
                 "--verbose", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    assert_non_null(
        strstr(run->err, "# decoding: dola, 1 early layer, relative_top 0.1, js true, with norm"));
    assert_non_null(strstr(run->err, "# token 3: against state "));
    assert_null(strstr(run->err, "repeats itself"));
    assert_non_null(strstr(run->err, "# layers: 3 tokens against state "));
    assert_null(strchr(run->out, '#'));
    test_run_close(run);
}

static void refuse(const char *option, const char *value, const char *message) {
    test_run *run = test_run_open(30.0);
    test_run_add(run, CDPIPE_BIN, "--device", "cpu", "--model",
                 test_path("tests/golden/models/llama-tied-rope3"), "--prompt-ids", "5,6", "--decoding",
                 option[2] == 'd' ? "dola" : "conservative-dynamic", option, value,
                 strstr(message, "looks at all layers") != NULL ? "--cd-lazy" : NULL, NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 64);
    if (strstr(run->err, message) == NULL)
        fail_msg("%s %s: %s", option, value, run->err);
    test_run_close(run);
}

static void test_refusals(void **state) {
    (void)state;
    refuse("--dola-layers", "77", "leaves no layer to compare with");
    refuse("--dola-layers", "mid", "expected low, high or a list");
    refuse("--tap-window", "some", "expected all or 0 to");
    refuse("--cd-entropy-top-k", "1", "expected 0 (all tokens) or at least 2");
    refuse("--cd-method", "trough-m9", "trough-m2");
    refuse("--cd-method", "consistency", "--cd-method consistency looks at all layers");
    refuse("--cd-consistency", "1.5", "from 0 to 1");
    refuse("--cd-decay", "-0.1", "from 0 to 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_ranks),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_entropy_top_k),
        cmocka_unit_test(test_consistency),
        cmocka_unit_test(test_verbose),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("decoding", tests, NULL, NULL);
}
