/* Pieces that a pre-tokenizer's pattern cuts, against what the reference library gives for the same pattern.
 *
 * What it catches: a letter of a pattern that means something else to PCRE2 (\s, \w, \h, X{1,3}+, scripts,
 * ^), an empty match that is no border any more, two behaviours of Split mixed up, a pattern that runs away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "launcher/text/pretokenizer.h"

/* behavior: the first letter of Isolated, Removed, merged with Previous or Next, Contiguous; a capital
 * inverts. */
typedef struct split_case {
    const char *pattern;
    char behavior;
    const char *text, *pieces; /* with '|' between them */
} split_case;

static const split_case cases[] = {
    {"\\p{N}{1,3}+", 'i', "12345 6", "12345| |6"},
    {"\\p{N}{1,3}", 'i', "12345 6", "123|45| |6"},
    {"a{2}?b", 'i', "ab aab", "a|b| |aab"},
    {"a{,2}b", 'i', "aaab b", "a|aab| |b"},
    {"a++b", 'i', "aab", "aab"},
    {"(?:ab){2}+", 'i', "ababababab", "abababab|ab"},
    {"\\w+", 'i', "a\302\262\314\201 x\340\244\203-\342\221\240",
     "a\302\262\314\201| |x\340\244\203|-\342\221\240"},
    {"[\\w']+", 'i', "a\302\262'b", "a|\302\262|'b"},
    {"\\W+", 'i', "ab \302\262-c", "ab| |\302\262|-|c"},
    {"\\b", 'i', "ab, cd", "ab|, |cd"},
    {"\\B", 'i', "ab, c", "a|b,| c"},
    {"\\s+", 'i', "a\341\240\216 b\302\240\342\200\203c", "a\341\240\216| |b|\302\240\342\200\203|c"},
    {"\\S+", 'r', "a b\341\240\216c", " "},
    {"[^\\S\\n]+", 'i', "a \011\012 b", "a| \011|\012| |b"},
    {"[\\s\\S]", 'i', "a b", "a| |b"},
    {"\\p{Han}+", 'i', "a\346\274\242\345\255\227\343\200\201\346\274\242",
     "a|\346\274\242\345\255\227|\343\200\201|\346\274\242"},
    {"\\p{Katakana}+", 'i', "\343\202\242\343\203\274\343\202\242", "\343\202\242|\343\203\274|\343\202\242"},
    {"\\P{Han}+", 'i', "a\343\200\201\346\274\242", "a\343\200\201|\346\274\242"},
    {"\\p{^L}+", 'i', "ab12", "ab|12"},
    {"[\\p{Hiragana}x]+", 'i', "\343\201\202x\343\203\274", "\343\201\202x|\343\203\274"},
    {"\\h+", 'i', "xfez", "x|fe|z"},
    {"\\H+", 'i', "xfez", "x|fe|z"},
    {"\\v", 'i', "a\013\012b", "a|\013|\012b"},
    {"\\u0041\\x42\\x{43}", 'i', "ABCD", "ABC|D"},
    {"^.", 'i', "ab\012cd", "a|b\012|c|d"},
    {".$", 'i', "ab\012cd\012", "a|b|\012c|d|\012"},
    {"(?m).b", 'i', "\012b ab", "\012b| |ab"},
    {"(?i)ab", 'i', "aB ab", "aB| |ab"},
    {"(?i:a)b", 'i', "Ab AB", "Ab| AB"},
    {"(?i:'s)", 'i', "x'\305\277", "x|'\305\277"},
    {"[a-c[x-z]]+", 'i', "abxyz-d", "abxyz|-d"},
    {"[]a]+", 'i', "a]b", "a]|b"},
    {"[^]a]+", 'i', "a]bc", "a]|bc"},
    {"[a\\-z]+", 'i', "a-zb", "a-z|b"},
    {"[-a]+", 'i', "-ab", "-a|b"},
    {"[a-c-e]+", 'i', "a-ed", "a-e|d"},
    {"[[:alpha:]_]+", 'i', "a_\303\2511", "a_\303\251|1"},
    {"[\\[\\]]", 'i', "a[b]", "a|[|b|]"},
    {"a*", 'i', "baac", "b|aa|c"},
    {"x|", 'i', "abxc", "a|b|x|c"},
    {"(?=\\d{3})", 'i', "a1234", "a|1|234"},
    {"(?=(\\d{3})+(?!\\d))", 'i', "1234567", "1|234|567"},
    {"", 'i', "ab", "a|b"},
    {"\\z", 'i', "ab", "ab"},
    {"\\d", 'r', "a1b22c", "a|b|c"},
    {"\\d", 'p', "a1b22c", "a1|b2|2|c"},
    {"\\d", 'n', "a1b22c", "a|1b|2|2c"},
    {"\\d", 'c', "a1b22c", "a|1|b|22|c"},
    {"(?=\\d)", 'p', "a12", "a|1|2"},
    {"(?=\\d)", 'n', "a12", "a|1|2"},
    {"\\d", 'I', "a1b22c", "a|1|b|2|2|c"},
    {"\\d", 'R', "a1b22c", "1|2|2"},
    {"\\d", 'P', "a1b22c", "a|1b|2|2c"},
    {"\\d", 'N', "a1b22c", "a1|b2|2|c"},
    {"\\d", 'C', "a1bb22c", "a|1|bb|22|c"},
    {"(a)\\1", 'i', "aab", "aa|b"},
    {"(?<n>a)\\k<n>", 'i', "aab", "aa|b"},
    {"(?<!a)b", 'i', "ab b", "ab |b"},
    {"(?>a|ab)c", 'i', "abc ac", "abc |ac"},
    {"\\R", 'i', "a\015\012b\012", "a|\015\012|b|\012"},
    {"{a}|\\{b\\}", 'i', "{a}{b}", "{a}|{b}"},
    {"a{x}", 'i', "a{x}", "a{x}"},
};

