/* What a tokenizer.json may hold and what it means, on small files made here.
 *
 * What it catches: U+0000 in a token, bytes without one, merges given twice, blanks taken from both sides of
 * an added token, the shorter of two that begin at one place; and a file that is loaded though a part of it
 * is unknown or wrong, or whose error does not say which.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "launcher/text/buffer.h"
#include "launcher/text/tokenizer.h"
#include "tests/support/data.h"

static void expect_ids(const cdp_tokenizer *tokenizer, const char *from, size_t n, const int32_t *want,
                       size_t n_want) {
    int32_t *got;
    size_t n_got;
    assert_int_equal(cdp_tokenizer_encode(tokenizer, from, n, true, &got, &n_got), CDP_OK);
    assert_int_equal(n_got, n_want);
    assert_memory_equal(got, want, n_want * sizeof *want);
    free(got);
}

/* A token may hold U+0000, written as an escape; texts keep their lengths. */
static void test_nul_token(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    static const int32_t want[] = {2, 3};
    static const char json[] = "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"vocab\":{\"a\":0,\"\\u0000\":1,"
                               "\"a\\u0000a\":2,\"a\\u0000\":3},\"merges\":[[\"a\",\"\\u0000\"],"
                               "[\"a\\u0000\",\"a\"]]}}";
    assert_int_equal(cdp_tokenizer_parse(&tokenizer, "tokenizer.json", json, sizeof json - 1), CDP_OK);
    expect_ids(tokenizer, "a\0aa\0", 5, want, 2);
    cdp_tokenizer_close(tokenizer);
}

/* Sequences in sequences, ten thousand deep: refused, not followed. */
static void test_deep(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    cdp_bytes json = {0};
    static const char open[] = "{\"type\":\"Sequence\",\"normalizers\":[", start[] = "{\"normalizer\":";
    cdp_bytes_add(&json, start, sizeof start - 1);
    for (int i = 0; i < 10000; i++)
        cdp_bytes_add(&json, open, sizeof open - 1);
    assert_int_equal(cdp_tokenizer_parse(&tokenizer, "tokenizer.json", json.data, json.n), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "deep"));
    cdp_error_clear();
    free(json.data);
}

/* Four million merges and one. */
static void test_too_many(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    cdp_bytes json = {0};
    static const char start[] =
        "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[";
    cdp_bytes_add(&json, start, sizeof start - 1);
    for (int i = 0; i <= 1 << 22; i++)
        cdp_bytes_add(&json, "\"a a\",", 6);
    cdp_bytes_add(&json, "\"a a\"]}}", 8);
    assert_int_equal(cdp_tokenizer_parse(&tokenizer, "tokenizer.json", json.data, json.n), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "more than 4194304 merges"));
    cdp_error_clear();
    free(json.data);
}

/* What surrounds a model in a file that loads. */
#define HEAD                                                                                                 \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":"           \
    "\"ByteLevel\"},"

/* Copy `from` to a stream with every '@' as the 256 tokens of the bytes, ids 0 to 255; '$' leaves out 04 and
 * F1, '~' the letter Z. */
static void put_json(FILE *stream, const char *from) {
    for (; *from != '\0'; from++) {
        if (strchr("@$~", *from) == NULL) {
            fputc(*from, stream);
            continue;
        }
        for (int byte = 0, other = 256; byte < 256; byte++) {
            const bool is_own = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
            const int code = is_own ? byte : other++;
            if ((*from == '$' && (byte == 0x04 || byte == 0xF1)) || (*from == '~' && byte == 'Z'))
                continue;
            fprintf(stream, "%s\"\\u%04x\":%d", byte > 0 ? "," : "", (unsigned)code, byte);
        }
    }
}

/* A tokenizer.json made of its own text. */
static cdp_status open_text(cdp_tokenizer **out, const char *json) {
    char dir[256], path[300];
    static int number;
    snprintf(dir, sizeof dir, "%s/tokenizer-%d", test_temp_dir(), number++);
    assert_int_equal(mkdir(dir, 0777), 0);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    FILE *file = fopen(path, "w");
    put_json(file, json);
    fclose(file);
    cdp_error_clear();
    return cdp_tokenizer_open(out, dir);
}

