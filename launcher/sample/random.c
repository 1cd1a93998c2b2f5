#include "launcher/sample/sampler.h"

/* The finaliser of splitmix64: a bijection of 64 bits that spreads every bit. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

double cdp_random_unit(uint64_t seed, const char *id, int64_t position, int purpose) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a of the id */
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * UINT64_C(0x100000001B3);
    uint64_t state = mix(seed + UINT64_C(0x9E3779B97F4A7C15));
    state = mix(state ^ hash);
    state = mix(state + (uint64_t)position * UINT64_C(0xD1342543DE82EF95));
    state = mix(state + (uint64_t)purpose * UINT64_C(0xA24BAED4963EE407) + 1);
    return (double)(state >> 11) * 0x1p-53;
}
