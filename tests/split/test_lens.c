/* What a text looks like from inside: the lens against exact arithmetic for every family, logits of layers as
 * a file, the same on any number of ranks, and the faces people look at.
 *
 * What it catches: a layer shown under its neighbour's number, the final norm or a scale left out on the way,
 * a last layer that is not the model's own row, a row of a file in another row's place, a page that a token
 * breaks.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/sample/entropy.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

static const char *const families[] = {
    "llama",   "llama-tied-rope3", "llama-bias-mha", "mistral", "qwen2",        "qwen3",
    "smollm3", "granite",          "olmo2",          "phi3",    "phi3-longrope"};

static double cell(const cJSON *json, const char *table, int position, int column) {
    return cJSON_GetArrayItem(cJSON_GetArrayItem(golden_get(json, table), position), column)->valuedouble;
}

static void check_family(const char *name, int np) {
    char folder[256], golden[320];
    size_t n_ids, n_layers, n_argmax;
    snprintf(folder, sizeof folder, "tests/golden/models/%s", name);
    snprintf(golden, sizeof golden, "%s/golden.safetensors", folder);
    int64_t *ids = golden_i64(test_path(golden), "prompt.2.ids", &n_ids);
    int64_t *argmax = golden_i64(test_path(golden), "lens.argmax", &n_argmax);
    float *nats = golden_f32(test_path(golden), "lens.entropy", &n_layers);
    char *text = golden_ids_text(ids, n_ids);
    const char *words[] = {
        "lens", "--model", test_path(folder), "--prompt-ids", text, "--dtype", "fp32", "--threads",
        "1",    NULL};
    cJSON *json = golden_run(np, words);
    assert_int_equal(n_layers, n_argmax);
    assert_int_equal(cJSON_GetArraySize(golden_get(json, "layers")), n_layers);
    const int last = (int)n_ids - 1;
    for (int i = 0; i < (int)n_layers; i++) {
        const double got = cell(json, "layer_entropies", last, i);
        if (!(fabs(got - (double)nats[i]) <= 1e-4))
            fail_msg("%s np %d: entropy of layer %d is %.7g, exact %.7g", name, np, i, got, (double)nats[i]);
        if ((int64_t)cell(json, "all_layer_token_ids", last, i) != argmax[i])
            fail_msg("%s np %d: layer %d says %g, exact %lld", name, np, i,
                     cell(json, "all_layer_token_ids", last, i), (long long)argmax[i]);
    }
    cJSON_Delete(json);
    free(text);
    free(nats);
    free(argmax);
    free(ids);
}

static void test_families(void **state) {
    (void)state;
    for (int i = 0; i < (int)(sizeof families / sizeof families[0]); i++)
        check_family(families[i], i % 3 + 1);
}

/* Logits of layers in a file: byte for byte the same through one process, two and three, in chunks of any
 * size; the last layer's are the model's own, and the others are what the lens says of them. */
static void test_layer_logits(void **state) {
    (void)state;
    enum { N = 21, VOCAB = 384, LAYERS = 5 };
    const char *model = test_path("tests/golden/models/llama");
    const char *ids = "285,220,33,292,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21";
    char path[3][512];
    static const char *const chunks[] = {"64", "5", "16"};
    for (int np = 1; np <= 3; np++) {
        snprintf(path[np - 1], sizeof path[0], "%s/layers.%d.safetensors", test_temp_dir(), np);
        const char *words[] = {"score", "--model",  model,          "--prompt-ids",
                               ids,     "--logits", path[np - 1],   "--layers",
                               "4,0,2", "--chunk",  chunks[np - 1], NULL};
        cJSON_Delete(golden_run(np, words));
    }
    /* A run that taps nothing has the same logits, bit for bit. */
    char plain_path[512];
    snprintf(plain_path, sizeof plain_path, "%s/plain.safetensors", test_temp_dir());
    const char *plain_words[] = {"score", "--model",  model,      "--prompt-ids",
                                 ids,     "--logits", plain_path, NULL};
    cJSON *plain_json = golden_run(1, plain_words);
    size_t n_plain, n_tapped;
    float *plain = golden_f32(plain_path, "logits", &n_plain),
          *tapped = golden_f32(path[2], "layer.4.logits", &n_tapped);
    assert_int_equal(n_plain, n_tapped);
    assert_memory_equal(plain, tapped, n_plain * sizeof *plain);
    free(tapped);
    free(plain);
    const char *lens_words[] = {"lens", "--model", model, "--prompt-ids", ids, "--layers", "2,0", NULL};
    cJSON *lens = golden_run(2, lens_words);
    assert_string_equal(golden_get(lens, "logits_hash")->valuestring,
                        golden_get(plain_json, "logits_hash")->valuestring);
    cJSON_Delete(plain_json);
    static const int layers[] = {0, 2, 4};
    for (int k = 0; k < 3; k++) {
        char name[32];
        size_t n, n_own, n_other;
        snprintf(name, sizeof name, "layer.%d.logits", layers[k]);
        float *got = golden_f32(path[0], name, &n), *own = golden_f32(path[0], "logits", &n_own);
        assert_int_equal(n, N * VOCAB);
        for (int np = 2; np <= 3; np++) {
            float *other = golden_f32(path[np - 1], name, &n_other);
            assert_int_equal(n_other, n);
            assert_memory_equal(got, other, n * sizeof *got);
            free(other);
        }
        assert_int_equal(memcmp(got, own, n * sizeof *got) == 0, layers[k] == LAYERS - 1);
        for (int t = 0; t < N; t++) {
            const cdp_certainty c = cdp_certainty_of(got + t * VOCAB, VOCAB);
            assert_int_equal(c.argmax, (int)cell(lens, "all_layer_token_ids", t, k));
            assert_true(fabs(c.nats - cell(lens, "layer_entropies", t, k)) < 1e-5);
            assert_true(fabs(c.top - cell(lens, "layer_probabilities", t, k)) < 1e-5);
        }
        free(own);
        free(got);
    }
    cJSON_Delete(lens);
}

