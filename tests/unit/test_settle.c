/* A card settled by the tensors of its files: what they show beats config.json, ties, a tensor that is
 * missing, of another shape or type, or has no place. Catches: a model of another architecture that would
 * load and speak nonsense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/file.h"
#include "planner/model_card.h"
#include "planner/roles.h"
#include "tests/support/data.h"
#include "tests/unit/folders.h"

static cdp_model_card card; /* too large for a stack */

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

typedef struct settle_case {
    const char *model, *config_from, *config_to; /* config.json of the golden model, edited */
    const char *name_from, *name_to;             /* its safetensors header, edited in place */
    const char *holds;                           /* NULL: fine */
    bool is_tied;
} settle_case;

/* Replace the first `from` of n bytes by `to`, of the same length. */
static void patch(char *bytes, size_t n, const char *from, const char *to) {
    char *at = memmem(bytes, n, from, strlen(from));
    assert_int_equal(strlen(from), strlen(to));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
}

static cdp_status settle_edited(const settle_case *c) {
    char path[512], *bytes, *config, edited[8192];
    size_t n;
    cdp_tensor_index *index = NULL;
    const char *dir = new_folder();
    snprintf(path, sizeof path, "tests/golden/models/%s/config.json", c->model);
    assert_int_equal(cdp_file_read_text(&config, &n, test_path(path), 1 << 20), CDP_OK);
    const char *at = strstr(config, c->config_from);
    assert_non_null(at);
    snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - config), config, c->config_to,
             at + strlen(c->config_from));
    write_text(dir, "config.json", edited);
    snprintf(path, sizeof path, "tests/golden/models/%s/model.safetensors", c->model);
    assert_int_equal(cdp_file_read_text(&bytes, &n, test_path(path), 1 << 24), CDP_OK);
    if (c->name_from != NULL)
        patch(bytes, n, c->name_from, c->name_to);
    write_bytes(dir, "model.safetensors", bytes, n);
    free(bytes);
    free(config);
    assert_int_equal(cdp_model_card_read(&card, dir), CDP_OK);
    assert_int_equal(cdp_tensor_index_open(&index, dir), CDP_OK);
    const cdp_status st = cdp_model_card_settle(&card, index);
    cdp_tensor_index_close(index);
    return st;
}

#define TIE(word) "\"tie_word_embeddings\": " word

/* Presence beats config; ties follow what config.json says, else the head that is there or not. */
static void test_settle(void **state) {
    (void)state;
    static const settle_case cases[] = {
        {"llama", TIE("false"), TIE("null"), NULL, NULL, NULL, false},
        {"llama", TIE("false"), TIE("true"), NULL, NULL, NULL, true}, /* with a note */
        {"llama-tied-rope3", TIE("true"), TIE("null"), NULL, NULL, NULL, true},
        {"llama-tied-rope3", TIE("true"), TIE("false"), NULL, NULL,
         "\"lm_head.weight\" is missing, and config.json says tie_word_embeddings false", false},
        {"llama-bias-mha", "\"attention_bias\": true", "\"attention_bias\": false", NULL, NULL, NULL, false},
        {"llama", TIE("false"), TIE("true"), "lm_head.weight", "ab.masked_bias", NULL, true},
        {"llama", TIE("false"), TIE("true"), "lm_head.weight", "lm\\nead.weight",
         "tensor \"lm\\x0Aead.weight\" has no place in a llama model", true},
        {"llama", TIE("false"), TIE("false"), "4.mlp.up_proj.w", "4.mlp.op_proj.w",
         "\"model.layers.4.mlp.up_proj.weight\" is missing, expected shape [136,64]", false},
        {"llama", TIE("false"), TIE("false"), "\"BF16\"", "\"U16\" ", "is U16, expected BF16, F16 or F32",
         false},
        {"llama", "\"intermediate_size\": 136", "\"intermediate_size\": 64", NULL, NULL,
         "has shape [136,64], config.json asks for [64,64]", false},
        {"llama", "\"vocab_size\": 384", "\"vocab_size\": 400", NULL, NULL, "config.json asks for [400,64]",
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_error_clear();
        const cdp_status st = settle_edited(&cases[i]);
        if (cases[i].holds != NULL) {
            check_refusal(cases[i].holds, st, CDP_BAD_MODEL, cases[i].holds);
            assert_false(card.has_tensors);
            continue;
        }
        if (st != CDP_OK || card.is_tied != cases[i].is_tied || !card.has_tensors)
            fail_msg("%s, %s: %d, tied %d: %s", cases[i].model, cases[i].config_to, st, card.is_tied,
                     cdp_error_message());
        if (i == 4)
            assert_true(card.qkv_bias && card.attn_out_bias);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_settle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
