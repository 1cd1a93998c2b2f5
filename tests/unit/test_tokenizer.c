/* Ids, texts and streams of fifteen tokenizers against the reference library's (tests/golden/tokenizers).
 *
 * What it catches: a pre-tokenizer step or merge in the wrong order, an added token matched at the wrong
 * place, \s and \w of the wrong engine, a character cut in two on its way out, quadratic time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "launcher/text/tokenizer.h"
#include "tests/support/data.h"

static const char *const names[] = {"gpt2",      "llama3",     "qwen2", "qwen35",          "smollm",
                                    "command-r", "deepseek",   "o200k", "tekken",          "neox",
                                    "llama2",    "llama2-new", "gemma", "stray-metaspace", "stray-words"};
enum { N_NAMES = sizeof names / sizeof names[0] };

typedef struct text {
    char *data;
    size_t n;
} text;

/* "KEY" as it is, or "KEY_hex" in hex (texts with U+0000). */
static text text_of(const cJSON *line, const char *key) {
    char hex_key[64];
    const cJSON *plain = cJSON_GetObjectItemCaseSensitive(line, key);
    if (plain != NULL)
        return (text){strdup(plain->valuestring), strlen(plain->valuestring)};
    snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    const char *hex = cJSON_GetObjectItemCaseSensitive(line, hex_key)->valuestring;
    text t = {calloc(strlen(hex) / 2 + 1, 1), strlen(hex) / 2};
    for (size_t i = 0; i < t.n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        t.data[i] = (char)byte;
    }
    return t;
}

static int32_t *ids_of(const cJSON *line, const char *key, size_t *n_out) {
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(line, key), *item;
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof *ids);
    *n_out = 0;
    cJSON_ArrayForEach(item, array) ids[(*n_out)++] = item->valueint;
    return ids;
}

typedef void (*line_check)(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where);

static void each_line(const char *name, const char *file, const cdp_tokenizer *tokenizer, line_check check) {
    char path[512], where[600];
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s/%s", name, file);
    FILE *stream = fopen(test_path(path), "r");
    char *line = NULL;
    size_t room = 0;
    assert_non_null(stream);
    for (int number = 1; getline(&line, &room, stream) > 0; number++) {
        cJSON *json = cJSON_Parse(line);
        assert_non_null(json);
        snprintf(where, sizeof where, "%s:%d", path, number);
        check(tokenizer, json, where);
        cJSON_Delete(json);
    }
    free(line);
    fclose(stream);
}

static void check_ids(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where, text t,
                      bool with_special) {
    size_t n_want, n_got;
    int32_t *want = ids_of(line, with_special ? "ids" : "ids_no_special", &n_want), *got = NULL;
    assert_int_equal(cdp_tokenizer_encode(tokenizer, t.data, t.n, with_special, &got, &n_got), CDP_OK);
    if (n_got != n_want || (n_got > 0 && memcmp(got, want, n_got * sizeof *got) != 0)) {
        size_t at = 0;
        while (at < n_got && at < n_want && got[at] == want[at])
            at++;
        fail_msg(
            "%s: \"%.80s\": %zu ids, expected %zu; the first that differs is number %zu: %d, expected %d",
            where, t.data, n_got, n_want, at, at < n_got ? got[at] : -1, at < n_want ? want[at] : -1);
    }
    free(got);
    free(want);
}

static void check_text(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where, bool skip) {
    size_t n_ids, n_got;
    char *got = NULL;
    int32_t *ids = ids_of(line, "ids", &n_ids);
    const text want = text_of(line, skip ? "decoded_skip_special" : "decoded");
    assert_int_equal(cdp_tokenizer_decode(tokenizer, ids, n_ids, skip, &got, &n_got), CDP_OK);
    if (n_got != want.n || memcmp(got, want.data, n_got) != 0)
        fail_msg("%s: decoded \"%.100s\", expected \"%.100s\"", where, got, want.data);
    free(want.data);
    free(got);
    free(ids);
}

static void check_vector(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where) {
    const text t = text_of(line, "text");
    check_ids(tokenizer, line, where, t, true);
    check_ids(tokenizer, line, where, t, false);
    check_text(tokenizer, line, where, false);
    check_text(tokenizer, line, where, true);
    free(t.data);
}

