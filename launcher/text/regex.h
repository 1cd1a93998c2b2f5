/* launcher/text/regex.h - a pattern of a tokenizer file, in PCRE2 (UTF, UCP, MULTILINE, JIT) under limits.
 *
 * pattern.h says it in PCRE2's words first. A text on which patterns run away costs seconds and ends in
 * CDP_BAD_DATA; the process goes on. One match is limited in its steps; all matches of a text together in
 * their processor time (2 s, and 4 s for each MB: a thousand times what patterns of tokenizers take).
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"

typedef struct cdp_regex cdp_regex;

/* `name` opens messages. CDP_BAD_MODEL with the offset when the pattern cannot be used. */
cdp_status cdp_regex_open(cdp_regex **out, const char *name, const char *pattern, size_t n);
void cdp_regex_close(cdp_regex *regex); /* NULL is fine */

/* What the patterns of a tokenizer have spent on one text, and what they keep from one call to the next. {0}
 * at first, with n_bytes of the text; one thread at a time. */
typedef struct cdp_regex_work {
    size_t n_bytes;      /* of the whole text */
    double allowed_s;    /* what all searches in it may cost; 0: what its length allows */
    double clock;        /* this thread's processor time in seconds, when last read */
    double deadline;     /* 0: not begun */
    unsigned n_searches; /* since the clock was read */
    size_t window;
    void *match, *context;
} cdp_regex_work;

void cdp_regex_work_free(cdp_regex_work *work);

/* All matches in text[begin, end), in order, an empty one right behind another match left out. The text is
 * valid UTF-8. Reaching a limit: CDP_BAD_DATA. Any number of threads may ask at once, each with its work. */
cdp_status cdp_regex_find(const cdp_regex *regex, cdp_regex_work *work, const char *text, size_t begin,
                          size_t end, cdp_spans *matches);
