/* The logits hash: blind to nothing, and the same number on every machine.
 *
 * What it catches: a bit that is not hashed, lanes or rows that may change places, a tail that is cut off, a
 * zero whose sign is lost, constants that were changed since the numbers in somebody's notes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/sample/logits_hash.h"
#include "tests/support/random.h"

enum { MAX_N = 70 };

static void fill(float *row, int n, uint64_t seed) {
    test_random r = {seed};
    for (int i = 0; i < n; i++)
        row[i] = test_random_signed(&r);
}

/* Lengths around the 8 values of one round; each bit of each value. */
static void test_bits(void **state) {
    (void)state;
    static const int lengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, MAX_N};
    float row[MAX_N], other[MAX_N];
    for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
        const int n = lengths[k];
        fill(row, n, 7);
        const uint64_t hash = cdp_logits_row_hash(row, n);
        for (int bit = 0; bit < 32 * n; bit++) {
            uint32_t bits;
            memcpy(other, row, sizeof row);
            memcpy(&bits, &other[bit / 32], sizeof bits);
            bits ^= 1u << (bit % 32);
            memcpy(&other[bit / 32], &bits, sizeof bits);
            if (cdp_logits_row_hash(other, n) == hash)
                fail_msg("%d values: bit %d of value %d is not hashed", n, bit % 32, bit / 32);
        }
    }
}

/* Every pair of values in each other's place: neighbours, the same lane, the same half of a word. */
static void test_swapped_values(void **state) {
    (void)state;
    float row[MAX_N], other[MAX_N];
    fill(row, MAX_N, 8);
    const uint64_t hash = cdp_logits_row_hash(row, MAX_N);
    for (int i = 0; i < MAX_N; i++)
        for (int k = i + 1; k < MAX_N; k++) {
            memcpy(other, row, sizeof row);
            other[i] = row[k];
            other[k] = row[i];
            if (cdp_logits_row_hash(other, MAX_N) == hash)
                fail_msg("values %d and %d may change places", i, k);
        }
}

/* All prefixes of one row, of zeros too, have hashes of their own. */
static void test_lengths(void **state) {
    (void)state;
    float row[2][MAX_N] = {{0}};
    uint64_t hashes[2 * MAX_N];
    fill(row[1], MAX_N, 9);
    for (int i = 0; i < 2 * MAX_N; i++) {
        hashes[i] = cdp_logits_row_hash(row[i / MAX_N], i % MAX_N + 1);
        for (int k = 0; k < i; k++)
            if (hashes[i] == hashes[k])
                fail_msg("prefixes %d and %d have one hash", i, k);
    }
}

static void test_zeros(void **state) {
    (void)state;
    float plus[9] = {0}, minus[9] = {0};
    for (int i = 0; i < 9; i++) {
        minus[i] = -0.0f;
        assert_true(cdp_logits_row_hash(plus, 9) != cdp_logits_row_hash(minus, 9));
        minus[i] = 0.0f;
    }
}

/* Where a row lies in memory does not matter. */
static void test_alignment(void **state) {
    (void)state;
    float row[MAX_N], moved[MAX_N + 8];
    fill(row, MAX_N, 10);
    for (int shift = 0; shift < 8; shift++) {
        memcpy(moved + shift, row, sizeof row);
        assert_true(cdp_logits_row_hash(moved + shift, MAX_N) == cdp_logits_row_hash(row, MAX_N));
    }
}

/* Rows in each other's place, a row twice, a row missing. */
static void test_chain(void **state) {
    (void)state;
    float row[3][MAX_N];
    uint64_t h[3];
    for (int i = 0; i < 3; i++) {
        fill(row[i], MAX_N, (uint64_t)i);
        h[i] = cdp_logits_row_hash(row[i], MAX_N);
    }
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0},
                                    {2, 0, 1}, {2, 1, 0}, {0, 0, 1}};
    enum { N = sizeof orders / sizeof orders[0] };
    uint64_t chains[N + 1] = {0};
    for (int i = 0; i < N; i++) {
        chains[i] = CDP_LOGITS_HASH_START;
        for (int k = 0; k < 3; k++)
            chains[i] = cdp_logits_hash_add(chains[i], h[orders[i][k]]);
    }
    chains[N] = cdp_logits_hash_add(cdp_logits_hash_add(CDP_LOGITS_HASH_START, h[0]), h[1]);
    for (int i = 0; i <= N; i++)
        for (int k = 0; k < i; k++)
            if (chains[i] == chains[k])
                fail_msg("orders %d and %d have one hash", k, i);
}

/* Numbers from a second implementation, in Python integers. */
static void test_fixed_numbers(void **state) {
    (void)state;
    float slope[37], ones[8];
    const float zero = 0;
    for (int i = 0; i < 37; i++)
        slope[i] = (float)i * 0.25f - 3;
    for (int i = 0; i < 8; i++)
        ones[i] = 1;
    const uint64_t a = cdp_logits_row_hash(slope, 37), b = cdp_logits_row_hash(&zero, 1);
    assert_true(a == UINT64_C(0x4A7A7F60D435823B));
    assert_true(b == UINT64_C(0x70714228F6491F80));
    assert_true(cdp_logits_row_hash(ones, 8) == UINT64_C(0x4018DA60112ADD43));
    const uint64_t chain = cdp_logits_hash_add(cdp_logits_hash_add(CDP_LOGITS_HASH_START, a), b);
    assert_true(chain == UINT64_C(0x411AA421C98BC746));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),          cmocka_unit_test(test_swapped_values),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_alignment),     cmocka_unit_test(test_chain),
        cmocka_unit_test(test_fixed_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
