/* kernels/checked.h - arithmetic on sizes that come from files. Every product and sum of such numbers goes
 * through these two; they return false on overflow and leave *out alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

static inline bool cdp_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool cdp_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
