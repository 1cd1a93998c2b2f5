#include "launcher/sample/logits_hash.h"

#include <string.h>

/* Four lanes of multiply and fold, so that the processor works on them side by side; each lane takes every
 * fourth pair of values. The constants are odd 64-bit numbers without structure. */
static const uint64_t odd[4] = {UINT64_C(0xA0761D6478BD642F), UINT64_C(0xE7037ED1A0B428DB),
                                UINT64_C(0x8EBC6AF09C88C6E3), UINT64_C(0x589965CC75374CC3)};

/* Both halves of the 128-bit product, folded: every input bit reaches every output bit. */
static uint64_t fold(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t cdp_logits_row_hash(const float *logits, int n) {
    const unsigned char *bytes = (const unsigned char *)logits;
    size_t left = (size_t)n * sizeof *logits;
    uint64_t lanes[4] = {odd[0], odd[1], odd[2], odd[3]};
    for (; left >= 32; bytes += 32, left -= 32) {
        uint64_t words[4];
        memcpy(words, bytes, sizeof words);
        for (int i = 0; i < 4; i++)
            lanes[i] = fold(lanes[i] ^ words[i], odd[i]);
    }
    uint64_t tail[4] = {0};
    memcpy(tail, bytes, left);
    for (int i = 0; i < 4; i++)
        lanes[i] = fold(lanes[i] ^ tail[i], odd[i]);
    uint64_t hash = (uint64_t)n;
    for (int i = 0; i < 4; i++) /* one after the other: lanes that change places change the hash */
        hash = fold(hash ^ lanes[i], odd[3 - i]);
    return hash;
}

uint64_t cdp_logits_hash_add(uint64_t chain, uint64_t row_hash) {
    return fold(chain ^ odd[0], row_hash ^ odd[1]) + UINT64_C(0x9E3779B97F4A7C15);
}
