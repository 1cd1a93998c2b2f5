/* Texts of which a part is a user's: what is written there never becomes a special token, and everything else
 * gets the ids it would get as one text (chat.jsonl: the reference library's).
 *
 * What it catches: a special token found in a user's words, or put together across a border; parts that are
 * tokenised apart; a plain added token that is not found any more; a normalizer that loses whose text it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <utf8proc.h>

#include "launcher/text/normalize.h"
#include "launcher/text/tokenizer.h"
#include "launcher/text/utf8.h"
#include "tests/support/data.h"
#include "tests/support/random.h"

static const char *const names[] = {"llama3", "qwen2", "llama2", "gemma"};
enum { N_NAMES = sizeof names / sizeof names[0], MAX_PARTS = 16 };

static cdp_tokenizer *open_named(const char *name) {
    char path[512];
    cdp_tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s", name);
    if (cdp_tokenizer_open(&tokenizer, test_path(path)) != CDP_OK)
        fail_msg("%s: %s", name, cdp_error_message());
    return tokenizer;
}

static cdp_text_part part_of(const char *text, bool may_be_special) {
    return (cdp_text_part){text, strlen(text), may_be_special};
}

static void check_line(const cdp_tokenizer *tokenizer, const cJSON *line, const char *where) {
    const cJSON *spans = cJSON_GetObjectItemCaseSensitive(line, "spans"), *span;
    const cJSON *want = cJSON_GetObjectItemCaseSensitive(line, "ids"), *id;
    cdp_text_part parts[MAX_PARTS];
    size_t n_parts = 0, n_ids, i = 0;
    int32_t *ids;
    cJSON_ArrayForEach(span, spans) {
        assert_true(n_parts < MAX_PARTS);
        parts[n_parts++] =
            part_of(span->child->next->valuestring, strcmp(span->child->valuestring, "template") == 0);
    }
    assert_int_equal(cdp_tokenizer_encode_parts(tokenizer, parts, n_parts, &ids, &n_ids), CDP_OK);
    if (n_ids != (size_t)cJSON_GetArraySize(want))
        fail_msg("%s: %zu ids, expected %d", where, n_ids, cJSON_GetArraySize(want));
    cJSON_ArrayForEach(id, want) {
        if (ids[i] != id->valueint)
            fail_msg("%s: id %zu is %d, expected %d", where, i, ids[i], id->valueint);
        i++;
    }
    free(ids);
}

static void test_conversations(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        char path[512], where[600];
        cdp_tokenizer *tokenizer = open_named(names[i]);
        snprintf(path, sizeof path, "tests/golden/tokenizers/%s/chat.jsonl", names[i]);
        FILE *stream = fopen(test_path(path), "r");
        char *line = NULL;
        size_t room = 0;
        int number = 0;
        assert_non_null(stream);
        while (getline(&line, &room, stream) > 0) {
            cJSON *json = cJSON_Parse(line);
            snprintf(where, sizeof where, "%s:%d", path, ++number);
            check_line(tokenizer, json, where);
            cJSON_Delete(json);
        }
        assert_true(number > 5);
        free(line);
        fclose(stream);
        cdp_tokenizer_close(tokenizer);
    }
}

/* How many special ids the parts give. */
static int count_special(const cdp_tokenizer *tokenizer, const cdp_text_part *parts, size_t n_parts) {
    int32_t *ids;
    size_t n;
    int count = 0;
    assert_int_equal(cdp_tokenizer_encode_parts(tokenizer, parts, n_parts, &ids, &n), CDP_OK);
    for (size_t i = 0; i < n; i++)
        count += cdp_tokenizer_is_special(tokenizer, ids[i]);
    free(ids);
    return count;
}

/* Every special token, said by a user: alone, in words, and cut in two at every place. */
static void test_every_special(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        cdp_tokenizer *tokenizer = open_named(names[i]);
        int n_special = 0;
        for (int32_t id = 0; id < cdp_tokenizer_size(tokenizer); id++) {
            size_t n;
            const char *text = cdp_tokenizer_bytes(tokenizer, id, &n);
            if (!cdp_tokenizer_is_special(tokenizer, id))
                continue;
            n_special++;
            const cdp_text_part told = {text, n, false}, written = {text, n, true};
            const cdp_text_part around[] = {written, part_of(" say ", false), told, part_of("!", false),
                                            written};
            assert_int_equal(count_special(tokenizer, &told, 1), 0);
            assert_int_equal(count_special(tokenizer, &written, 1), 1);
            assert_int_equal(count_special(tokenizer, around, 5), 2);
            for (size_t cut = 1; cut < n; cut++) {
                const cdp_text_part begun[] = {{text, cut, true}, {text + cut, n - cut, false}};
                const cdp_text_part ended[] = {{text, cut, false}, {text + cut, n - cut, true}};
                const cdp_text_part both[] = {{text, cut, true}, {text + cut, n - cut, true}};
                assert_int_equal(count_special(tokenizer, begun, 2), 0);
                assert_int_equal(count_special(tokenizer, ended, 2), 0);
                assert_int_equal(count_special(tokenizer, both, 2), 1);
            }
        }
        assert_true(n_special > 3);
        cdp_tokenizer_close(tokenizer);
    }
}

