/* Rotary frequencies against published numbers, the spellings of config.json that must mean the same, and
 * what is refused. Catches: a theta taken from the wrong place, a ramp off by one pair, a list of the wrong
 * length: wrong text without a word.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/families.h"
#include "planner/json.h"
#include "planner/rope.h"
#include "tests/unit/folders.h"

static cdp_rope_card rope;

/* Work out a rope from a config text. */
static cdp_status rope_of(const char *family, const char *config, int head_dim, int max_positions) {
    cJSON *json = NULL;
    cdp_error_clear();
    if (cdp_json_parse(&json, "config.json", config, strlen(config), &cdp_json_config_limits) != CDP_OK)
        fail_msg("%s: %s", config, cdp_error_message());
    const cdp_status st =
        cdp_rope_read(&rope, json, "config.json", cdp_family_find(family), head_dim, max_positions);
    cJSON_Delete(json);
    return st;
}

static void near(const char *what, int i, double got, double want) {
    if (!(fabs(got - want) <= 1e-7 * fabs(want)))
        fail_msg("%s: [%d] is %.10g, expected %.10g", what, i, got, want);
}

#define LLAMA3                                                                                               \
    "\"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "                                       \
    "\"original_max_position_embeddings\": 8192}"

/* theta 5e5, dim 128: pairs 0..28 kept, 29..34 mixed, 35..63 divided by 8. */
static void test_llama3(void **state) {
    (void)state;
    assert_int_equal(rope_of("llama",
                             "{\"rope_theta\": 500000, \"rope_scaling\": {\"type\": \"llama3\", " LLAMA3 "}",
                             128, 131072),
                     CDP_OK);
    for (int i = 0; i < 64; i++) {
        const double plain = pow(500000, -2.0 * i / 128);
        if (i <= 28)
            near("llama3, kept", i, rope.inv[0][i], plain);
        else if (i >= 35)
            near("llama3, divided", i, rope.inv[0][i], plain / 8);
        else if (!(rope.inv[0][i] < plain && rope.inv[0][i] > plain / 8))
            fail_msg("pair %d is not between", i);
    }
    near("llama3", 29, rope.inv[0][29], .0021665708);
    near("llama3", 32, rope.inv[0][32], .00052484616);
    near("llama3", 34, rope.inv[0][34], .00017850781);
    near("llama3", 63, rope.inv[0][63], 3.0689260e-7);
    assert_int_equal(rope.n_lists, 1);
    assert_true(rope.factor[0] == 1);
}

/* The ramp of gpt-oss (not truncated, 8.09 to 17.40), and one that is truncated from 20.385..36.44 to 20..37.
 */
static void test_yarn(void **state) {
    (void)state;
    assert_int_equal(
        rope_of("llama",
                "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 150000, \"factor\": 32, "
                "\"original_max_position_embeddings\": 4096, \"truncate\": false}}",
                64, 131072),
        CDP_OK);
    near("yarn", 8, rope.inv[0][8], pow(150000, -2.0 * 8 / 64));
    near("yarn", 9, rope.inv[0][9], .031705696);
    near("yarn", 12, rope.inv[0][12], .0067949595);
    near("yarn", 17, rope.inv[0][17], .00012931870);
    near("yarn", 18, rope.inv[0][18], 3.8308812e-5);
    near("yarn factor", 0, rope.factor[0], 1.34657359);
    assert_int_equal(
        rope_of("llama",
                "{\"rope_theta\": 1e6, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 16, "
                "\"original_max_position_embeddings\": 16384, \"mscale\": 1, \"mscale_all_dim\": 1}}",
                128, 262144),
        CDP_OK);
    for (int i = 19; i < 39; i++) {
        const double plain = pow(1e6, -2.0 * i / 128), ramp = i <= 20 ? 0 : i >= 37 ? 1 : (i - 20) / 17.0;
        near("truncated yarn", i, rope.inv[0][i], plain * (1 - ramp) + plain / 16 * ramp);
    }
    assert_true(rope.factor[0] == 1); /* equal mscales cancel */
}

typedef struct factor_case {
    const char *keys;
    double factor;
} factor_case;

