/* tests/support/random.h - seeded numbers for tests: the same on every machine. */
#pragma once

#include <stdint.h>

typedef struct test_random {
    uint64_t state;
} test_random;

/* splitmix64 */
static inline uint64_t test_random_u64(test_random *r) {
    uint64_t z = (r->state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* 0 .. n-1 */
static inline int test_random_below(test_random *r, int n) {
    return (int)(test_random_u64(r) % (uint64_t)n);
}

/* [0, 1) */
static inline double test_random_unit(test_random *r) {
    return (double)(test_random_u64(r) >> 11) * 0x1p-53;
}

/* -1 .. 1 */
static inline float test_random_signed(test_random *r) {
    return (float)(2.0 * test_random_unit(r) - 1.0);
}
