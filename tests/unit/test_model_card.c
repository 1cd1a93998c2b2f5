/* config.json of each family, by the traps that give wrong output without a word: windows, layers without
 * rope, scales, head_dim, norms, ties; the rope formulas against published numbers; other families refused by
 * name.
 */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/families.h"
#include "planner/json.h"
#include "planner/model_card.h"
#include "planner/roles.h"
#include "planner/rope.h"
#include "tests/support/data.h"

static cdp_model_card card; /* too large for a stack */

static void read_golden(const char *name) {
    char path[512];
    cdp_tensor_index *index = NULL;
    snprintf(path, sizeof path, "tests/golden/models/%s", name);
    cdp_error_clear();
    if (cdp_model_card_read(&card, test_path(path)) != CDP_OK ||
        cdp_tensor_index_open(&index, test_path(path)) != CDP_OK ||
        cdp_model_card_settle(&card, index) != CDP_OK)
        fail_msg("%s: %s", name, cdp_error_message());
    cdp_tensor_index_close(index);
}

static void test_families(void **state) {
    (void)state;
    read_golden("llama");
    assert_false(card.is_tied);
    assert_int_equal(card.n_eos, 1);
    assert_int_equal(card.layers[3].window, 0);
    assert_true(fabs(card.attn_scale - 0.25) < 1e-12);
    read_golden("llama-tied-rope3");
    assert_true(card.is_tied);
    assert_string_equal(card.rope.type, "llama3");
    read_golden("llama-bias-mha");
    assert_true(card.qkv_bias && card.attn_out_bias && card.mlp_bias);
    assert_int_equal(card.head_dim, 24);
    read_golden("mistral");
    assert_int_equal(card.layers[0].window, 16);
    assert_int_equal(card.layers[4].window, 16);
    read_golden("qwen2");
    assert_true(card.qkv_bias && !card.attn_out_bias);
    assert_int_equal(card.layers[4].window, 0);
    read_golden("qwen3");
    assert_int_equal(card.qk_norm, CDP_QK_HEAD);
    assert_int_equal(card.layers[1].window, 0);
    assert_int_equal(card.layers[2].window, 16);
    assert_int_equal(card.head_dim, 32);
    read_golden("smollm3");
    assert_true(card.layers[2].has_rope && !card.layers[3].has_rope && !card.layers[7].has_rope);
    read_golden("granite");
    assert_true(fabs(card.attn_scale - 0.19) < 1e-12 && fabs(card.embed_scale - 2.7) < 1e-12);
    assert_true(fabs(card.residual_scale - 0.6) < 1e-12 && fabs(card.logit_scale - 1 / 1.7) < 1e-12);
    read_golden("olmo2");
    assert_true(card.norm_after && !card.norm_before);
    assert_int_equal(card.qk_norm, CDP_QK_FULL);
    read_golden("phi3");
    assert_true(card.fused_qkv && card.fused_gate_up);
    assert_int_equal(card.rope.dim, 8);
    assert_int_equal(card.layers[0].window, 20);
    read_golden("phi3-longrope");
    assert_int_equal(card.rope.n_lists, 2);
    assert_int_equal(card.rope.original_max, 64);
    assert_int_equal(card.rope.dim, 12);
}

/* Work out a rope from a config text. */
static cdp_status rope_of(cdp_rope_card *out, const char *family, const char *config, int head_dim,
                          int max_positions) {
    cJSON *json = cJSON_Parse(config);
    assert_non_null(json);
    cdp_error_clear();
    const cdp_status st =
        cdp_rope_read(out, json, "config.json", cdp_family_find(family), head_dim, max_positions);
    cJSON_Delete(json);
    return st;
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 2e-7 * fabs(want)))
        fail_msg("%.10g, expected %.10g", got, want);
}

static cdp_rope_card rope;

