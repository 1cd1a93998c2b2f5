/* launcher/text/pattern.h - a pattern of a tokenizer file, said in PCRE2's words.
 *
 * The files are written for Oniguruma (Ruby's syntax), and PCRE2 reads some of the same letters differently.
 * With the flags UTF, UCP and MULTILINE these differences remain, and are rewritten:
 *
 *     \s \S            Unicode's 25 White_Space characters; PCRE2 adds U+180E
 *     \w \b            alphabetic, marks, decimal digits, connectors, and six of Latin-1; PCRE2 takes all
 *                      digits
 *     \p{Han}          the script; PCRE2 from 10.40 on takes the script extensions: \p{sc:Han}
 *     X{1,3}+ X{2}?    a repeated group: (?:X{1,3})+; PCRE2 would take it for possessive, or lazy
 *     {,3} (?m) \h \v \uHHHH [a[b]] [[:alpha:]]
 *
 * What PCRE2 cannot say, or would read silently as something else (an intersection `&&`), is refused with its
 * offset.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"

/* Append the translation of `pattern` to `out`. `name` opens messages. */
cdp_status cdp_pattern_translate(cdp_bytes *out, const char *name, const char *pattern, size_t n);

/* Where in the pattern the byte `offset` of its translation comes from: PCRE2's messages count in the latter.
 */
size_t cdp_pattern_origin(const char *pattern, size_t n, size_t offset);
