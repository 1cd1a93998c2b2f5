/* launcher/sample/logits_hash.h - one number over the bits of all rows that were sampled from: equal for any
 * np, device map, chunk and company (promise 1). Rows are hashed after logit scale and softcap, before
 * penalties, and chained in the order they were drawn. */
#pragma once

#include <stdint.h>

/* The chain before its first row. */
#define CDP_LOGITS_HASH_START UINT64_C(0x9E3779B97F4A7C15)

/* 64-bit hash of the bits of one row of n f32 values. */
uint64_t cdp_logits_row_hash(const float *logits, int n);

/* The chain with one more row. */
uint64_t cdp_logits_hash_add(uint64_t chain, uint64_t row_hash);
