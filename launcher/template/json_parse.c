/* JSON to values. Its own reader, because a template prints what it is given: 1 stays 1 and 1.0 stays 1.0,
 * and 9007199254740993 keeps its last digit. Strict: UTF-8, no NUL, no surrogate alone, depth and numbers
 * bounded. Of two equal keys the last one counts, in the place of the first, as in Python. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/template/print.h"
#include "launcher/text/utf8.h"

typedef struct reader {
    tpl_machine *m;
    const char *text, *what;
    size_t n, at;
    int depth;
    bool is_own;
} reader;

static _Noreturn void fail(const reader *r, const char *expected) {
    tpl_fail(r->m, "%s: byte %zu: expected %s", r->what, r->at, expected);
}

static char peek(const reader *r) {
    return r->at < r->n ? r->text[r->at] : '\0';
}

static void skip_blanks(reader *r) {
    while (r->at < r->n && strchr(" \t\r\n", r->text[r->at]) != NULL && r->text[r->at] != '\0')
        r->at++;
}

static void expect(reader *r, char c, const char *expected) {
    skip_blanks(r);
    if (peek(r) != c)
        fail(r, expected);
    r->at++;
}

static uint32_t hex4(reader *r) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char c = peek(r);
        if (!isxdigit((unsigned char)c))
            fail(r, "four hex digits");
        code = code * 16 + (uint32_t)(isdigit((unsigned char)c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return code;
}

static uint32_t unicode_escape(reader *r) {
    const uint32_t code = hex4(r);
    if (code < 0xD800 || code > 0xDFFF)
        return code;
    if (code > 0xDBFF || r->n - r->at < 2 || memcmp(r->text + r->at, "\\u", 2) != 0)
        fail(r, "a whole pair of surrogates");
    r->at += 2;
    const uint32_t low = hex4(r);
    if (low < 0xDC00 || low > 0xDFFF)
        fail(r, "a whole pair of surrogates");
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

static void escape(reader *r, tpl_builder *b) {
    static const char letters[] = "bfnrt\"\\/", meant[] = "\b\f\n\r\t\"\\/";
    const char c = peek(r);
    const char *found = c != '\0' ? strchr(letters, c) : NULL;
    r->at++;
    if (found != NULL) {
        tpl_add_bytes(b, &meant[found - letters], 1, r->is_own);
        return;
    }
    if (c != 'u')
        fail(r, "an escape of JSON");
    const uint32_t code = unicode_escape(r);
    if (code == 0)
        fail(r, "text without U+0000");
    tpl_add_code(b, code, r->is_own);
}

/* Bytes up to the next quote or backslash. */
static tpl_value plain(reader *r) {
    const size_t begin = r->at;
    while (r->at < r->n && r->text[r->at] != '"' && r->text[r->at] != '\\' &&
           (unsigned char)r->text[r->at] >= 0x20)
        r->at++;
    return (tpl_value){.kind = TPL_TEXT, .is_own = r->is_own, .bytes = r->text + begin, .n = r->at - begin};
}

/* A string without escapes stays where it is: the caller keeps the JSON text until the rendering is done. */
static tpl_value string(reader *r) {
    expect(r, '"', "a string");
    tpl_value v = plain(r);
    if (peek(r) != '"') {
        tpl_builder b = tpl_builder_of(r->m);
        tpl_add_text(&b, v);
        while (peek(r) == '\\') {
            r->at++;
            escape(r, &b);
            tpl_add_text(&b, plain(r));
        }
        v = tpl_built(&b);
        v.is_own = r->is_own;
    }
    if (peek(r) != '"')
        fail(r, "the end of a string");
    r->at++;
    return v;
}

static void digits(reader *r) {
    if (!isdigit((unsigned char)peek(r)))
        fail(r, "a digit");
    while (isdigit((unsigned char)peek(r)))
        r->at++;
}

