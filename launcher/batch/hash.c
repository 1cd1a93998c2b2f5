#include "launcher/batch/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Upper and lower half of the 128-bit product, folded into one word. */
static uint64_t fold(uint64_t x, uint64_t y) {
    const unsigned __int128 product = (unsigned __int128)x * y;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static cdp_hash128 add_word(cdp_hash128 h, uint64_t word) {
    h.a = fold(h.a ^ word, UINT64_C(0xA0761D6478BD642F)) + UINT64_C(0x9E3779B97F4A7C15);
    h.b = fold(h.b + word, UINT64_C(0xE7037ED1A0B428DB)) ^ h.a;
    return h;
}

cdp_hash128 cdp_hash_add(cdp_hash128 hash, const void *bytes, size_t n) {
    const unsigned char *at = bytes;
    uint64_t word;
    size_t left = n;
    for (; left >= sizeof word; left -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = add_word(hash, word);
    }
    word = 0;
    if (left > 0)
        memcpy(&word, at, left);
    return add_word(add_word(hash, word), n);
}

int cdp_hash_compare(cdp_hash128 x, cdp_hash128 y) {
    if (x.a != y.a)
        return x.a < y.a ? -1 : 1;
    return x.b == y.b ? 0 : x.b < y.b ? -1 : 1;
}

const char *cdp_hash_text(char out[CDP_HASH_TEXT], cdp_hash128 hash) {
    snprintf(out, CDP_HASH_TEXT, "%016" PRIx64 "%016" PRIx64, hash.a, hash.b);
    return out;
}
