/* launcher/text/utf8.h - walking through bytes that should be UTF-8. */
#pragma once

#include "kernels/utf8.h"
#include "launcher/text/buffer.h"
#include <stdbool.h>

/* Append text[0, n) with all that is no UTF-8 replaced, one U+FFFD a maximal subpart. */
void cdp_utf8_add_valid(cdp_bytes *out, const char *text, size_t n);

/* Append a code point. */
void cdp_utf8_add(cdp_bytes *out, uint32_t code);

/* Where the character that ends before `end` begins (s is valid UTF-8, end > 0). */
size_t cdp_utf8_before(const unsigned char *s, size_t end);

/* The 25 characters of Unicode's White_Space. */
bool cdp_is_space(uint32_t code);

/* A word character in the sense of \w: alphabetic, marks, decimal digits, connectors, the two joiners. */
bool cdp_is_word(uint32_t code);
