/* launcher/batch/hash.h - two numbers that stand for many bytes: of an id, of a whole input. Fast, not
 * cryptographic; among a million ids two of equal 128 bits come once in 10^27 jobs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct cdp_hash128 {
    uint64_t a, b;
} cdp_hash128;

/* The hash before its first bytes. */
#define CDP_HASH_START ((cdp_hash128){UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xD1B54A32D192ED03)})

/* n more bytes, in one piece: where the pieces end is part of the hash. */
cdp_hash128 cdp_hash_add(cdp_hash128 hash, const void *bytes, size_t n);

/* Less than, equal to or greater than 0, for sorting. */
int cdp_hash_compare(cdp_hash128 x, cdp_hash128 y);

enum { CDP_HASH_TEXT = 33 };
/* 32 hex digits. Returns out. */
const char *cdp_hash_text(char out[CDP_HASH_TEXT], cdp_hash128 hash);