typedef struct normal_case {
    const char *json, *text, *foreign, *want, *want_foreign;
} normal_case;

#define REPLACE(pattern, content) "{\"type\":\"Replace\",\"pattern\":" pattern ",\"content\":\"" content "\"}"

/* Whose text it is after each kind of step ('u': a user's). */
static void test_marks(void **state) {
    (void)state;
    static const normal_case cases[] = {
        {"{\"type\":\"NFC\"}", "ab", "tu", "ab", "tu"},
        {"{\"type\":\"NFC\"}", "e\xCC\x81x", "tuut", "\xC3\xA9x", "uut"},
        {"{\"type\":\"NFC\"}", "e\xCC\x81x", "uttu", "\xC3\xA9x", "uuu"},
        {"{\"type\":\"NFC\"}", ">\xCC\xB8", "tuu", "\xE2\x89\xAF", "uuu"},
        {"{\"type\":\"NFC\"}", "<\xCC\x81", "tuu", "<\xCC\x81", "tuu"},
        {"{\"type\":\"NFD\"}", "x\xC3\xA9", "tuu", "xe\xCC\x81", "tuuu"},
        {"{\"type\":\"NFKC\"}", "\xEF\xBC\x9C", "uuu", "<", "u"},
        {"{\"type\":\"NFKD\"}", "\xEF\xAC\x81z", "uuut", "fiz", "uut"},
        {"{\"type\":\"Lowercase\"}",
         "A\xC4\xB0"
         "B",
         "tuut",
         "ai\xCC\x87"
         "b",
         "tuuut"},
        {"{\"type\":\"Strip\"}", " a\xC2\xA0", "uttt", "a", "t"},
        {"{\"type\":\"Strip\",\"strip_right\":false}", " a ", "tut", "a ", "ut"},
        {"{\"type\":\"Strip\",\"strip_left\":false}", "  ", "tu", "", ""},
        {"{\"type\":\"Prepend\",\"prepend\":\"--\"}", "ab", "ut", "--ab", "uuut"},
        {"{\"type\":\"Prepend\",\"prepend\":\"--\"}", "", "", "", ""},
        {REPLACE("{\"String\":\"bb\"}", "xyz"), "abbbc", "ttutt", "axyzbc", "tuuutt"},
        {REPLACE("{\"Regex\":\"[0-9]+\"}", "#"), "1a22", "utut", "#a#", "utu"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"},{\"type\":\"Prepend\",\"prepend\":"
         "\"_\"}]}",
         "AB", "tu", "_ab", "ttu"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const normal_case *c = &cases[i];
        cdp_normalizer normalizer = {0};
        cdp_normal_text out;
        cdp_regex_work work = {.n_bytes = 16};
        char marks[16], got[16] = "";
        const size_t n = strlen(c->text);
        cJSON *json = cJSON_Parse(c->json);
        assert_non_null(json);
        assert_int_equal(cdp_normalizer_open(&normalizer, "test", json), CDP_OK);
        for (size_t k = 0; k < n; k++)
            marks[k] = c->foreign[k] == 'u';
        assert_int_equal(cdp_normalizer_run(&normalizer, (cdp_text){c->text, n, marks, true}, &work, &out),
                         CDP_OK);
        assert_int_equal(out.text.n, strlen(c->want));
        assert_memory_equal(out.text.data, c->want, out.text.n);
        for (size_t k = 0; k < out.text.n; k++)
            got[k] = out.text.foreign[k] ? 'u' : 't';
        if (strcmp(got, c->want_foreign) != 0)
            fail_msg("case %zu: marks %s, expected %s", i, got, c->want_foreign);
        cdp_normal_text_free(&out);
        /* Without marks, the same text. */
        assert_int_equal(cdp_normalizer_run(&normalizer, (cdp_text){c->text, n, NULL, true}, &work, &out),
                         CDP_OK);
        assert_int_equal(out.text.n, strlen(c->want));
        assert_memory_equal(out.text.data, c->want, out.text.n);
        assert_null(out.text.foreign);
        cdp_normal_text_free(&out);
        cdp_regex_work_free(&work);
        cdp_normalizer_close(&normalizer);
        cJSON_Delete(json);
    }
}

/* The four forms of random letters and marks, against the library's own way. */
static void test_forms(void **state) {
    (void)state;
    static const char *const kinds[] = {"NFC", "NFD", "NFKC", "NFKD"};
    static const int options[] = {UTF8PROC_COMPOSE, UTF8PROC_DECOMPOSE, UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                  UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    static const uint32_t codes[] = {'a',     'e',    ' ',    0xE9,   0x301,  0x323,  0x302,  0x31B,
                                     0x345,   0x5B0,  0x5B1,  0x1EB1, 0x3099, 0x304B, 0xAC00, 0x11A8,
                                     0x1100,  0x1161, 0x2126, 0xFB01, 0xFDFA, 0x958,  0x93C,  0xF900,
                                     0x1D15E, 0x4E00, 0x20AC, 0x9BE,  0x9C7,  0x1F600};
    test_random random = {9};
    for (int round = 0; round < 4000; round++) {
        char json[64];
        cdp_bytes text = {0};
        cdp_normalizer normalizer = {0};
        cdp_normal_text out;
        cdp_regex_work work = {0};
        utf8proc_uint8_t *want = NULL;
        for (int i = test_random_below(&random, 12); i >= 0; i--)
            cdp_utf8_add(&text, codes[test_random_below(&random, sizeof codes / sizeof codes[0])]);
        snprintf(json, sizeof json, "{\"type\":\"%s\"}", kinds[round % 4]);
        cJSON *root = cJSON_Parse(json);
        assert_int_equal(cdp_normalizer_open(&normalizer, "test", root), CDP_OK);
        assert_int_equal(
            cdp_normalizer_run(&normalizer, (cdp_text){text.data, text.n, NULL, true}, &work, &out), CDP_OK);
        const utf8proc_ssize_t n =
            utf8proc_map((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.n, &want,
                         (utf8proc_option_t)(UTF8PROC_STABLE | options[round % 4]));
        if (out.text.n != (size_t)n || memcmp(out.text.data, want, out.text.n) != 0)
            fail_msg("round %d, %s of \"%s\": \"%s\", expected \"%s\"", round, kinds[round % 4], text.data,
                     out.text.data, (const char *)want);
        free(want);
        cdp_normal_text_free(&out);
        cdp_normalizer_close(&normalizer);
        cJSON_Delete(root);
        free(text.data);
    }
}

/* Half a million marks out of order behind one letter: sorting them must not be quadratic (hours). */
static void test_many_marks(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = open_named("qwen2");
    cdp_bytes text = {0};
    int32_t *ids;
    size_t n_ids;
    cdp_bytes_add(&text, "e", 1);
    for (int i = 0; i < 250000; i++)
        cdp_bytes_add(&text, "\xCC\x81\xCC\xA3", 4);
    assert_int_equal(cdp_tokenizer_encode(tokenizer, text.data, text.n, false, &ids, &n_ids), CDP_OK);
    assert_true(n_ids > 1000);
    free(ids);
    free(text.data);
    cdp_tokenizer_close(tokenizer);
}

/* Blanks that are tokens themselves and take the blanks behind them: each run is looked through once. */
static void test_many_blanks(void **state) {
    (void)state;
    static const char json[] =
        "{\"decoder\":{\"type\":\"Fuse\"},\"added_tokens\":[{\"id\":1,\"content\":\"\\n\",\"rstrip\":"
        "true}],\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}";
    const size_t n = 1000000;
    char *text = malloc(n);
    cdp_tokenizer *tokenizer;
    int32_t *ids;
    size_t n_ids;
    assert_non_null(text);
    memset(text, '\n', n);
    assert_int_equal(cdp_tokenizer_parse(&tokenizer, "tokenizer.json", json, sizeof json - 1), CDP_OK);
    assert_int_equal(cdp_tokenizer_encode(tokenizer, text, n, false, &ids, &n_ids), CDP_OK);
    assert_true(n_ids > 0);
    free(ids);
    free(text);
    cdp_tokenizer_close(tokenizer);
}

/* Nothing at all, and bytes that are no UTF-8 at a border: neither side completes the other's character. */
static void test_borders(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = open_named("llama3");
    int32_t *ids;
    size_t n;
    char *text;
    assert_int_equal(cdp_tokenizer_encode_parts(tokenizer, NULL, 0, &ids, &n), CDP_OK);
    assert_int_equal(n, 0);
    free(ids);
    const cdp_text_part halves[] = {part_of("\xE2\x82", true), part_of("", false), part_of("\xAC", false)};
    assert_int_equal(cdp_tokenizer_encode_parts(tokenizer, halves, 3, &ids, &n), CDP_OK);
    assert_int_equal(cdp_tokenizer_decode(tokenizer, ids, n, false, &text, &n), CDP_OK);
    assert_string_equal(text, "\xEF\xBF\xBD\xEF\xBF\xBD");
    free(text);
    free(ids);
    cdp_tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversations), cmocka_unit_test(test_every_special),
        cmocka_unit_test(test_marks),         cmocka_unit_test(test_borders),
        cmocka_unit_test(test_forms),         cmocka_unit_test(test_many_marks),
        cmocka_unit_test(test_many_blanks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