static void check_stream(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where) {
    cdp_detokenizer stream;
    size_t n_ids, n;
    char *piece;
    int32_t *ids = ids_of(line, "ids", &n_ids);
    const cJSON *pieces = cJSON_GetObjectItemCaseSensitive(line, "pieces");
    cdp_detokenizer_start(&stream, tokenizer,
                          cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, "skip_special")));
    for (size_t i = 0; i < n_ids; i++) {
        const char *want = cJSON_GetArrayItem(pieces, (int)i)->valuestring;
        assert_int_equal(cdp_detokenizer_push(&stream, ids[i], &piece, &n), CDP_OK);
        if (n != strlen(want) || (n > 0 && memcmp(piece, want, n) != 0))
            fail_msg("%s: piece %zu is \"%.*s\", expected \"%s\"", where, i, (int)n,
                     piece != NULL ? piece : "", want);
        free(piece);
    }
    const char *want = cJSON_GetObjectItemCaseSensitive(line, "flush")->valuestring;
    assert_int_equal(cdp_detokenizer_flush(&stream, &piece, &n), CDP_OK);
    if (n != strlen(want) || (n > 0 && memcmp(piece, want, n) != 0))
        fail_msg("%s: flush gives \"%.*s\", expected \"%s\"", where, (int)n, piece != NULL ? piece : "",
                 want);
    free(piece);
    free(ids);
}

static cdp_tokenizer *open_named(const char *name) {
    char path[512];
    cdp_tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s", name);
    if (cdp_tokenizer_open(&tokenizer, test_path(path)) != CDP_OK)
        fail_msg("%s: %s", name, cdp_error_message());
    return tokenizer;
}

static void test_vectors(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        cdp_tokenizer *tokenizer = open_named(names[i]);
        each_line(names[i], "vectors.jsonl", tokenizer, check_vector);
        each_line(names[i], "nul.jsonl", tokenizer, check_vector);
        cdp_tokenizer_close(tokenizer);
    }
}

typedef struct agreement {
    int n_lines, n_equal;
} agreement;
static agreement newer;

static void count_vector(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where) {
    const text t = text_of(line, "text");
    size_t n_want, n_got;
    int32_t *want = ids_of(line, "ids", &n_want), *got = NULL;
    (void)where;
    assert_int_equal(cdp_tokenizer_encode(tokenizer, t.data, t.n, true, &got, &n_got), CDP_OK);
    newer.n_lines++;
    newer.n_equal += n_got == n_want && (n_got == 0 || memcmp(got, want, n_got * sizeof *got) == 0);
    free(got);
    free(want);
    free(t.data);
}

/* Characters of Unicode 15 and 16: equal ids need tables as new as the reference's, so they are only counted.
 */
static void test_new_unicode(void **state) {
    (void)state;
    newer = (agreement){0};
    for (int i = 0; i < N_NAMES; i++) {
        cdp_tokenizer *tokenizer = open_named(names[i]);
        each_line(names[i], "new_unicode.jsonl", tokenizer, count_vector);
        cdp_tokenizer_close(tokenizer);
    }
    assert_true(newer.n_lines > 100);
    printf("new characters: %d of %d texts have the reference's ids\n", newer.n_equal, newer.n_lines);
}

static void test_streams(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES - 1; i++) { /* the last one has no streams */
        cdp_tokenizer *tokenizer = open_named(names[i]);
        each_line(names[i], "stream.jsonl", tokenizer, check_stream);
        cdp_tokenizer_close(tokenizer);
    }
}

/* The embedded model's prompts. */
static void test_embedded(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    assert_int_equal(cdp_tokenizer_open(&tokenizer, test_path("examples/shakespeare")), CDP_OK);
    FILE *file = fopen(test_path("tests/golden/shakespeare/golden_texts.json"), "r");
    char bytes[65536] = "";
    assert_true(fread(bytes, 1, sizeof bytes - 1, file) > 0);
    fclose(file);
    cJSON *list = cJSON_Parse(bytes), *line;
    assert_int_equal(cJSON_GetArraySize(list), 4);
    cJSON_ArrayForEach(line, list) {
        const text t = text_of(line, "text");
        check_ids(tokenizer, line, "golden_texts.json", t, true);
        free(t.data);
    }
    cJSON_Delete(list);
    cdp_tokenizer_close(tokenizer);
}

/* A long run of one character: merges must not be quadratic (this would take hours). */
static void test_long_run(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = open_named("gpt2");
    const size_t n = 300000;
    char *run = malloc(n);
    int32_t *ids;
    size_t n_ids, n_text;
    char *back;
    memset(run, 'a', n);
    assert_int_equal(cdp_tokenizer_encode(tokenizer, run, n, true, &ids, &n_ids), CDP_OK);
    assert_int_equal(cdp_tokenizer_decode(tokenizer, ids, n_ids, false, &back, &n_text), CDP_OK);
    assert_int_equal(n_text, n);
    assert_memory_equal(back, run, n);
    free(back);
    free(ids);
    free(run);
    cdp_tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_streams),  cmocka_unit_test(test_new_unicode),
        cmocka_unit_test(test_embedded), cmocka_unit_test(test_long_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
