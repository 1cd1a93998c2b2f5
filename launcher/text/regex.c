#define PCRE2_CODE_UNIT_WIDTH 8
#include "launcher/text/regex.h"

#include "launcher/text/pattern.h"

#include <pcre2.h>
#include <time.h>

enum {
    MATCH_LIMIT = 10000000, /* steps of one match: seconds, not hours, for a pattern that runs away */
    DEPTH_LIMIT = 1000000,  /* a group repeated once a character takes two of it each time */
    HEAP_LIMIT_KIB = 131072,
    SECONDS_A_TEXT = 2, /* for all matches together, and for each MB of it */
    SECONDS_A_MB = 4,
};

/* How far a search may look for the beginning of a match before the clock is asked: far where that is quick.
 */
enum { LEAST_WINDOW = 16, MOST_WINDOW = 4096, SEARCHES_A_CLOCK = 64 };
static const double quick_s = 1e-3;

struct cdp_regex {
    pcre2_code *code;
    bool is_compiled; /* to machine code; the interpreter gives the same matches */
};

/* `translated` is what PCRE2 reads, `pattern` what the file says: messages count in the latter. */
static cdp_status compile(cdp_regex *regex, const char *name, const cdp_bytes *translated,
                          const char *pattern, size_t n) {
    const uint32_t flags =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
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
    regex->is_compiled = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
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
    pcre2_code_free(regex->code);
    free(regex);
}

void cdp_regex_work_free(cdp_regex_work *work) {
    pcre2_match_data_free(work->match);
    pcre2_match_context_free(work->context);
    *work = (cdp_regex_work){0};
}

static double seconds_spent(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static cdp_status begin_work(cdp_regex_work *work) {
    work->clock = seconds_spent();
    work->deadline =
        work->clock + (work->allowed_s > 0 ? work->allowed_s
                                           : SECONDS_A_TEXT + SECONDS_A_MB * 1e-6 * (double)work->n_bytes);
    work->window = LEAST_WINDOW;
    work->match = pcre2_match_data_create(1, NULL);
    work->context = pcre2_match_context_create(NULL);
    if (work->match == NULL || work->context == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to match a pattern");
    pcre2_set_match_limit(work->context, MATCH_LIMIT);
    pcre2_set_depth_limit(work->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(work->context, HEAP_LIMIT_KIB);
    return CDP_OK;
}

static cdp_status check_clock(cdp_regex_work *work) {
    const double before = work->clock;
    work->clock = seconds_spent();
    work->n_searches = 0;
    work->window = work->clock - before > quick_s   ? LEAST_WINDOW
                   : work->window < MOST_WINDOW / 2 ? 2 * work->window
                                                    : MOST_WINDOW;
    return work->clock < work->deadline
               ? CDP_OK
               : cdp_fail(CDP_BAD_DATA,
                          "the tokenizer's patterns gave up on a text of %zu bytes: they took too long",
                          work->n_bytes);
}

/* Compiled patterns have a small stack; the interpreter takes the heap, and its limit, instead. */
static int match(const cdp_regex *regex, cdp_regex_work *work, PCRE2_SPTR subject, size_t n, size_t at) {
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (regex->is_compiled)
        found = pcre2_jit_match(regex->code, subject, n, at, PCRE2_NO_UTF_CHECK, work->match, work->context);
    return found != PCRE2_ERROR_JIT_STACKLIMIT
               ? found
               : pcre2_match(regex->code, subject, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, work->match,
                             work->context);
}

static cdp_status gave_up(int error, size_t at) {
    PCRE2_UCHAR why[128];
    pcre2_get_error_message(error, why, sizeof why);
    return cdp_fail(CDP_BAD_DATA, "the tokenizer's pattern gave up at byte %zu of the text: %s", at,
                    (const char *)why);
}

/* The beginning of the character behind the one that begins at or before `at`. */
static size_t next_char(PCRE2_SPTR subject, size_t n, size_t at) {
    at++;
    while (at < n && (subject[at] & 0xC0) == 0x80)
        at++;
    return at;
}

cdp_status cdp_regex_find(const cdp_regex *regex, cdp_regex_work *work, const char *text, size_t begin,
                          size_t end, cdp_spans *matches) {
    if (work->deadline == 0)
        CDP_TRY(begin_work(work));
    /* The piece is a subject of its own: what lies before or behind it must not be looked at. */
    const PCRE2_SPTR subject = (PCRE2_SPTR)text + begin;
    const size_t n = end - begin;
    size_t last_end = SIZE_MAX;
    for (size_t at = 0; at <= n;) {
        const size_t window_end = n - at > work->window ? at + work->window : n;
        if (++work->n_searches >= SEARCHES_A_CLOCK)
            CDP_TRY(check_clock(work));
        pcre2_set_offset_limit(work->context, window_end);
        const int found = match(regex, work, subject, n, at);
        if (found == PCRE2_ERROR_NOMATCH) {
            at = next_char(subject, n, window_end);
            if (at < n)
                CDP_TRY(check_clock(work));
            continue;
        }
        if (found < 0)
            return gave_up(found, begin + at);
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(work->match);
        if (place[0] == place[1] && place[1] == last_end) {
            at = next_char(subject, n, at); /* nothing, right behind a match: look one character further */
            continue;
        }
        cdp_spans_add(matches, begin + place[0], begin + place[1]);
        at = last_end = place[1];
    }
    return matches->is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text") : CDP_OK;
}
