#include "kernels/utf8.h"

cdp_utf8_kind cdp_utf8_next(const unsigned char *s, size_t n, size_t *length_out, uint32_t *code_out) {
    *length_out = 1;
    *code_out = s[0];
    if (s[0] < 0x80)
        return CDP_UTF8_WHOLE;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return CDP_UTF8_BROKEN;
    const size_t want = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    /* The second byte alone decides about overlong forms, surrogates and what lies beyond U+10FFFF. */
    const unsigned char low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    uint32_t code = s[0] & (0x7Fu >> want);
    for (size_t i = 1; i < want; i++) {
        *length_out = i;
        if (i == n)
            return CDP_UTF8_PARTIAL;
        if (s[i] < (i == 1 ? low : 0x80) || s[i] > (i == 1 ? high : 0xBF))
            return CDP_UTF8_BROKEN;
        code = code << 6 | (s[i] & 0x3Fu);
    }
    *length_out = want;
    *code_out = code;
    return CDP_UTF8_WHOLE;
}
