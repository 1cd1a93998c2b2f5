/* Promise 1: the logits' bits are the same at any number of ranks, any device map, chunk and thread count.
 *
 * Hashes of logits are compared, not tokens: a pipeline that drops a layer on one rank can still pick the
 * same tokens. The families are those whose layers differ from each other (windows, norms after, q/k norms,
 * fused matrices), so that a layer in the wrong place shows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/golden.h"

static const char *const names[] = {"llama", "qwen3", "mistral", "olmo2", "phi3"};

typedef struct way {
    int np;
    const char *map, *chunk, *threads;
} way;

/* Five layers. The first is what the others are compared with. */
static const way ways[] = {
    {1, "auto", "64", "1"},
    {1, "auto", "1", "1"},
    {1, "auto", "7", "2"},
    {1, "auto", "512", "2"},
    {2, "auto", "64", "1"},
    {2, "1,4", "7", "1"},
    {2, "0,5", "64", "2"},
    {3, "auto", "1", "1"},
    {3, "2,1,2", "64", "1"},
    {3, "sequential", "7", "1"},
    {3, "balanced_low_0", "64", "1"},
    {3, "3,0,2", "7", "1"},
    {5, "auto", "64", "1"},
    {5, "1,1,1,1,1", "7", "1"},
    {7, "auto", "64", "1"},
};
enum { N_WAYS = sizeof ways / sizeof ways[0] };

/* Under the sanitizers a start of several ranks takes seconds: there, and for a tier beside the usual one, a
 * part of the ways must do. */
static int every(void) {
#if defined(__SANITIZE_ADDRESS__)
    return 4;
#else
    return getenv("TEST_CPU_TIER") != NULL ? 4 : 1;
#endif
}

static void hash_of(char *out, size_t out_size, const char *dir, const char *command, const char *ids,
                    const char *dtype, const way *w) {
    const char *words[] = {command,    "--model",
                           dir,        "--prompt-ids",
                           ids,        "--dtype",
                           dtype,      "--device-map",
                           w->map,     "--chunk",
                           w->chunk,   "--threads",
                           w->threads, strcmp(command, "score") == 0 ? NULL : "--max-new-tokens",
                           "12",       NULL};
    cJSON *json = golden_run(w->np, words);
    snprintf(out, out_size, "%s", golden_get(json, "logits_hash")->valuestring);
    cJSON_Delete(json);
}

static void check_ways(const char *name, const char *command, const char *dtype, int step) {
    char dir[4096], path[4200], want[32], got[32];
    if (!golden_is_wanted(name))
        return;
    snprintf(dir, sizeof dir, "%s/tests/golden/models/%s", CDPIPE_SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    size_t n;
    int64_t *ids = golden_i64(path, "prompt.3.ids", &n);
    char *text = golden_ids_text(ids, n);
    hash_of(want, sizeof want, dir, command, text, dtype, &ways[0]);
    assert_int_equal(strlen(want), 16);
    for (int i = 1; i < N_WAYS; i += step * every()) {
        hash_of(got, sizeof got, dir, command, text, dtype, &ways[i]);
        if (strcmp(got, want) != 0)
            fail_msg("%s %s %s: np %d, map %s, chunk %s, threads %s has hash %s, np 1 has %s", command, name,
                     dtype, ways[i].np, ways[i].map, ways[i].chunk, ways[i].threads, got, want);
    }
    free(text);
    free(ids);
}

static void test_score_bf16(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_ways(names[i], "score", "bf16", 1);
}

static void test_score_fp32(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_ways(names[i], "score", "fp32", 3);
}

static void test_generate(void **state) {
    (void)state;
    check_ways("llama", "generate", "bf16", 2);
    check_ways("qwen3", "generate", "bf16", 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score_bf16),
        cmocka_unit_test(test_score_fp32),
        cmocka_unit_test(test_generate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
