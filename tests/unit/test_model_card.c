/* config.json of each family, by the traps that give wrong output without a word: windows, layers without
 * rope, scales, head_dim, norms, ties, absent keys; what is refused and how; families of later refused by
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
#include "planner/model_card.h"
#include "planner/roles.h"
#include "tests/support/data.h"
#include "tests/unit/folders.h"

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

/* A config.json of 4 layers with what every family must say; `extra` is added, `from` (if any) replaced. */
static cdp_status read_config(const char *type, const char *extra, const char *from, const char *to) {
    char text[4096], edited[4096];
    const char *dir = new_folder();
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"num_hidden_layers\": 4, \"hidden_size\": 256,"
             " \"num_attention_heads\": 32, \"intermediate_size\": 512, \"vocab_size\": 384%s%s}",
             type, extra[0] != '\0' ? ", " : "", extra);
    if (from != NULL) {
        const char *at = strstr(text, from);
        assert_non_null(at);
        snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        snprintf(text, sizeof text, "%s", edited);
    }
    write_text(dir, "config.json", text);
    cdp_error_clear();
    return cdp_model_card_read(&card, dir);
}

/* The card in words, so that a case is a line. */
static const char *summary(void) {
    static char text[400];
    static const char *const norms[] = {"none", "head", "full"};
    const cdp_layer_card *l = card.layers;
    snprintf(text, sizeof text,
             "kv=%d dim=%d eps=%g tie=%d said=%d win=%d,%d,%d,%d rope=%d%d%d%d bias=%d%d%d norm=%d%d qk=%s "
             "fused=%d%d "
             "eos=%d bos=%d %s scale=%g,%g,%g,%g max=%d",
             card.n_kv_heads, card.head_dim, card.norm_eps, card.is_tied, card.tie_is_said, l[0].window,
             l[1].window, l[2].window, l[3].window, l[0].has_rope, l[1].has_rope, l[2].has_rope,
             l[3].has_rope, card.qkv_bias, card.attn_out_bias, card.mlp_bias, card.norm_before,
             card.norm_after, norms[card.qk_norm], card.fused_qkv, card.fused_gate_up, card.n_eos, card.bos,
             cdp_dtype_name(card.file_dtype), card.attn_scale, card.embed_scale, card.residual_scale,
             card.logit_scale, card.max_positions);
    return text;
}

typedef struct default_case {
    const char *type, *extra, *holds;
} default_case;

#define SLIDE "\"use_sliding_window\": true, \"sliding_window\": 9"
#define TYPES                                                                                                \
    "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\", "                      \
    "\"sliding_attention\"]"

