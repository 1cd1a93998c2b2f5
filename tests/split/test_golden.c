/* Logits and greedy ids of every family against exact arithmetic (tests/golden/README.md), through one and
 * through several processes.
 *
 * What it catches: a wrong layer, norm, rope, window, scale or bias of a family (fp32 is held to 2e-4 of the
 * logits' spread), rounding in the wrong place (bf16, to the honest error of a reference run), a seam between
 * chunks or between ranks (np = 3, chunks of 7).
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

/* std of all golden logits; p99 and mean |error| of a reference bf16 run: the honest tolerance is twice
 * these. */
typedef struct family {
    const char *name;
    double std, bf16_p99, bf16_mean;
    bool has_two_rope_lists; /* longrope: prompt 3 is beyond the short list */
} family;

static const family families[] = {
    {"llama", 2.15, 0.096, 0.024, false},          {"llama-tied-rope3", 2.01, 0.13, 0.034, false},
    {"llama-bias-mha", 1.96, 0.097, 0.024, false}, {"mistral", 2.10, 0.15, 0.036, false},
    {"qwen2", 2.07, 0.090, 0.025, false},          {"qwen3", 2.03, 0.24, 0.048, false},
    {"smollm3", 2.01, 0.12, 0.032, false},         {"granite", 1.22, 0.040, 0.012, false},
    {"olmo2", 1.94, 0.13, 0.032, false},           {"phi3", 2.21, 0.13, 0.033, false},
    {"phi3-longrope", 2.09, 0.17, 0.032, true},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static char model_dir[4096], golden_path[4200];

static void use_family(const family *f) {
    snprintf(model_dir, sizeof model_dir, "%s/tests/golden/models/%s", CDPIPE_SOURCE_DIR, f->name);
    snprintf(golden_path, sizeof golden_path, "%s/golden.safetensors", model_dir);
}

/* Logits of a prompt (n, vocab) as cdpipe score --logits writes them; the caller frees them. */
static float *score(int np, int prompt, const char *dtype, const char *chunk, size_t *n_out) {
    char name[64], path[4200];
    size_t n_ids;
    snprintf(name, sizeof name, "prompt.%d.ids", prompt);
    int64_t *ids = golden_i64(golden_path, name, &n_ids);
    char *text = golden_ids_text(ids, n_ids);
    snprintf(path, sizeof path, "%s/logits.safetensors", test_temp_dir());
    const char *words[] = {"score",   "--model", model_dir,  "--prompt-ids", text,        "--dtype", dtype,
                           "--chunk", chunk,     "--logits", path,           "--threads", "1",       NULL};
    cJSON_Delete(golden_run(np, words));
    float *logits = golden_f32(path, "logits", n_out);
    size_t n_back;
    int64_t *back = golden_i64(path, "token_ids", &n_back);
    assert_int_equal(n_back, n_ids);
    assert_memory_equal(back, ids, n_ids * sizeof *ids);
    free(back);
    free(text);
    free(ids);
    return logits;
}

/* The golden rows of a prompt: all of them, or the tail of the long one. */
static float *golden_rows(int prompt, size_t *n_out) {
    char name[64];
    snprintf(name, sizeof name, prompt == 3 ? "prompt.%d.logits_tail" : "prompt.%d.logits", prompt);
    return golden_f32(golden_path, name, n_out);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_fp32(const family *f, int np, int prompt, const char *chunk) {
    size_t n, n_want;
    float *got = score(np, prompt, "fp32", chunk, &n), *want = golden_rows(prompt, &n_want);
    const double limit = 2e-4 * f->std;
    for (size_t i = 0; i < n_want; i++) {
        const double g = (double)got[n - n_want + i], w = (double)want[i];
        if (!(fabs(g - w) <= limit))
            fail_msg("%s fp32 np %d prompt %d: logit %zu is %.7g, exact %.7g, limit %.2g", f->name, np,
                     prompt, i, g, w, limit);
    }
    free(want);
    free(got);
}

static void test_fp32_one_process(void **state) {
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        if (!golden_is_wanted(families[i].name))
            continue;
        use_family(&families[i]);
        for (int prompt = 0; prompt < 4; prompt++)
            check_fp32(&families[i], 1, prompt, "64");
    }
}

static void test_fp32_three_processes(void **state) {
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        if (!golden_is_wanted(families[i].name))
            continue;
        use_family(&families[i]);
        check_fp32(&families[i], 3, 3, "7");
    }
}