static const char *behavior_word(char letter) {
    switch (letter | 0x20) {
    case 'i':
        return "Isolated";
    case 'r':
        return "Removed";
    case 'p':
        return "MergedWithPrevious";
    case 'n':
        return "MergedWithNext";
    default:
        return "Contiguous";
    }
}

/* A Split of one pattern, `kind` Regex or String. */
static cdp_status open_split(cdp_pretokenizer *out, const char *kind, const char *pattern, char behavior) {
    cJSON *split = cJSON_CreateObject(), *body = cJSON_AddObjectToObject(split, "pattern");
    cJSON_AddStringToObject(split, "type", "Split");
    cJSON_AddStringToObject(body, kind, pattern);
    cJSON_AddStringToObject(split, "behavior", behavior_word(behavior));
    cJSON_AddBoolToObject(split, "invert", behavior < 'a');
    cdp_error_clear();
    const cdp_status st = cdp_pretokenizer_open(out, "tokenizer.json", split);
    cJSON_Delete(split);
    return st;
}

/* The pieces with '|' between them. */
static void join(char *out, size_t out_size, const cdp_pieces *pieces) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < pieces->spans.n; i++) {
        const cdp_span s = pieces->spans.data[i];
        used += (size_t)snprintf(out + used, out_size - used, "%s%.*s", i > 0 ? "|" : "",
                                 (int)(s.end - s.begin), pieces->text + s.begin);
        assert_true(used < out_size);
    }
}

/* The pieces of a text of its own. The good patterns here take a
 * thousandth of the time that is allowed. */
static cdp_status split(const cdp_pretokenizer *p, const char *text, size_t n, cdp_pieces *pieces) {
    cdp_regex_work work = {.n_bytes = n, .allowed_s = 0.3};
    const cdp_status st =
        cdp_pretokenizer_split(p, (cdp_text){.data = text, .n = n, .is_beginning = true}, &work, pieces);
    cdp_regex_work_free(&work);
    return st;
}

