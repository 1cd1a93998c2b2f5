#define PCRE2_CODE_UNIT_WIDTH 8
#include "launcher/text/regex.h"

#include <pcre2.h>

enum {
    MATCH_LIMIT = 10000000, /* steps of one match: seconds, not hours, for a pattern that runs away */
    DEPTH_LIMIT = 100000,
    HEAP_LIMIT_KIB = 65536,
};

struct cdp_regex {
    pcre2_code *code;
    pcre2_match_context *context;
};

#define WHITE                                                                                                \
    "\\x{9}-\\x{D}\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{"   \
    "3000}"

static void add_text(cdp_bytes *out, const char *text) {
    cdp_bytes_add(out, text, strlen(text));
}

/* One escape at p (after the backslash c = p[1]); returns the bytes taken, 0 when it cannot be said inside a
 * class. */
static size_t rewrite_escape(cdp_bytes *out, const char *p, size_t left, bool in_class) {
    if (p[1] == 's') {
        add_text(out, in_class ? WHITE : "[" WHITE "]");
        return 2;
    }
    if (p[1] == 'S') {
        add_text(out, "[^" WHITE "]");
        return in_class ? 0 : 2;
    }
    if (left >= 7 && strncmp(p + 1, "p{Han}", 6) == 0) {
        add_text(out, "\\p{sc:Han}");
        return 7;
    }
    cdp_bytes_add(out, p, 2);
    return 2;
}

static cdp_status rewrite(cdp_bytes *out, const char *name, const char *pattern, size_t n) {
    bool in_class = false;
    for (size_t i = 0; i < n;) {
        const char c = pattern[i];
        if (c == '\\' && i + 1 < n) {
            const size_t taken = rewrite_escape(out, pattern + i, n - i, in_class);
            if (taken == 0)
                return cdp_fail(CDP_BAD_MODEL, "%s: offset %zu: \\S inside a class is not supported", name,
                                i);
            i += taken;
            continue;
        }
        if (in_class && c == '&' && i + 1 < n && pattern[i + 1] == '&')
            return cdp_fail(CDP_BAD_MODEL, "%s: offset %zu: && inside a class is not supported", name, i);
        if (c == '[' && !in_class)
            in_class = true;
        else if (c == ']' && in_class)
            in_class = false;
        cdp_bytes_add(out, &c, 1);
        i++;
    }
    return out->is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory", name) : CDP_OK;
}

static cdp_status compile(cdp_regex *regex, const char *name, const char *pattern, size_t n) {
    int error;
    PCRE2_SIZE offset;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
    if (regex->code == NULL) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(error, text, sizeof text);
        return cdp_fail(CDP_BAD_MODEL, "%s: offset %zu: %s", name, (size_t)offset, (const char *)text);
    }
    pcre2_jit_compile(regex->code,
                      PCRE2_JIT_COMPLETE); /* without it the interpreter gives the same matches */
    regex->context = pcre2_match_context_create(NULL);
    if (regex->context == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory", name);
    pcre2_set_match_limit(regex->context, MATCH_LIMIT);
    pcre2_set_depth_limit(regex->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(regex->context, HEAP_LIMIT_KIB);
    return CDP_OK;
}

cdp_status cdp_regex_open(cdp_regex **out, const char *name, const char *pattern, size_t n) {
    *out = NULL;
    cdp_bytes rewritten = {0};
    cdp_regex *regex = calloc(1, sizeof *regex);
    cdp_status st =
        regex == NULL ? cdp_fail(CDP_SYSTEM, "%s: no memory", name) : rewrite(&rewritten, name, pattern, n);
    if (st == CDP_OK)
        st = compile(regex, name, rewritten.data != NULL ? rewritten.data : "", rewritten.n);
    free(rewritten.data);
    if (st != CDP_OK)
        cdp_regex_close(regex);
    else
        *out = regex;
    return st;
}

void cdp_regex_close(cdp_regex *regex) {
    if (regex == NULL)
        return;
    pcre2_match_context_free(regex->context);
    pcre2_code_free(regex->code);
    free(regex);
}

cdp_status cdp_regex_find(const cdp_regex *regex, const char *text, size_t begin, size_t end,
                          cdp_spans *matches) {
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (data == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to match a pattern");
    cdp_status st = CDP_OK;
    /* The piece is a subject of its own: what lies before or behind it must not be looked at. */
    const PCRE2_SPTR subject = (PCRE2_SPTR)text + begin;
    const size_t n = end - begin;
    for (size_t at = 0; at < n;) {
        const int found = pcre2_match(regex->code, subject, n, at, PCRE2_NO_UTF_CHECK, data, regex->context);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0) {
            PCRE2_UCHAR why[128];
            pcre2_get_error_message(found, why, sizeof why);
            st = cdp_fail(CDP_BAD_DATA, "the tokenizer's pattern gave up at byte %zu of the text: %s",
                          begin + at, (const char *)why);
            break;
        }
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(data);
        if (place[1] > place[0])
            cdp_spans_add(matches, begin + place[0], begin + place[1]);
        at = place[1] > at ? place[1] : at + 1;
        while (at < n && (subject[at] & 0xC0) == 0x80) /* an empty match moves on by a character */
            at++;
    }
    pcre2_match_data_free(data);
    if (matches->is_failed)
        st = cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text");
    return st;
}