static void test_bf16(void **state) {
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        const family *f = &families[i];
        if (!golden_is_wanted(f->name))
            continue;
        use_family(f);
        double *errors = NULL, sum = 0;
        size_t total = 0;
        for (int prompt = 0; prompt < 4; prompt++) {
            size_t n, n_want;
            float *got = score(1, prompt, "bf16", "64", &n), *want = golden_rows(prompt, &n_want);
            errors = realloc(errors, (total + n_want) * sizeof *errors);
            for (size_t k = 0; k < n_want; k++) {
                errors[total + k] = fabs((double)got[n - n_want + k] - (double)want[k]);
                sum += errors[total + k];
            }
            total += n_want;
            free(want);
            free(got);
        }
        qsort(errors, total, sizeof *errors, ascending);
        const double p99 = errors[total * 99 / 100], mean = sum / (double)total;
        if (!(p99 <= 2 * f->bf16_p99 && mean <= 2 * f->bf16_mean))
            fail_msg("%s bf16: p99 of the error %.3g (limit %.3g), mean %.3g (limit %.3g)", f->name, p99,
                     2 * f->bf16_p99, mean, 2 * f->bf16_mean);
        free(errors);
    }
}

/* All 48 greedy ids, on two processes; and that fp16 arithmetic runs and stays near. */
static void test_greedy(void **state) {
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        if (!golden_is_wanted(families[i].name))
            continue;
        use_family(&families[i]);
        size_t n_ids, n_want;
        int64_t *ids = golden_i64(golden_path, "prompt.1.ids", &n_ids);
        int64_t *want = golden_i64(golden_path, "greedy.ids", &n_want);
        char *text = golden_ids_text(ids, n_ids);
        const char *words[] = {
            "generate",      "--model", model_dir,          "--prompt-ids", text,        "--dtype", "fp32",
            "--temperature", "0",       "--max-new-tokens", "48",           "--threads", "1",       NULL};
        cJSON *json = golden_run(i % 3 + 1, words);
        const cJSON *got = golden_get(json, "token_ids");
        assert_int_equal(cJSON_GetArraySize(got), n_want);
        for (size_t k = 0; k < n_want; k++)
            if (cJSON_GetArrayItem(got, (int)k)->valuedouble != (double)want[k])
                fail_msg("%s: greedy token %zu is %g, exact %lld", families[i].name, k,
                         cJSON_GetArrayItem(got, (int)k)->valuedouble, (long long)want[k]);
        cJSON_Delete(json);
        free(text);
        free(want);
        free(ids);
    }
}

static void test_fp16(void **state) {
    (void)state;
    const family *f = &families[0];
    if (!golden_is_wanted(f->name))
        return;
    use_family(f);
    size_t n, n_want;
    float *got = score(2, 2, "fp16", "64", &n), *want = golden_rows(2, &n_want);
    for (size_t i = 0; i < n_want; i++) /* bf16 weights in fp16 lose their smallest; sums are f32 */
        assert_true(fabs((double)got[i] - (double)want[i]) < 0.02);
    free(want);
    free(got);
}

int main(void) {
    int n_wanted = 0;
    for (int i = 0; i < N_FAMILIES; i++)
        n_wanted += golden_is_wanted(families[i].name);
    if (n_wanted == 0) {
        printf("TEST_FAMILIES=%s: there is no such family\n", getenv("TEST_FAMILIES"));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32_one_process),
        cmocka_unit_test(test_fp32_three_processes),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_fp16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