static void check_pieces(const char *what, const cdp_pretokenizer *p, const char *text, const char *want) {
    cdp_pieces pieces;
    char got[256];
    assert_int_equal(split(p, text, strlen(text), &pieces), CDP_OK);
    join(got, sizeof got, &pieces);
    cdp_pieces_free(&pieces);
    if (strcmp(got, want) != 0)
        fail_msg("%s on \"%s\": \"%s\", expected \"%s\"", what, text, got, want);
}

static void test_patterns(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_pretokenizer p;
        if (open_split(&p, "Regex", cases[i].pattern, cases[i].behavior) != CDP_OK)
            fail_msg("%s: %s", cases[i].pattern, cdp_error_message());
        check_pieces(cases[i].pattern, &p, cases[i].text, cases[i].pieces);
        cdp_pretokenizer_close(&p);
    }
}

/* A String is no pattern: its signs mean themselves. */
static void test_literals(void **state) {
    (void)state;
    static const split_case literals[] = {
        {"..", 'i', "a..b.c", "a|..|b.c"}, {"(a", 'r', "x(ay", "x|y"},   {"\\s", 'i', "a\\s b", "a|\\s| b"},
        {" ", 'p', "a b c", "a |b |c"},    {"[]", 'n', "a[]b", "a|[]b"},
    };
    for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++) {
        cdp_pretokenizer p;
        assert_int_equal(open_split(&p, "String", literals[i].pattern, literals[i].behavior), CDP_OK);
        check_pieces(literals[i].pattern, &p, literals[i].text, literals[i].pieces);
        cdp_pretokenizer_close(&p);
    }
}

/* Steps that change the text: a space in front of every piece that has none. */
static void test_sequence(void **state) {
    (void)state;
    static const char json[] =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]}";
    cJSON *root = cJSON_Parse(json);
    cdp_pretokenizer p;
    assert_int_equal(cdp_pretokenizer_open(&p, "tokenizer.json", root), CDP_OK);
    cJSON_Delete(root);
    assert_true(p.is_byte_level);
    check_pieces("Digits, ByteLevel", &p, "ab12 c", " ab| 1| 2| c");
    check_pieces("Digits, ByteLevel", &p, "", "");
    cdp_pretokenizer_close(&p);
}

typedef struct kind_case {
    const char *json, *text, *pieces;
} kind_case;

