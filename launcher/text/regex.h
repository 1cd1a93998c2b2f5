/* launcher/text/regex.h - a pattern of a tokenizer file, in PCRE2 (UTF, UCP, JIT) under limits.
 *
 * Files are written for another engine. Three things differ and are rewritten: \s and \S to Unicode's 25
 * White_Space characters (PCRE2 adds U+180E), \p{Han} to \p{sc:Han} (PCRE2 would match script extensions).
 * An intersection `&&` in a class compiles in PCRE2 with another meaning: refused.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"

typedef struct cdp_regex cdp_regex;

/* `name` opens messages. CDP_BAD_MODEL with the offset when the pattern cannot be used. */
cdp_status cdp_regex_open(cdp_regex **out, const char *name, const char *pattern, size_t n);
void cdp_regex_close(cdp_regex *regex); /* NULL is fine */

/* All matches in text[begin, end), in order, empty ones left out. The text is valid UTF-8. Reaching a limit:
 * CDP_BAD_DATA. Any number of threads may ask at once. */
cdp_status cdp_regex_find(const cdp_regex *regex, const char *text, size_t begin, size_t end,
                          cdp_spans *matches);
