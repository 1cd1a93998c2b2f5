/* launcher/text/regex.h - a pattern of a tokenizer file, in PCRE2 (UTF, UCP, MULTILINE, JIT) under limits.
 *
 * pattern.h says it in PCRE2's words first. A text on which the pattern runs away costs seconds and ends in
 * CDP_BAD_DATA; the process goes on.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"

typedef struct cdp_regex cdp_regex;

/* `name` opens messages. CDP_BAD_MODEL with the offset when the pattern cannot be used. */
cdp_status cdp_regex_open(cdp_regex **out, const char *name, const char *pattern, size_t n);
void cdp_regex_close(cdp_regex *regex); /* NULL is fine */

/* All matches in text[begin, end), in order, an empty one right behind another match left out. The text is
 * valid UTF-8. Reaching a limit: CDP_BAD_DATA. Any number of threads may ask at once. */
cdp_status cdp_regex_find(const cdp_regex *regex, const char *text, size_t begin, size_t end,
                          cdp_spans *matches);