/* Rare bytes without a token vanish, as in the reference; the text around them stays. */
static void test_missing_bytes(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    assert_int_equal(open_text(&tokenizer, "{" HEAD "\"model\":{\"vocab\":{$},\"merges\":[]}}"), CDP_OK);
    static const int32_t want[] = {'a', 'b', 0x90, 0x80, 0x80};
    expect_ids(tokenizer,
               "a\x04"
               "b\xF1\x90\x80\x80",
               7, want, 5);
    cdp_tokenizer_close(tokenizer);
}

/* Bytes that are no UTF-8 count as U+FFFD (EF BF BD), one a maximal subpart. */
static void test_bad_utf8(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    assert_int_equal(open_text(&tokenizer, "{" HEAD "\"model\":{\"vocab\":{@},\"merges\":[]}}"), CDP_OK);
    static const int32_t two[] = {'a', 0xEF, 0xBF, 0xBD, 0xEF, 0xBF, 0xBD, 'b'};
    static const int32_t one[] = {'a', 0xEF, 0xBF, 0xBD, 'b'};
    expect_ids(tokenizer,
               "a\xFF\xC0"
               "b",
               4, two, 8);
    expect_ids(tokenizer,
               "a\xF0\x9F\x98"
               "b",
               5, one, 5);
    expect_ids(tokenizer, "a\xE2\x82", 3, one, 4);
    expect_ids(tokenizer, "", 0, NULL, 0);
    cdp_tokenizer_close(tokenizer);
}

/* Two merges of one pair: the reference keeps the last rank. */
static void test_duplicate_merges(void **state) {
    (void)state;
    static const char *const merges[] = {"\"a b\",\"b c\"", "\"a b\",\"b c\",\"a b\"",
                                         "\"#version: 0.2\",[\"a\",\"b\"],\"b c\""};
    static const int32_t want[][2] = {{256, 'c'}, {'a', 257}, {256, 'c'}};
    for (int i = 0; i < 3; i++) {
        cdp_tokenizer *tokenizer = NULL;
        char json[512];
        snprintf(json, sizeof json,
                 "{" HEAD "\"model\":{\"vocab\":{@,\"ab\":256,\"bc\":257},\"merges\":[%s]}}", merges[i]);
        assert_int_equal(open_text(&tokenizer, json), CDP_OK);
        expect_ids(tokenizer, "abc", 3, want[i], 2);
        cdp_tokenizer_close(tokenizer);
    }
}

/* Blanks that rstrip takes are searched for tokens all the same; lstrip takes none that are taken. */
static void test_strips(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    assert_int_equal(
        open_text(
            &tokenizer,
            "{\"added_tokens\":[{\"id\":300,\"content\":\"<x>\",\"rstrip\":true},{\"id\":301,\"content\":"
            "\"\\n\"},{\"id\":302,\"content\":\"\\t\",\"lstrip\":true},{\"id\":303,\"content\":\"ww\","
            "\"single_word\":true}]," HEAD "\"model\":{\"vocab\":{@},\"merges\":[]}}"),
        CDP_OK);
    static const int32_t plain[] = {300, 'a'}, newline[] = {300, 301, 'a'}, tab[] = {300, 'a'},
                         left[] = {'a', 302}, word[] = {303, ' ', 'w', 'w', 'w', '-', 303};
    expect_ids(tokenizer, "<x> a", 5, plain, 2);
    expect_ids(tokenizer, "<x> \na", 6, newline, 3);
    expect_ids(tokenizer, "<x> \ta", 6, tab, 2);
    expect_ids(tokenizer, "a \t", 3, left, 2);
    expect_ids(tokenizer, "ww www-ww", 9, word, 7);
    cdp_tokenizer_close(tokenizer);
}

/* The longest of the tokens that begin at one place; and ids of the post-processor on both sides. */
static void test_longest_and_template(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    assert_int_equal(
        open_text(
            &tokenizer,
            "{\"added_tokens\":[{\"id\":300,\"content\":\"<x>\"},{\"id\":301,\"content\":\"<x>yz\"},"
            "{\"id\":302,\"content\":\"<x>y\"}],\"post_processor\":{\"type\":\"TemplateProcessing\","
            "\"single\":[{\"SpecialToken\":{\"id\":\"B\"}},{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":"
            "{\"id\":\"E\"}}],\"special_tokens\":{\"B\":{\"id\":\"B\",\"ids\":[300]},\"E\":{\"id\":\"E\","
            "\"ids\":[301,302]}}}," HEAD "\"model\":{\"vocab\":{@},\"merges\":[]}}"),
        CDP_OK);
    static const int32_t want[] = {300, 302, 301, 300, 'z', 301, 302};
    expect_ids(tokenizer, "<x>y<x>yz<x>z", 13, want, 7);
    cdp_tokenizer_close(tokenizer);
}