/* attention_factor: given, from both mscales, from the factor alone. */
static void test_yarn_factor(void **state) {
    (void)state;
    static const factor_case cases[] = {
        {"\"factor\": 40", 1.368888},
        {"\"factor\": 0.5", 1},
        {"\"factor\": 40, \"attention_factor\": 1.5", 1.5},
        {"\"factor\": 40, \"mscale\": 0.707", 1.368888},
        {"\"factor\": 40, \"mscale\": 2, \"mscale_all_dim\": 1",
         (0.1 * 2 * 3.6888794541139363 + 1) / 1.3688879},
        {"\"factor\": 40, \"attention_factor\": null", 1.368888},
    };
    char text[400];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text,
                 "{\"rope_scaling\": {\"type\": \"yarn\", \"original_max_position_embeddings\": 4096, %s}}",
                 cases[i].keys);
        assert_int_equal(rope_of("qwen2", text, 64, 163840), CDP_OK);
        if (!(fabs(rope.factor[0] - cases[i].factor) < 1e-6))
            fail_msg("%s: factor %.9g, expected %.9g", cases[i].keys, rope.factor[0], cases[i].factor);
    }
}

#define LISTS "\"short_factor\": [1, 2], \"long_factor\": [4, 8]"

/* Two lists, one factor: sqrt(1 + ln 32 / ln 4096); the names that phi3 has for it. */
static void test_longrope(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"rope_scaling\": {\"type\": \"su\", " LISTS "}, \"original_max_position_embeddings\": 4096}",
        "{\"rope_scaling\": {\"type\": \"yarn\", " LISTS "}, \"original_max_position_embeddings\": 4096}",
        "{\"rope_scaling\": {\"type\": \"longrope\", " LISTS "}, \"original_max_position_embeddings\": 4096}",
        "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"original_max_position_embeddings\": "
        "4096, " LISTS "}}",
        /* the top level wins */
        "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"original_max_position_embeddings\": 7, " LISTS
        "},"
        " \"original_max_position_embeddings\": 4096}",
        "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 32, " LISTS "},"
        " \"original_max_position_embeddings\": 4096}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(rope_of("phi3", texts[i], 4, 131072), CDP_OK);
        assert_string_equal(rope.type, "longrope");
        assert_int_equal(rope.n_lists, 2);
        assert_int_equal(rope.original_max, 4096);
        near(texts[i], 0, rope.factor[0], 1.19023807);
        near(texts[i], 1, rope.factor[1], 1.19023807);
        near(texts[i], 2, rope.inv[0][0], 1);
        near(texts[i], 3, rope.inv[0][1], 0.01 / 2);
        near(texts[i], 4, rope.inv[1][0], 0.25);
        near(texts[i], 5, rope.inv[1][1], 0.01 / 8);
    }
    assert_int_equal(rope_of("phi3", texts[2], 4, 4096),
                     CDP_OK); /* not longer than the original: no factor */
    assert_true(rope.factor[0] == 1);
}

typedef struct spelling_case {
    const char *family, *text;
    int dim;     /* of head_dim 8 */
    double inv1; /* of pair 1 */
} spelling_case;