/* What an absent key means differs by family; so does null. No tensors: planning works from this alone. */
static void test_defaults(void **state) {
    (void)state;
    static const default_case cases[] = {
        {"llama", "",
         "kv=32 dim=8 eps=1e-06 tie=0 said=0 win=0,0,0,0 rope=1111 bias=000 norm=10 qk=none fused=00"},
        {"mistral", "", "kv=8 dim=8 eps=1e-06 tie=0 said=0 win=4096,4096,4096,4096 rope=1111 bias=000"},
        {"qwen2", "", "kv=32 dim=8 eps=1e-06 tie=0 said=0 win=0,0,0,0 rope=1111 bias=100"},
        {"qwen3", "", "kv=32 dim=128 eps=1e-06 tie=0 said=0 win=0,0,0,0 rope=1111 bias=000 norm=10 qk=head"},
        {"smollm3", "", "kv=4 dim=8 eps=1e-06 tie=1 said=0 win=0,0,0,0 rope=1110 bias=000"},
        {"granite", "", "kv=32 dim=8 eps=1e-06 tie=0 said=0 win=0,0,0,0"},
        {"granite", "", "scale=1,1,1,1"},
        {"olmo2", "", "kv=32 dim=8 eps=1e-05 tie=0 said=0 win=0,0,0,0 rope=1111 bias=000 norm=01 qk=full"},
        {"phi3", "",
         "kv=32 dim=8 eps=1e-05 tie=0 said=0 win=0,0,0,0 rope=1111 bias=000 norm=10 qk=none fused=11"},
        {"llama", "", "eos=0 bos=-1 bf16 scale=0.353553,1,1,1 max=2048"},
        /* numbers of heads: null is as many as heads */
        {"mistral", "\"num_key_value_heads\": null", "kv=32"},
        {"qwen3", "\"head_dim\": null", "dim=128"},
        {"llama", "\"head_dim\": 24", "dim=24"},
        /* windows */
        {"mistral", "\"sliding_window\": null", "win=0,0,0,0"},
        {"mistral", "\"sliding_window\": 7", "win=7,7,7,7"},
        {"mistral", "\"sliding_window\": 7, \"use_sliding_window\": false", "win=7,7,7,7"},
        {"phi3", "\"sliding_window\": 7", "win=7,7,7,7"},
        {"llama", "\"sliding_window\": 7", "win=0,0,0,0"},
        {"qwen2", "\"sliding_window\": 9", "win=0,0,0,0"},
        {"qwen2", "\"sliding_window\": 9, \"max_window_layers\": 2", "win=0,0,0,0"},
        {"smollm3", "\"sliding_window\": 9", "win=0,0,0,0"},
        {"qwen2", SLIDE, "win=0,0,0,0"}, /* max_window_layers is 28 */
        {"qwen2", SLIDE ", \"max_window_layers\": 2", "win=0,0,9,9"},
        {"qwen3", SLIDE ", \"max_window_layers\": 0", "win=9,9,9,9"},
        {"qwen2", SLIDE ", \"max_window_layers\": 2, " TYPES, "win=0,9,0,9"},
        {"qwen2", "\"sliding_window\": 9, \"use_sliding_window\": false, " TYPES, "win=0,9,0,9"},
        {"mistral", "\"sliding_window\": 7, " TYPES, "win=0,7,0,7"},
        {"smollm3", SLIDE, "win=0,0,0,9 rope=1110"},
        {"smollm3", SLIDE ", \"no_rope_layers\": [0, 1, 1, 1]", "win=9,0,0,0 rope=0111"},
        {"smollm3", "\"no_rope_layer_interval\": 2", "rope=1010"},
        {"smollm3", "\"no_rope_layers\": [1, 0, 0, 1]", "rope=1001"},
        {"llama", "\"no_rope_layers\": [1, 0, 0, 1]", "rope=1111"},
        /* flags */
        {"llama", "\"attention_bias\": true, \"mlp_bias\": true", "bias=111"},
        {"qwen3", "\"attention_bias\": true", "bias=110"},
        {"smollm3", "\"tie_word_embeddings\": false", "tie=0 said=1"},
        {"llama", "\"tie_word_embeddings\": true", "tie=1 said=1"},
        {"llama", "\"tie_word_embeddings\": null", "tie=0 said=0"},
        /* ids, dtype, scales */
        {"llama", "\"eos_token_id\": [1, 2, 3], \"bos_token_id\": 0", "eos=3 bos=0"},
        {"llama", "\"eos_token_id\": null, \"bos_token_id\": null", "eos=0 bos=-1"},
        {"llama", "\"dtype\": \"float16\"", "fp16"},
        {"llama", "\"torch_dtype\": \"float32\"", "fp32"},
        {"llama", "\"dtype\": null, \"torch_dtype\": \"float32\"", "fp32"},
        {"granite", "\"attention_multiplier\": 0.5, \"logits_scaling\": 4", "scale=0.5,1,1,0.25"},
        {"llama", "\"attention_multiplier\": 0.5", "scale=0.353553"},
        {"llama", "\"Rms_Norm_Eps\": 0.5, \"max_position_embeddings\": 77", "eps=1e-06"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (read_config(cases[i].type, cases[i].extra, NULL, NULL) != CDP_OK)
            fail_msg("%s {%s}: %s", cases[i].type, cases[i].extra, cdp_error_message());
        if (strstr(summary(), cases[i].holds) == NULL)
            fail_msg("%s {%s}: %s, expected %s", cases[i].type, cases[i].extra, summary(), cases[i].holds);
        assert_false(card.has_tensors);
    }
}

typedef struct refusal_case {
    const char *type, *extra, *from, *to, *holds;
} refusal_case;

/* Numbers out of range, contradictions, arithmetic that is not ours: key, found, expected. */
static void test_refusals(void **state) {
    (void)state;
    static const refusal_case cases[] = {
        {"llama", "", "layers\": 4", "layers\": 1025",
         "num_hidden_layers is 1025, expected a whole number from 1 to 1024"},
        {"llama", "", "layers\": 4", "layers\": 4.0",
         "num_hidden_layers is 4 (not written as a whole number)"},
        {"llama", "", "layers\": 4", "layers\": null", "num_hidden_layers is missing"},
        {"llama", "", "size\": 256", "size\": 262145", "hidden_size is 262145"},
        {"llama", "", "size\": 256", "size\": 255",
         "hidden_size 255 is no multiple of num_attention_heads 32"},
        {"llama", "", "heads\": 32", "heads\": 0", "num_attention_heads is 0"},
        {"llama", "", "heads\": 32", "heads\": 4097", "num_attention_heads is 4097"},
        {"llama", "", "\"llama\"", "\"lla\\nma\"",
         "model_type \"lla\\nma\" is not supported, expected one of llama, "},
        {"llama", "", "\"llama\"", "null", "model_type null"},
        {"llama", "", "\"model_type\"", "\"Model_Type\"", "model_type is missing"},
        {"llama", "", "size\": 512", "size\": 4194305", "intermediate_size"},
        {"llama", "", "vocab_size\": 384", "vocab_size\": 16777217", "vocab_size"},
        {"llama", "\"num_key_value_heads\": 33", NULL, NULL, "num_key_value_heads is 33, expected a divisor"},
        {"llama", "\"num_key_value_heads\": 5", NULL, NULL, "num_key_value_heads is 5, expected a divisor"},
        {"llama", "\"head_dim\": 1025", NULL, NULL, "head_dim is 1025"},
        {"llama", "\"head_dim\": 7", NULL, NULL, "head_dim is 7, expected an even number"},
        {"llama", "\"max_position_embeddings\": 1099511627776", NULL, NULL, "max_position_embeddings"},
        {"llama", "\"sliding_window\": -1", NULL, NULL, "sliding_window is -1"},
        {"llama", "\"rms_norm_eps\": 1.5", NULL, NULL, "rms_norm_eps is 1.5"},
        {"llama", "\"eos_token_id\": 384", NULL, NULL, "eos_token_id is 384, expected ids from 0 to 383"},
        {"llama", "\"eos_token_id\": [1, \"2\"]", NULL, NULL, "eos_token_id is \"2\""},
        {"llama", "\"eos_token_id\": -1", NULL, NULL, "eos_token_id is -1"},
        {"llama", "\"eos_token_id\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", NULL, NULL,
         "lists 17 ids, at most 16"},
        {"llama", "\"bos_token_id\": 384", NULL, NULL, "bos_token_id is 384"},
        {"llama", "\"dtype\": \"int\\u00078\"", NULL, NULL, "dtype is \"int\\u00078\", expected float32"},
        {"llama", "\"torch_dtype\": 16", NULL, NULL, "dtype is 16"},
        {"llama", "\"hidden_act\": \"ge\\nlu\"", NULL, NULL, "hidden_act is \"ge\\nlu\", expected silu"},
        {"llama", "\"hidden_act\": 1", NULL, NULL, "hidden_act is 1"},
        {"llama", "\"quantization_config\": {\"bits\": 4}", NULL, NULL,
         "quantization_config is not supported"},
        {"llama", "\"tie_word_embeddings\": 1", NULL, NULL,
         "tie_word_embeddings is 1, expected true or false"},
        {"llama", "\"attention_bias\": \"yes\"", NULL, NULL, "attention_bias"},
        {"qwen2", "\"layer_types\": [\"full_attention\"]", NULL, NULL,
         "layer_types has 1 entries, expected a list of 4"},
        {"qwen2", "\"layer_types\": 3", NULL, NULL, "layer_types has 0 entries"},
        {"qwen2", "\"layer_types\": [1, 1, 1, 1]", NULL, NULL,
         "layer_types: entry 0 is 1, expected full_attention"},
        {"llama", TYPES, NULL, NULL, "entry 1 is sliding_attention, but sliding_window is off"},
        {"smollm3", "\"no_rope_layers\": [1, 1, 2, 1]", NULL, NULL,
         "no_rope_layers: entry 2 is 2, expected 0 or 1"},
        {"smollm3", "\"no_rope_layers\": [1, 1, 1]", NULL, NULL, "no_rope_layers has 3 entries"},
        {"granite", "\"logits_scaling\": 0", NULL, NULL, "logits_scaling is 0"},
        {"llama", "\"rope_theta\": 0", NULL, NULL, "rope_theta is 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refusal(cases[i].holds, read_config(cases[i].type, cases[i].extra, cases[i].from, cases[i].to),
                      CDP_BAD_MODEL, cases[i].holds);
}

typedef struct generation_case {
    const char *text, *holds; /* NULL: fine */
    int n_eos;
} generation_case;

/* generation_config.json: its eos ids win where it names any; a broken one is refused, not passed over. */
static void test_generation(void **state) {
    (void)state;
    static const generation_case cases[] = {
        {"{}", NULL, 2},
        {"{\"eos_token_id\": 5}", NULL, 1},
        {"{\"eos_token_id\": [5, 6, 7]}", NULL, 3},
        {"{\"eos_token_id\": []}", NULL, 2},
        {"{\"eos_token_id\": null}", NULL, 2},
        {"{\"do_sample\": true, \"temperature\": 0.5, \"top_k\": 20, \"top_p\": null, \"min_p\": 0.25}", NULL,
         2},
        {"{\"temperature\": \"hot\"}", "temperature is \"hot\"", 0},
        {"{\"top_p\": 7}", "top_p is 7", 0},
        {"{\"top_k\": 2.5}", "top_k is 2.5", 0},
        {"{\"do_sample\": 1}", "do_sample is 1", 0},
        {"[]", "expected a JSON object", 0},
        {"{", "not JSON", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_generation_card generation;
        cdp_status st = read_config("llama", "\"eos_token_id\": [1, 2]", NULL, NULL);
        assert_int_equal(st, CDP_OK);
        char dir[sizeof card.dir];
        strcpy(dir, card.dir);
        write_text(dir, "generation_config.json", cases[i].text);
        st = cdp_generation_card_read(&generation, dir);
        if (cases[i].holds != NULL) {
            check_refusal(cases[i].text, st, CDP_BAD_MODEL, cases[i].holds);
            continue;
        }
        assert_int_equal(st, CDP_OK);
        assert_int_equal(cdp_model_card_read(&card, dir), CDP_OK);
        assert_int_equal(card.n_eos, cases[i].n_eos);
        if (i == 5)
            assert_true(generation.do_sample && generation.temperature == 0.5 && generation.top_k == 20 &&
                        generation.top_p < 0 && generation.min_p == 0.25 &&
                        generation.repetition_penalty < 0);
    }
    cdp_generation_card none;
    assert_int_equal(read_config("llama", "", NULL, NULL), CDP_OK);
    assert_int_equal(cdp_generation_card_read(&none, card.dir), CDP_OK); /* a missing file says nothing */
    assert_true(!none.do_sample && none.temperature < 0 && none.top_k < 0);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),   cmocka_unit_test(test_defaults), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_refused),

    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
