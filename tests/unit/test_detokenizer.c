/* Ids to text, one at a time: what may leave after each, and that nothing is lost against decoding at once.
 *
 * What it catches: a character cut in two, one U+FFFD too many or too few, bytes that are held for ever,
 * special ids that print, an id outside of the vocabulary that is read.
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

#define BAD "\xEF\xBF\xBD" /* U+FFFD */

static cdp_tokenizer *open_named(const char *name) {
    char path[512];
    cdp_tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s", name);
    if (cdp_tokenizer_open(&tokenizer, test_path(path)) != CDP_OK)
        fail_msg("%s: %s", name, cdp_error_message());
    return tokenizer;
}

/* The id whose text is just this byte. */
static int32_t id_of_byte(const cdp_tokenizer *tokenizer, unsigned char byte) {
    for (int32_t id = 0; id < cdp_tokenizer_size(tokenizer); id++) {
        size_t n;
        const char *bytes = cdp_tokenizer_bytes(tokenizer, id, &n);
        if (n == 1 && (unsigned char)bytes[0] == byte)
            return id;
    }
    fail_msg("no id for byte %02X", byte);
    return -1;
}

/* Push one id, and append what leaves, then a '|', to `out`. */
static void push(cdp_detokenizer *stream, int32_t id, char *out, size_t out_size) {
    char *piece;
    size_t n;
    assert_int_equal(cdp_detokenizer_push(stream, id, &piece, &n), CDP_OK);
    const size_t used = strlen(out);
    snprintf(out + used, out_size - used, "%.*s|", (int)n, piece != NULL ? piece : "");
    free(piece);
}

static void flush(cdp_detokenizer *stream, char *out, size_t out_size) {
    char *piece;
    size_t n;
    assert_int_equal(cdp_detokenizer_flush(stream, &piece, &n), CDP_OK);
    const size_t used = strlen(out);
    snprintf(out + used, out_size - used, "%.*s", (int)n, piece != NULL ? piece : "");
    free(piece);
}

typedef struct byte_case {
    const char *bytes, *pieces; /* a '|' behind each piece; what is behind the last one is the flush */
} byte_case;

static void test_bytes(void **state) {
    (void)state;
    static const byte_case cases[] = {
        {"abc", "a|b|c|"},
        {"\xC3\xA9", "|\xC3\xA9|"},
        {"\xE2\x82\xAC", "||\xE2\x82\xAC|"},
        {"\xF0\x9F\x98\x80", "|||\xF0\x9F\x98\x80|"},
        {"\xE2\x82", "||" BAD},          /* the end comes too early: one subpart */
        {"\xE2\x82\x41", "||" BAD "A|"}, /* the next character comes too early */
        {"\xC3\x28", "|" BAD "(|"},
        {"\xFF", BAD "|"}, /* never begins a character */
        {"\x80\x80", BAD "|" BAD "|"},
        {"\xC0\xAF", BAD "|" BAD "|"}, /* overlong */
        {"\xE0\x80", "|" BAD BAD "|"},
        {"\xF4\x90", "|" BAD BAD "|"}, /* beyond U+10FFFF */
        {"\xF0\x9F\xF0\x9F\x98\x80", "||" BAD "|||\xF0\x9F\x98\x80|"},
    };
    cdp_tokenizer *tokenizer = open_named("gpt2");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_detokenizer stream;
        char got[128] = "";
        cdp_detokenizer_start(&stream, tokenizer, false);
        for (const char *byte = cases[i].bytes; *byte != '\0'; byte++)
            push(&stream, id_of_byte(tokenizer, (unsigned char)*byte), got, sizeof got);
        flush(&stream, got, sizeof got);
        flush(&stream, got, sizeof got); /* nothing is left for a second time */
        if (strcmp(got, cases[i].pieces) != 0)
            fail_msg("case %zu: \"%s\", expected \"%s\"", i, got, cases[i].pieces);
    }
    cdp_tokenizer_close(tokenizer);
}