/* Old and new spelling, and what wins. */
static void test_spellings(void **state) {
    (void)state;
    static const spelling_case cases[] = {
        {"llama", "{}", 8, 0.1},
        {"smollm3", "{}", 8, 0.0265914795},
        {"llama", "{\"rope_theta\": 1e8}", 8, 0.01},
        {"llama", "{\"rope_theta\": null, \"rope_scaling\": null}", 8, 0.1},
        {"llama", "{\"rope_parameters\": {\"rope_theta\": 1e8}}", 8, 0.01},
        {"llama", "{\"rope_theta\": 16, \"rope_parameters\": {\"rope_theta\": 1e8}}", 8, 0.01},
        {"llama", "{\"rope_theta\": 1e8, \"rope_parameters\": {\"rope_type\": \"default\"}}", 8, 0.01},
        /* rope_scaling replaces the whole of rope_parameters, its theta too */
        {"llama",
         "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, \"rope_parameters\": {\"rope_theta\": "
         "16}}",
         8, 0.025},
        {"llama", "{\"rope_scaling\": {}, \"rope_parameters\": {\"rope_theta\": 1e8}}", 8, 0.01},
        {"llama", "{\"rope_scaling\": {\"rope_type\": null, \"type\": \"linear\", \"factor\": 4}}", 8, 0.025},
        {"llama", "{\"rope_scaling\": {\"type\": \"dynamic\", \"rope_type\": \"linear\", \"factor\": 4}}", 8,
         0.025},
        {"qwen2", "{\"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": [1, 1, 2]}}", 8, 0.1},
        {"phi3", "{\"partial_rotary_factor\": 0.5}", 4, 0.01},
        {"phi3", "{\"rope_parameters\": {\"partial_rotary_factor\": 0.5, \"rope_theta\": 10000}}", 4, 0.01},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (rope_of(cases[i].family, cases[i].text, 8, 2048) != CDP_OK)
            fail_msg("%s: %s", cases[i].text, cdp_error_message());
        if (rope.dim != cases[i].dim)
            fail_msg("%s: dim %d, expected %d", cases[i].text, rope.dim, cases[i].dim);
        near(cases[i].text, 1, rope.inv[0][1], cases[i].inv1);
    }
}

typedef struct refusal_case {
    const char *family, *text, *holds;
} refusal_case;

static void test_refusals(void **state) {
    (void)state;
    static const refusal_case cases[] = {
        {"llama", "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}",
         "\"dynamic\" is not supported"},
        {"llama", "{\"rope_scaling\": {\"type\": \"spiral\"}}",
         "expected default, linear, llama3, yarn or longrope"},
        {"llama", "{\"rope_scaling\": {\"type\": \"a name that is\\nlonger than any\"}}",
         "rope_type is \"a name"},
        {"llama", "{\"rope_scaling\": {\"type\": 3}}", "rope_type is 3"},
        {"llama", "{\"rope_scaling\": \"linear\"}", "rope_scaling is \"linear\", expected an object"},
        {"llama", "{\"rope_parameters\": [1]}", "rope_parameters is [1], expected an object"},
        {"llama", "{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6}}}", "by layer type"},
        {"llama", "{\"rope_scaling\": {\"type\": \"linear\"}}", "linear needs factor"},
        {"llama", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "factor is 0"},
        {"llama", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": \"4\"}}", "factor is \"4\""},
        {"llama", "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8}}", "needs low_freq_factor"},
        {"llama", "{\"rope_scaling\": {\"type\": \"yarn\"}}", "yarn needs factor"},
        {"llama",
         "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4}}",
         "high_freq_factor is 4, expected more than low_freq_factor 4"},
        {"llama", "{\"rope_theta\": 0}", "rope_theta is 0"},
        {"llama", "{\"rope_theta\": -5}", "rope_theta is -5"},
        {"llama", "{\"rope_theta\": 1}", "above 1"},
        {"llama", "{\"rope_theta\": \"1e4\"}", "rope_theta is \"1e4\""},
        {"phi3", "{\"partial_rotary_factor\": 1.5}", "partial_rotary_factor is 1.5"},
        {"phi3", "{\"partial_rotary_factor\": 0.4}", "3 rotated values"},
        {"phi3",
         "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1], \"long_factor\": [1, 1, 1, 1]}}",
         "short_factor has 1 entries, expected 4"},
        {"phi3", "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1, 1, 1, 1]}}",
         "long_factor has 0 entries"},
        {"phi3",
         "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1, 1, 0, 1], \"long_factor\": [1, 1, 1, "
         "1]}}",
         "short_factor: entry 2"},
        {"phi3",
         "{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1, 1, 1, 1], \"long_factor\": [1, 1, 1, "
         "1]},"
         " \"original_max_position_embeddings\": 1}",
         "no finite frequencies"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refusal(cases[i].text, rope_of(cases[i].family, cases[i].text, 8, 2048), CDP_BAD_MODEL,
                      cases[i].holds);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama3),   cmocka_unit_test(test_yarn),      cmocka_unit_test(test_yarn_factor),
        cmocka_unit_test(test_longrope), cmocka_unit_test(test_spellings), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
