#include "launcher/text/utf8.h"

#include <utf8proc.h>

void cdp_utf8_add_valid(cdp_bytes *out, const char *text, size_t n) {
    size_t kept = 0; /* what lies before it is in `out` */
    for (size_t at = 0; at < n;) {
        size_t length;
        uint32_t code;
        if (cdp_utf8_next((const unsigned char *)text + at, n - at, &length, &code) != CDP_UTF8_WHOLE) {
            cdp_bytes_add(out, text + kept, at - kept);
            cdp_bytes_add(out, "\xEF\xBF\xBD", 3); /* U+FFFD */
            kept = at + length;
        }
        at += length;
    }
    if (n > kept)
        cdp_bytes_add(out, text + kept, n - kept);
}

void cdp_utf8_add(cdp_bytes *out, uint32_t code) {
    utf8proc_uint8_t bytes[4];
    cdp_bytes_add(out, bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, bytes));
}

size_t cdp_utf8_before(const unsigned char *s, size_t end) {
    do
        end--;
    while (end > 0 && (s[end] & 0xC0) == 0x80);
    return end;
}

bool cdp_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

bool cdp_is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* joiners, and the circled and squared letters, which are alphabetic symbols */
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}
