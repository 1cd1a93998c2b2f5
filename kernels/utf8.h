/* kernels/utf8.h - which bytes are characters: the one judge of UTF-8. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum cdp_utf8_kind {
    CDP_UTF8_WHOLE,   /* a character */
    CDP_UTF8_BROKEN,  /* can never become one */
    CDP_UTF8_PARTIAL, /* the beginning of one, cut off by the end */
} cdp_utf8_kind;

/* Look at s (n > 0 bytes): *length_out is that of the character, or of the maximal subpart that is no
 * character (what U+FFFD stands for once); *code_out the code point of a whole one. */
cdp_utf8_kind cdp_utf8_next(const unsigned char *s, size_t n, size_t *length_out, uint32_t *code_out);