/* Ids that no token has give nothing, wherever they stand, and a character goes on behind them. */
static void test_unknown_ids(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = open_named("gpt2");
    cdp_detokenizer stream;
    char got[64] = "", *text;
    size_t n;
    const int32_t outside[] = {-1, INT32_MIN, INT32_MAX, cdp_tokenizer_size(tokenizer)};
    cdp_detokenizer_start(&stream, tokenizer, true);
    push(&stream, id_of_byte(tokenizer, 0xC3), got, sizeof got);
    for (size_t i = 0; i < 4; i++) {
        push(&stream, outside[i], got, sizeof got);
        assert_null(cdp_tokenizer_bytes(tokenizer, outside[i], &n));
        assert_int_equal(n, 0);
        assert_false(cdp_tokenizer_is_special(tokenizer, outside[i]));
    }
    push(&stream, id_of_byte(tokenizer, 0xA9), got, sizeof got);
    assert_string_equal(got, "|||||\xC3\xA9|");
    assert_int_equal(cdp_tokenizer_decode(tokenizer, outside, 4, false, &text, &n), CDP_OK);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    free(text);
    cdp_tokenizer_close(tokenizer);
}

static void test_special(void **state) {
    (void)state;
    cdp_tokenizer *tokenizer = open_named("llama3");
    int32_t *ids;
    size_t n_ids;
    const char text[] = "<|begin_of_text|>hi<|eot_id|>";
    assert_int_equal(cdp_tokenizer_encode(tokenizer, text, sizeof text - 1, false, &ids, &n_ids), CDP_OK);
    for (int skip = 0; skip < 2; skip++) {
        cdp_detokenizer stream;
        char got[128] = "";
        cdp_detokenizer_start(&stream, tokenizer, skip == 1);
        for (size_t i = 0; i < n_ids; i++)
            push(&stream, ids[i], got, sizeof got);
        assert_string_equal(got, skip ? "|hi||" : "<|begin_of_text|>|hi|<|eot_id|>|");
    }
    assert_true(cdp_tokenizer_is_special(tokenizer, ids[0]));
    assert_false(cdp_tokenizer_is_special(tokenizer, ids[1]));
    free(ids);
    cdp_tokenizer_close(tokenizer);
}

/* Any ids whatever: pieces and flush together are what decoding at once gives, but for the bytes of a
 * surrogate that the end cuts off. A fixed sequence of pseudo-random ids; no byte of 0xED among them. */
static void test_pieces_are_the_whole(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2", "llama3", "qwen2", "smollm"};
    uint32_t random = 1;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        cdp_tokenizer *tokenizer = open_named(names[k]);
        for (int round = 0; round < 300; round++) {
            int32_t ids[40];
            char got[4096] = "", *want, *piece;
            size_t used = 0, n_want, n;
            cdp_detokenizer stream;
            cdp_detokenizer_start(&stream, tokenizer, round % 2 == 1);
            for (int i = 0; i < 40; i++) {
                random = random * 1664525u + 1013904223u;
                ids[i] = (int32_t)((random >> 8) %
                                   (uint32_t)(round % 3 == 0 ? cdp_tokenizer_size(tokenizer) : 256));
                const char *bytes = cdp_tokenizer_bytes(tokenizer, ids[i], &n);
                if (bytes != NULL && memchr(bytes, 0xED, n) != NULL)
                    ids[i] = 0;
                assert_int_equal(cdp_detokenizer_push(&stream, ids[i], &piece, &n), CDP_OK);
                assert_true(used + n < sizeof got);
                memcpy(got + used, piece != NULL ? piece : "", n);
                used += n;
                free(piece);
            }
            assert_int_equal(cdp_detokenizer_flush(&stream, &piece, &n), CDP_OK);
            memcpy(got + used, piece != NULL ? piece : "", n);
            used += n;
            free(piece);
            assert_int_equal(cdp_tokenizer_decode(tokenizer, ids, 40, round % 2 == 1, &want, &n_want),
                             CDP_OK);
            if (used != n_want || memcmp(got, want, used) != 0)
                fail_msg("%s: round %d: pieces \"%.*s\", at once \"%s\"", names[k], round, (int)used, got,
                         want);
            free(want);
        }
        cdp_tokenizer_close(tokenizer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_unknown_ids),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_pieces_are_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