typedef struct refused_case {
    const char *json, *holds;
} refused_case;

#define BPE "\"model\":{\"type\":\"BPE\",\"vocab\":{@,\"ab\":256},\"merges\":[\"a b\"]}"
#define MODEL(vocab, rest) "{" HEAD "\"model\":{\"vocab\":{" vocab "}," rest "}}"
#define ADDED(list) "{\"added_tokens\":[" list "]," HEAD BPE "}"
#define PRE(json) "{\"pre_tokenizer\":" json ",\"decoder\":{\"type\":\"ByteLevel\"}," BPE "}"
#define DECODER(json) "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":" json "," BPE "}"
#define POST(json) "{\"post_processor\":" json "," HEAD BPE "}"

static const refused_case refused[] = {
    {"[]", "object"},
    {"{" HEAD "\"model\":{\"type\":\"Unigram\",\"vocab\":[],\"unk_id\":0}}", "Unigram"},
    {"{" HEAD "\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "WordPiece"},
    {"{\"version\":\"2.0\"," HEAD BPE "}", "version"},
    {"{\"normalizer\":{\"type\":\"Nmt\"}," HEAD BPE "}", "Nmt"},
    {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Precompiled\"}]}"
     "," HEAD BPE "}",
     "Precompiled"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}," HEAD BPE "}",
     "Replace"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}," HEAD BPE "}",
     "offset 1"},
    {"{\"normalizer\":{\"type\":\"Prepend\"}," HEAD BPE "}", "Prepend"},
    {"{\"normalizer\":{\"type\":\"Strip\",\"strip_left\":1}," HEAD BPE "}", "strip_left"},
    {PRE("{\"type\":\"Metaspace\"}"), "replacement"},
    {PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"), "prepend_scheme"},
    {PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"add_prefix_space\":"
         "false}"),
     "add_prefix_space"},
    {PRE("{\"type\":\"BertPreTokenizer\"}"), "BertPreTokenizer"},
    {PRE("{\"type\":\"Punctuation\",\"behavior\":\"Gone\"}"), "Gone"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}"),
     "Digits"},
    {PRE("{\"type\":\"ByteLevel\",\"use_regex\":1}"), "use_regex"},
    {PRE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Gone\"}"), "Gone"},
    {PRE("{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\"}"), "pattern"},
    {PRE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}"), "offset 2"},
    {PRE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-z&&[^b]]\"},\"behavior\":\"Isolated\"}"), "&&"},
    {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"WordPiece\"}," BPE "}",
     "WordPiece"},
    {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," BPE "}", "decoder"},
    {DECODER("{\"type\":\"Sequence\",\"decoders\":[]}"), "empty"},
    {DECODER("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteLevel\"}]}"),
     "ByteLevel"},
    {DECODER("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Strip\",\"content\":\" "
             "\",\"start\":1},{\"type\":\"Fuse\"}]}"),
     "Strip"},
    {DECODER("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
             "\",\"stop\":1}]}"),
     "end of a text"},
    {DECODER("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}"), "pattern"},
    {DECODER("{\"type\":\"CTC\"}"), "CTC"},
    {MODEL("@,\"ab\":-1", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":256.5", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":\"256\"", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":16777216", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":2147483648", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":97", "\"merges\":[]"), "id 97"},
    {MODEL("@,\"\":256", "\"merges\":[]"), "empty"},
    {MODEL("\"a\":0", "\"merges\":[]"), "byte 0xBF"},
    {MODEL("~", "\"merges\":[]"), "byte 0x5A"},
    {MODEL("@", "\"merges\":{}"), "merges"},
    {MODEL("@", "\"merges\":[\"a\"]"), "merge 0"},
    {MODEL("@,\"ab\":256", "\"merges\":[\"a b\",\"a b c\"]"), "merge 1"},
    {MODEL("@,\"ab\":256", "\"merges\":[[\"a\",\"b\",\"c\"]]"), "merge 0"},
    {MODEL("@,\"ab\":256", "\"merges\":[[\"a\",\"\"]]"), "merge 0"},
    {MODEL("@", "\"merges\":[[\"a\",\"b\"]]"), "merge 0: \"ab\""},
    {MODEL("@,\"abc\":256", "\"merges\":[\"ab c\"]"), "merge 0"},
    {MODEL("@", "\"merges\":[],\"dropout\":0.1"), "dropout"},
    {MODEL("@", "\"merges\":[],\"byte_fallback\":1"), "byte_fallback"},
    {MODEL("@,\"<0xZZ>\":256", "\"merges\":[],\"byte_fallback\":true"), "<0xZZ>"},
    {MODEL("@,\"<0x-1>\":256", "\"merges\":[],\"byte_fallback\":true"), "<0x-1>"},
    {MODEL("@,\"<0x>\":256", "\"merges\":[],\"byte_fallback\":true"), "<0x>"},
    {MODEL("@,\"ab\":256,\"ab\":257", "\"merges\":[]"), "appears twice"},
    {MODEL("@,\"a\\ud800b\":256", "\"merges\":[]"), "surrogate"},
    {MODEL("@,\"a\xFF\":256", "\"merges\":[]"), "UTF-8"},
    {MODEL("@,\"a\\q\":256", "\"merges\":[]"), "escape"},
    {MODEL("@,\"ab\":256,", "\"merges\":[]"), "string"},
    {MODEL("@,\"ab\":01", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":[256]", "\"merges\":[]"), "\"ab\""},
    {MODEL("@,\"ab\":16777215", "\"merges\":[]"), "16777215"},
    {MODEL("@", "\"merges\":[],\"merges\":[]"), "twice"},
    {MODEL("@,\"ab\":256", "\"merges\":[\"a b\",]"), "expected a string"},
    {MODEL("@,\"ab\":256", "\"merges\":[[\"a\",\"b\"],[]]"), "merge 1"},
    {MODEL("@,\"ab\":256", "\"merges\":[[[\"a\"],\"b\"]]"), "merge 0"},
    {MODEL("@,\"ab\":256", "\"merges\":[{\"a\":\"b\"}]"), "string"},
    {MODEL("@", "\"merges\":[],\"continuing_subword_prefix\":\"##\""), "continuing_subword_prefix"},
    {MODEL("@", "\"merges\":[],\"end_of_word_suffix\":\"</w>\""), "end_of_word_suffix"},
    {MODEL("@", "\"merges\":[],\"unk_token\":\"<unk>\""), "<unk>"},
    {ADDED("{\"id\":300,\"content\":\"\"}"), "entry 0"},
    {ADDED("{\"id\":-1,\"content\":\"<x>\"}"), "entry 0"},
    {ADDED("{\"id\":300,\"content\":\"<x>\",\"special\":\"yes\"}"), "special"},
    {ADDED("{\"id\":97,\"content\":\"<x>\"}"), "another"},
    {ADDED("{\"id\":300,\"content\":\"ab\"}"), "another"},
    {ADDED("{\"id\":300,\"content\":\"<x>\"},{\"id\":300,\"content\":\"<y>\"}"), "<y>"},
    {ADDED("{\"id\":300,\"content\":\"<x>\"},{\"id\":301,\"content\":\"<x>\"}"), "twice"},
    {POST("{\"type\":\"RobertaProcessing\"}"), "RobertaProcessing"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{"
          "\"id\":\"A\"}}],"
          "\"special_tokens\":{}}"),
     "<s>"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{"
          "\"id\":\"A\"}}],"
          "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[999]}}}"),
     "vocabulary"},
    {POST("{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}}"), "text"},
};

static void test_refused(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = NULL;
    assert_int_equal(open_text(&tokenizer, "{" HEAD BPE "}"), CDP_OK);
    cdp_tokenizer_close(tokenizer);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (open_text(&tokenizer, refused[i].json) != CDP_BAD_MODEL ||
            strstr(cdp_error_message(), refused[i].holds) == NULL)
            fail_msg("case %zu: \"%s\" does not hold \"%s\"", i, cdp_error_message(), refused[i].holds);
        assert_null(tokenizer);
    }
    cdp_error_clear();
    assert_int_equal(cdp_tokenizer_open(&tokenizer, test_path("tests/golden")), CDP_NO_INPUT);
    cdp_error_clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nul_token),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_missing_bytes),
        cmocka_unit_test(test_bad_utf8),
        cmocka_unit_test(test_duplicate_merges),
        cmocka_unit_test(test_strips),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_longest_and_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