static void test_rope_numbers(void **state) {
    (void)state;
    assert_int_equal(rope_of(&rope, "llama",
                             "{\"rope_theta\": 500000, \"rope_scaling\": {\"type\": \"llama3\", \"factor\": "
                             "8, \"low_freq_factor\": 1,"
                             " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}",
                             128, 131072),
                     CDP_OK);
    near(rope.inv[0][28], pow(500000, -2.0 * 28 / 128));
    near(rope.inv[0][29], .0021665708);
    near(rope.inv[0][32], .00052484616);
    near(rope.inv[0][34], .00017850781);
    near(rope.inv[0][63], 3.0689260e-7);
    /* yarn, not truncated, as gpt-oss has it: only the formula is borrowed */
    assert_int_equal(
        rope_of(&rope, "llama",
                "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 150000, \"factor\": 32,"
                " \"original_max_position_embeddings\": 4096, \"truncate\": false}}",
                64, 131072),
        CDP_OK);
    near(rope.inv[0][9], .031705696);
    near(rope.inv[0][12], .0067949595);
    near(rope.inv[0][17], .00012931870);
    near(rope.inv[0][18], 3.8308812e-5);
    near(rope.factor[0], 1.34657359);
    assert_int_equal(
        rope_of(&rope, "phi3",
                "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1,1], \"long_factor\": [2,4]},"
                " \"original_max_position_embeddings\": 4096}",
                4, 131072),
        CDP_OK);
    near(rope.factor[0], 1.19023807);
    near(rope.inv[1][1], rope.inv[0][1] / 4);
    assert_int_equal(
        rope_of(&rope, "llama", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}", 8, 2048),
        CDP_OK);
    near(rope.inv[0][0], 0.25);
}

/* Old and new spelling, and what wins: rope_scaling replaces rope_parameters, theta may stay at the top. */
static void test_rope_spellings(void **state) {
    (void)state;
    assert_int_equal(rope_of(&rope, "llama", "{\"rope_theta\": 100}", 4, 2048), CDP_OK);
    near(rope.inv[0][1], 0.1);
    assert_int_equal(rope_of(&rope, "llama",
                             "{\"rope_theta\": 100, \"rope_parameters\": {\"rope_theta\": 10000}}", 4, 2048),
                     CDP_OK);
    near(rope.inv[0][1], 0.01);
    assert_int_equal(rope_of(&rope, "smollm3", "{}", 4, 2048), CDP_OK);
    near(rope.inv[0][1], pow(2e6, -0.5));
    assert_int_equal(rope_of(&rope, "phi3", "{\"partial_rotary_factor\": 0.5}", 8, 2048), CDP_OK);
    assert_int_equal(rope.dim, 4);
    assert_int_equal(
        rope_of(&rope, "llama", "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", 8, 2048),
        CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "dynamic"));
    assert_int_equal(
        rope_of(&rope, "phi3",
                "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1,1]}}",
                4, 2048),
        CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "short_factor"));
    cdp_error_clear();
}

/* Families that come later are refused by name, with the list of those that work. */
static void test_refused(void **state) {
    (void)state;
    DIR *folder = opendir(test_path("tests/golden/refused"));
    int n = 0;
    assert_non_null(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        char path[600];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "tests/golden/refused/%s", e->d_name);
        cdp_error_clear();
        assert_int_equal(cdp_model_card_read(&card, test_path(path)), CDP_BAD_MODEL);
        if (strstr(cdp_error_message(), "model_type") == NULL ||
            strstr(cdp_error_message(), "smollm3") == NULL)
            fail_msg("%s: %s", e->d_name, cdp_error_message());
        n++;
    }
    closedir(folder);
    assert_true(n >= 20);
    cdp_error_clear();
}

/* A tensor that no role consumes, and one of the wrong shape. */
static void test_tensors(void **state) {
    (void)state;
    cdp_tensor_index *index = NULL;
    assert_int_equal(cdp_model_card_read(&card, test_path("tests/golden/models/llama")), CDP_OK);
    assert_int_equal(cdp_tensor_index_open(&index, test_path("tests/golden/models/qwen3")), CDP_OK);
    cdp_error_clear();
    assert_int_equal(cdp_model_card_settle(&card, index), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "config.json asks for"));
    cdp_tensor_index_close(index);
    assert_int_equal(cdp_tensor_index_open(&index, test_path("tests/golden/models/phi3")), CDP_OK);
    cdp_error_clear();
    assert_int_equal(cdp_model_card_read(&card, test_path("tests/golden/models/granite")), CDP_OK);
    card.n_layers = 4;
    assert_int_equal(cdp_model_card_settle(&card, index), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "the tensors show 5"));
    cdp_tensor_index_close(index);
    cdp_error_clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),       cmocka_unit_test(test_rope_numbers),
        cmocka_unit_test(test_rope_spellings), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