/* Every kind by its words in the file. */
static void test_kinds(void **state) {
    (void)state;
    static const kind_case kinds[] = {
        {"{\"type\":\"WhitespaceSplit\"}", "a b\xE3\x80\x80 c,d\n", "a|b|c,d"},
        {"{\"type\":\"Whitespace\"}", " a_1 b.,c \xC3\xA9x\xC2\xB2", "a_1|b|.,|c|\xC3\xA9x|\xC2\xB2"},
        {"{\"type\":\"Punctuation\"}",
         "a+b\xE3\x80\x82"
         "c..",
         "a|+|b|\xE3\x80\x82|c|.|."},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}", "a[b]{c}~`d", "a|b|c|d"},
        {"{\"type\":\"Digits\"}", "ab12\xC2\xBD c", "ab|12\xC2\xBD| c"},
        {"{\"type\":\"Digits\",\"individual_digits\":true}", "ab12", "ab|1|2"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "a b  c", "_a|_b|_|_c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", " a", "_a"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "_a", "_a"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"split\":false}", "a b", "_a_b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}", "a b", "a|_b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\"}", "a b", "a|_b"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\","
         "\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]}",
         "a b", "_a|b"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\","
         "\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]}",
         " a b", "a|b"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        cdp_pretokenizer p;
        cJSON *root = cJSON_Parse(kinds[i].json);
        assert_non_null(root);
        if (cdp_pretokenizer_open(&p, "tokenizer.json", root) != CDP_OK)
            fail_msg("%s: %s", kinds[i].json, cdp_error_message());
        cJSON_Delete(root);
        check_pieces(kinds[i].json, &p, kinds[i].text, kinds[i].pieces);
        cdp_pretokenizer_close(&p);
    }
}

/* Patterns that are refused, with the offset in the file's own pattern. */
static void test_refused(void **state) {
    (void)state;
    static const char *const refused[][2] = {
        {"[a-z&&[^b]]", "offset 4"}, {"(a", "offset 2"},     {"\\s\\s(a", "offset 6"},
        {"a\\K", "offset 1"},        {"[\\W]", "offset 1"},  {"[a[^b]]", "offset 2"},
        {"a(?i)b", "offset 1"},      {"(?s).", "offset 0"},  {"(*UCP)a", "offset 0"},
        {"[abc", "offset 4"},        {"\\xE3", "offset 0"},  {"\\p{Nonsense}", "\\p"},
        {"{3}", "offset 0"},         {"[[:foo:]]", "POSIX"}, {"a\\", "offset 1"},
        {"\\p{Han", "property"},     {"(?P<n>a)", "group"},  {"(?<!a+)b", "lookbehind"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        cdp_pretokenizer p;
        if (open_split(&p, "Regex", refused[i][0], 'i') != CDP_BAD_MODEL ||
            strstr(cdp_error_message(), refused[i][1]) == NULL)
            fail_msg("%s: \"%s\" does not hold \"%s\"", refused[i][0], cdp_error_message(), refused[i][1]);
        cdp_pretokenizer_close(&p);
    }
    cdp_error_clear();
}

/* Nested quantifiers: the text ends in an error, and the same pattern goes on with the next text. */
static void test_runaway(void **state) {
    (void)state;
    cdp_pretokenizer p;
    cdp_pieces pieces;
    assert_int_equal(open_split(&p, "Regex", "(a+)+b", 'i'), CDP_OK);
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac b";
    assert_int_equal(split(&p, text, sizeof text - 1, &pieces), CDP_BAD_DATA);
    assert_non_null(strstr(cdp_error_message(), "gave up"));
    cdp_pieces_free(&pieces);
    cdp_error_clear();
    check_pieces("(a+)+b", &p, "xaab", "x|aab");
    cdp_pretokenizer_close(&p);
}

/* A pattern that looks through the whole rest of the text from every place: each match is short, all of them
 * together are quadratic (hours). The first never matches, the second matches everywhere. */
static void test_slow_everywhere(void **state) {
    (void)state;
    static const char *const slow[] = {"(?:a|b)+c", "[ab]*c|a"};
    const size_t n = 400000;
    char *text = malloc(n);
    memset(text, 'a', n);
    memcpy(text + n - 2, "dc", 2); /* a text without c at all would be done with at once */
    for (int i = 0; i < 2; i++) {
        cdp_pretokenizer p;
        cdp_pieces pieces;
        assert_int_equal(open_split(&p, "Regex", slow[i], 'i'), CDP_OK);
        assert_int_equal(split(&p, text, n, &pieces), CDP_BAD_DATA);
        assert_non_null(strstr(cdp_error_message(), "gave up"));
        cdp_pieces_free(&pieces);
        cdp_error_clear();
        check_pieces(slow[i], &p, "xaac", "x|aac");
        cdp_pretokenizer_close(&p);
    }
    free(text);
}

/* A compiled pattern's own stack is small; a long match must not end in an error for that alone. */
static void test_long_match(void **state) {
    (void)state;
    const size_t n = 60000;
    char *text = malloc(n);
    cdp_pretokenizer p;
    cdp_pieces pieces;
    memset(text, 'a', n);
    assert_int_equal(open_split(&p, "Regex", "(?:a|b|cd)+", 'i'), CDP_OK);
    assert_int_equal(split(&p, text, n, &pieces), CDP_OK);
    assert_int_equal(pieces.spans.n, 1);
    cdp_pieces_free(&pieces);
    cdp_pretokenizer_close(&p);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_sequence),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_runaway),         cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_slow_everywhere), cmocka_unit_test(test_long_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