static tpl_value number(reader *r) {
    const size_t begin = r->at;
    bool is_whole = true;
    r->at += peek(r) == '-';
    const size_t first = r->at;
    digits(r);
    if (r->text[first] == '0' && r->at - first > 1)
        fail(r, "a number without leading zeros");
    if (peek(r) == '.') {
        is_whole = false;
        r->at++;
        digits(r);
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        is_whole = false;
        r->at++;
        r->at += peek(r) == '-' || peek(r) == '+';
        digits(r);
    }
    char text[512];
    const size_t n = r->at - begin;
    if (n >= sizeof text)
        fail(r, "a number of fewer digits");
    snprintf(text, sizeof text, "%.*s", (int)n, r->text + begin);
    errno = 0;
    tpl_value v = is_whole ? tpl_int(strtoll(text, NULL, 10)) : tpl_float(strtod(text, NULL));
    if (is_whole ? errno == ERANGE : !isfinite(v.f))
        fail(r, "a number of at most 64 bits");
    v.is_own = r->is_own;
    return v;
}

static tpl_value word(reader *r) {
    static const char *const words[] = {"null", "true", "false"};
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if (r->n - r->at >= n && memcmp(r->text + r->at, words[i], n) == 0) {
            r->at += n;
            tpl_value v = i == 0 ? tpl_none() : tpl_bool(i == 1);
            v.is_own = r->is_own;
            return v;
        }
    }
    fail(r, "a value");
}

static tpl_value value(reader *r);

static tpl_value array(reader *r) {
    size_t n = 0, room = 4;
    tpl_value *items = tpl_take_values(r->m, room);
    r->at++;
    skip_blanks(r);
    while (peek(r) != ']') {
        if (n > 0)
            expect(r, ',', "',' or ']'");
        if (n == room) {
            tpl_value *more = tpl_take_values(r->m, room *= 2);
            memcpy(more, items, n * sizeof *items);
            items = more;
        }
        items[n++] = value(r);
        skip_blanks(r);
    }
    r->at++;
    tpl_value v = tpl_items_value(TPL_LIST, items, n);
    v.is_own = r->is_own;
    return v;
}

static tpl_value object(reader *r) {
    tpl_value v = tpl_dict_new(r->m, 4);
    v.is_own = r->is_own;
    r->at++;
    skip_blanks(r);
    while (peek(r) != '}') {
        if (v.dict->n > 0)
            expect(r, ',', "',' or '}'");
        skip_blanks(r);
        const tpl_value key = string(r);
        expect(r, ':', "':'");
        tpl_dict_put(r->m, v.dict, key, value(r));
        skip_blanks(r);
    }
    r->at++;
    return v;
}

static tpl_value value(reader *r) {
    tpl_step(r->m, 1);
    if (++r->depth > TPL_MAX_JSON_DEPTH)
        fail(r, "values nested less deeply");
    skip_blanks(r);
    const char c = peek(r);
    const tpl_value v = c == '{'                                ? object(r)
                        : c == '['                              ? array(r)
                        : c == '"'                              ? string(r)
                        : c == '-' || isdigit((unsigned char)c) ? number(r)
                                                                : word(r);
    r->depth--;
    return v;
}

/* Nothing that is not UTF-8, and no NUL. */
static void check_bytes(const reader *r) {
    size_t length;
    uint32_t code;
    for (size_t at = 0; at < r->n; at += length)
        if (r->text[at] == '\0' ||
            cdp_utf8_next((const unsigned char *)r->text + at, r->n - at, &length, &code) != CDP_UTF8_WHOLE)
            tpl_fail(r->m, "%s: byte %zu is no UTF-8 text", r->what, at);
}

tpl_value tpl_parse_json(tpl_machine *m, const char *text, size_t n, const char *what, bool is_own) {
    reader r = {.m = m, .text = text, .what = what, .n = n, .is_own = is_own};
    check_bytes(&r);
    const tpl_value v = value(&r);
    skip_blanks(&r);
    if (r.at != r.n)
        fail(&r, "the end");
    return v;
}
