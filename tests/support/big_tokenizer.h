/* tests/support/big_tokenizer.h - a tokenizer.json of the size that real models have, from a seed.
 *
 * Tokens are joined from earlier ones, each a merge; like real files it is written with a line for each token
 * and several for each merge.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct test_big_tokenizer {
    bool is_byte_level; /* 256 bytes first; else <0xNN> and characters */
    int n_tokens;
    uint64_t seed;
} test_big_tokenizer;

/* Write it to `path`; ends the test where that fails. */
void test_big_tokenizer_write(const char *path, const test_big_tokenizer *shape);
