#define PCRE2_CODE_UNIT_WIDTH 8
#include "launcher/text/regex.h"

#include "launcher/text/pattern.h"

#include <pcre2.h>

enum {
    MATCH_LIMIT = 10000000, /* steps of one match: seconds, not hours, for a pattern that runs away */
    DEPTH_LIMIT = 1000000,  /* a group repeated once a character takes two of it each time */
    HEAP_LIMIT_KIB = 131072,
};

struct cdp_regex {
    pcre2_code *code;
    pcre2_match_context *context;
};

/* `translated` is what PCRE2 reads, `pattern` what the file says: messages count in the latter. */
static cdp_status compile(cdp_regex *regex, const char *name, const cdp_bytes *translated,
                          const char *pattern, size_t n) {
    const uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    const char *text = translated->data != NULL ? translated->data : "";
    int error;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory for a pattern", name);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* whatever the library was built with */
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    regex->code = pcre2_compile((PCRE2_SPTR)text, translated->n, flags, &error, &offset, context);
    pcre2_compile_context_free(context);
    if (regex->code == NULL) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(error, why, sizeof why);
        return cdp_fail(CDP_BAD_MODEL, "%s: offset %zu: %s", name, cdp_pattern_origin(pattern, n, offset),
                        (const char *)why);
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
    cdp_bytes translated = {0};
    cdp_regex *regex = calloc(1, sizeof *regex);
    cdp_status st = regex == NULL ? cdp_fail(CDP_SYSTEM, "%s: no memory", name)
                                  : cdp_pattern_translate(&translated, name, pattern, n);
    if (st == CDP_OK)
        st = compile(regex, name, &translated, pattern, n);
    free(translated.data);
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

/* Compiled patterns have a small stack; the interpreter takes the heap, and its limit, instead. */
static int match(const cdp_regex *regex, PCRE2_SPTR subject, size_t n, size_t at, pcre2_match_data *data) {
    const int found = pcre2_match(regex->code, subject, n, at, PCRE2_NO_UTF_CHECK, data, regex->context);
    return found != PCRE2_ERROR_JIT_STACKLIMIT
               ? found
               : pcre2_match(regex->code, subject, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                             regex->context);
}

static cdp_status gave_up(int error, size_t at) {
    PCRE2_UCHAR why[128];
    pcre2_get_error_message(error, why, sizeof why);
    return cdp_fail(CDP_BAD_DATA, "the tokenizer's pattern gave up at byte %zu of the text: %s", at,
                    (const char *)why);
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
    size_t last_end = SIZE_MAX;
    for (size_t at = 0; st == CDP_OK && at <= n;) {
        const int found = match(regex, subject, n, at, data);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0) {
            st = gave_up(found, begin + at);
            break;
        }
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(data);
        if (place[0] == place[1] && place[1] == last_end) {
            at++; /* nothing, right behind a match: look one character further */
            while (at < n && (subject[at] & 0xC0) == 0x80)
                at++;
            continue;
        }
        cdp_spans_add(matches, begin + place[0], begin + place[1]);
        at = last_end = place[1];
    }
    pcre2_match_data_free(data);
    return st == CDP_OK && matches->is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text")
                                              : st;
}