/* A continuation: the text grows by what the last layer likes best, as greedy generation does. */
static void test_continuation(void **state) {
    (void)state;
    const char *model = test_path("examples/shakespeare");
    const char *lens_words[] = {"lens",     "--model",          model, "--prompt",
                                "ROMEO:\n", "--max-new-tokens", "12",  NULL};
    const char *words[] = {"--model", model,           "--prompt", "ROMEO:\n", "--max-new-tokens",
                           "12",      "--temperature", "0",        "--ctx",    "64",
                           NULL};
    cJSON *lens = golden_run(3, lens_words), *plain = golden_run(1, words);
    const int n_prompt = golden_get(lens, "n_prompt")->valueint;
    const cJSON *ids = golden_get(lens, "token_ids");
    assert_int_equal(cJSON_GetArraySize(ids), n_prompt + 11); /* the last token has no row of its own */
    for (int i = 0; i < 11; i++)
        assert_int_equal(cJSON_GetArrayItem(ids, n_prompt + i)->valueint,
                         cJSON_GetArrayItem(golden_get(plain, "token_ids"), i)->valueint);
    assert_int_equal(cJSON_GetArraySize(golden_get(lens, "layer_entropies")), n_prompt + 11);
    /* What the last layer likes, and from which layer on the same is liked. */
    for (int t = 0; t < n_prompt + 11; t++) {
        const int settled = cJSON_GetArrayItem(golden_get(lens, "settled_layers"), t)->valueint;
        for (int i = settled; i < 8; i++)
            assert_true(cell(lens, "all_layer_token_ids", t, i) == cell(lens, "all_layer_token_ids", t, 7));
        if (settled > 0)
            assert_true(cell(lens, "all_layer_token_ids", t, settled - 1) !=
                        cell(lens, "all_layer_token_ids", t, 7));
    }
    cJSON_Delete(plain);
    cJSON_Delete(lens);
}

static test_run *look(const char *option, const char *value) {
    test_run *run = test_run_open(30.0);
    test_run_add(run, CDPIPE_BIN, "lens", "--np", "2", "--device", "cpu", "--model",
                 test_path("examples/shakespeare"), "--prompt", "<i>\"&\n", "--dtype", "fp32", "--quiet",
                 option, value, NULL);
    test_run_go(run);
    return run;
}

/* The table has a line a layer, colours only where they are wanted, and the page is whole whatever the
 * tokens. */
static void test_faces(void **state) {
    (void)state;
    char page[512], text[65536] = "";
    test_run *plain = look("--color", "auto"), *shaded = look("--color", "always");
    assert_int_equal(plain->exit_code, 0);
    assert_null(strchr(plain->out, '\033'));
    assert_non_null(strstr(plain->out, "\n   7  "));
    assert_non_null(strstr(shaded->out, "\033[48;5;"));
    test_run_close(shaded);
    test_run_close(plain);
    snprintf(page, sizeof page, "%s/lens.html", test_temp_dir());
    test_run *run = look("--html", page);
    assert_int_equal(run->exit_code, 0);
    FILE *file = fopen(page, "r");
    assert_non_null(file);
    const size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    assert_non_null(strstr(text, "<!doctype html>"));
    assert_non_null(strstr(text, "</html>"));
    assert_non_null(strstr(text, ">&lt;</th>"));
    assert_non_null(strstr(text, ">&amp;</th>"));
    assert_null(strstr(text, "http")); /* nothing is fetched */
    int n_rows = 0;
    for (const char *at = text; (at = strstr(at, "<tr><th>")) != NULL; at++)
        n_rows++;
    assert_int_equal(n_rows, 1 + 8);
    test_run_close(run);
    run = look("--html", "/nowhere/lens.html");
    assert_int_equal(run->exit_code, 74);
    assert_non_null(strstr(run->err, "/nowhere/lens.html: No such file"));
    test_run_close(run);
    run = look("--layers", "3,8");
    assert_int_equal(run->exit_code, 64);
    assert_non_null(strstr(run->err, "--layers is \"3,8\", expected all or some of 0 to 7"));
    test_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_layer_logits),
        cmocka_unit_test(test_continuation),
        cmocka_unit_test(test_faces),
    };
    return cmocka_run_group_tests_name("lens", tests, NULL, NULL);
}
