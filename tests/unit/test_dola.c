/* DoLa's candidates, divergence and scores, without a model, against exact numbers (tests/golden/decoding).
 *
 * What it catches: transformers' divergence under the true one's name, candidates of another bucket, a token
 * kept that the final layer rules out.
 */
#include "launcher/sample/decoding.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/engine/schedule.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

#define DATA(name) test_path("tests/golden/decoding/" name)

static void check_candidates(const cJSON *line, int number, void *of) {
    char word[256] = "";
    (void)of;
    const cJSON *layers = golden_get(line, "layers"), *item;
    if (cJSON_IsString(layers))
        snprintf(word, sizeof word, "%s", layers->valuestring);
    cJSON_ArrayForEach(item, layers)
        snprintf(word + strlen(word), sizeof word - strlen(word), "%s%d", *word ? "," : "", item->valueint);
    cdp_tap_set got, want = {0};
    const cdp_status st =
        cdp_dola_candidates(&got, *word ? word : "999", golden_get(line, "n_layers")->valueint,
                            cJSON_IsTrue(golden_get(line, "tied")));
    cJSON_ArrayForEach(item, golden_get(line, "candidates")) cdp_taps_add(&want, item->valueint);
    if (memcmp(&got, &want, sizeof got) != 0)
        fail_msg("line %d: other candidates for %s", number, word);
    assert_int_equal(st, cdp_taps_count(&want, 0, CDP_MAX_STATES) > 0 ? CDP_OK : CDP_USAGE);
    cdp_error_clear();
}

static void test_candidates(void **state) {
    (void)state;
    cdp_tap_set set;
    assert_true(golden_lines(DATA("dola_layers.jsonl"), check_candidates, NULL) == 150);
    static const char *const wrong[] = {"", "lows", "1,", ",1", "1,,2", "-1", "1 ,2", "1;2", "0x2", "+1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(cdp_dola_candidates(&set, wrong[i], 30, false), CDP_USAGE);
        cdp_error_clear();
    }
    assert_int_equal(cdp_dola_candidates(&set, "low", 3, true), CDP_USAGE); /* crashes elsewhere */
    assert_non_null(strstr(cdp_error_message(), "3 layers with a tied head"));
    cdp_error_clear();
}

/* A choice that is fed a golden step, rows from the last state down. */
static void check_step(const cJSON *line, int number, void *of) {
    int n, ask = CDP_ASK_NOTHING;
    (void)of;
    const cJSON *early = golden_get(line, "early"), *js = golden_get(line, "js");
    const int n_layers = cJSON_GetArraySize(early);
    float *final = golden_floats(golden_get(line, "final"), &n);
    cdp_decoding decoding = {
        .kind = CDP_DECODING_DOLA,
        .n_layers = n_layers,
        .vocab = n,
        .n_taps = n_layers,
        .js = strcmp(golden_get(line, "js_form")->valuestring, "hf") == 0 ? CDP_DOLA_JS_HF : CDP_DOLA_JS_TRUE,
        .relative_top = golden_get(line, "relative_top")->valuedouble};
    cdp_choice *choice;
    assert_int_equal(cdp_choice_open(&choice, &decoding, 0, "", 1, true), CDP_OK);
    cdp_choice_state(choice, 1, n_layers, final, NULL, &ask);
    for (int state = n_layers - 1; state >= 0; state--) {
        int width;
        float *row = golden_floats(cJSON_GetArrayItem(early, state), &width);
        assert_int_equal(width, n);
        if (cJSON_GetArraySize(js) > 0) {
            const double got = cdp_dola_divergence(final, row, n, decoding.js),
                         want = cJSON_GetArrayItem(js, state)->valuedouble;
            if (!(fabs(got - want) <= 1e-9 * (1 + want)))
                fail_msg("line %d: divergence of %d is %.12g, expected %.12g", number, state, got, want);
        }
        cdp_choice_state(choice, 1, state, row, NULL, &ask);
        free(row);
    }
    assert_int_equal(ask, CDP_ASK_NOTHING);
    const float *scores = cdp_choice_row(choice);
    assert_int_equal(cdp_choice_log(choice)->selected[0], golden_get(line, "layer")->valueint);
    int best = 0, n_kept = 0;
    for (int v = 0; v < n; v++) {
        best = scores[v] > scores[best] ? v : best;
        if (isinf(scores[v]))
            continue;
        assert_int_equal(v, cJSON_GetArrayItem(golden_get(line, "kept"), n_kept)->valueint);
        const double want = cJSON_GetArrayItem(golden_get(line, "scores"), n_kept++)->valuedouble;
        assert_true(fabs((double)scores[v] - want) < 1e-5 * (1 + fabs(want)));
    }
    assert_int_equal(n_kept, cJSON_GetArraySize(golden_get(line, "kept")));
    assert_int_equal(best, golden_get(line, "token")->valueint);
    cdp_choice_close(choice);
    free(final);
}

static void test_dola_steps(void **state) {
    (void)state;
    assert_true(golden_lines(DATA("dola_step.jsonl"), check_step, NULL) == 42);
}

/* Of candidates that differ equally much the lowest is taken, though it comes last. */
static void test_equal_candidates(void **state) {
    (void)state;
    static const float final[3] = {2, 0, 1}, early[3] = {0, 1, 0};
    const cdp_decoding decoding = {
        .kind = CDP_DECODING_DOLA, .n_layers = 6, .vocab = 3, .n_taps = 3, .relative_top = 0.1};
    cdp_choice *choice;
    int ask = CDP_ASK_NOTHING;
    assert_int_equal(cdp_choice_open(&choice, &decoding, 0, "", 1, false), CDP_OK);
    cdp_choice_state(choice, 1, 6, final, NULL, &ask);
    for (int state_number = 5; state_number > 0; state_number -= 2)
        cdp_choice_state(choice, 1, state_number, early, NULL, &ask);
    cdp_choice_row(choice);
    assert_int_equal(cdp_choice_log(choice)->selected[0], 1);
    cdp_choice_close(choice);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_dola_steps),
        cmocka_unit_test(test_equal_candidates),
    };
    return cmocka_run_group_tests_name("dola", tests, NULL, NULL);
}
