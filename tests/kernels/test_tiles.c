/* The matrix unit and its twin (kernels/cpu/tiles.h, tiles_twin.h): what the manual says, case by case, of
 * the twin; and the instructions, as compiled, against the twin, bit for bit. Where there is no unit they
 * trap (tiles_trap.h): then this sees their operands and their order, and the arithmetic is the twin's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"

#if defined(__x86_64__)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cpu/tiles.h"
#include "kernels/cpu/tiles_twin.h"
#include "tests/kernels/tiles_trap.h"
#include "tests/support/random.h"

enum { STRIDE = 80 }; /* rows of a matrix in memory lie farther apart than a tile is wide */

typedef struct matrix {
    unsigned char bytes[TILE_SIDE][STRIDE];
} matrix;

static void set_bf16(matrix *m, int row, int column, float value) {
    const uint16_t bits = cdp_f32_to_bf16(value);
    memcpy(&m->bytes[row][2 * column], &bits, sizeof bits);
}

static float f32_at(const matrix *m, int row, int column) {
    float value;
    memcpy(&value, &m->bytes[row][4 * column], sizeof value);
    return value;
}

static twin_config whole_tiles(void) {
    twin_config config = {.palette = 1};
    for (int t = 0; t < TWIN_TILES; t++) {
        config.rows[t] = TWIN_ROWS;
        config.row_bytes[t] = TWIN_ROW_BYTES;
    }
    return config;
}

/* c[0][0] = `before` + the product of one row of 32 with one column. */
static float dot_of(float before, const float *x, const float *w) {
    tiles_twin unit;
    const twin_config config = whole_tiles();
    matrix a = {{{0}}}, b = {{{0}}}, c = {{{0}}};
    for (int k = 0; k < TILE_K; k++) {
        set_bf16(&a, 0, k, x[k]);
        set_bf16(&b, k / 2, k % 2, w[k]);
    }
    memcpy(c.bytes[0], &before, sizeof before);
    twin_configure(&unit, &config);
    twin_load(&unit, 0, &c, STRIDE);
    twin_load(&unit, 1, &a, STRIDE);
    twin_load(&unit, 2, &b, STRIDE);
    twin_dot(&unit, 0, 1, 2);
    twin_store(&unit, 0, &c, STRIDE);
    return f32_at(&c, 0, 0);
}

/* Even and odd k are chains of their own, from zero, and their sum is added last. */
static void test_order(void **state) {
    (void)state;
    static const float ones[TILE_K] = {1, 1, 1, 1, 1, 1};
    const float even[TILE_K] = {0x1p30f, 1, -0x1p30f, 1}; /* one chain would lose the first 1 */
    assert_true(dot_of(0, even, ones) == 2.0f);
    const float odd[TILE_K] = {0x1p30f, 0, 1, 0, -0x1p30f, 0}; /* k ascends inside a chain */
    assert_true(dot_of(0, odd, ones) == 0.0f);
    const float small[TILE_K] = {1, 1, 1, 1}; /* in the tile one by one they would all be lost */
    assert_true(dot_of(0x1p25f, small, ones) == 0x1p25f + 4.0f);
}

/* Sums are rounded to nearest, ties to even. */
static void test_rounding(void **state) {
    (void)state;
    const float ones[TILE_K] = {1, 0, 1}, tie[TILE_K] = {0x1p24f, 0, 1}, up[TILE_K] = {0x1p24f, 0, 3};
    assert_true(dot_of(0, tie, ones) == 0x1p24f);
    assert_true(dot_of(0, up, ones) == 0x1p24f + 4.0f);
    const float infinite[TILE_K] = {INFINITY}, nan[TILE_K] = {INFINITY, -INFINITY};
    const float both[TILE_K] = {1, 1};
    assert_true(dot_of(1, infinite, ones) == INFINITY);
    assert_true(isnan(dot_of(1, nan, both)));
}

/* Denormals count as zero, coming and going; a product on its way into a sum is none yet. What the thread
 * asked of its own arithmetic does not matter. */
static void check_denormals(void) {
    const float ones[TILE_K] = {1}, tiny[TILE_K] = {0x1p-127f}, huge[TILE_K] = {0x1p100f};
    assert_true(dot_of(0, tiny, huge) == 0.0f);
    assert_true(dot_of(0x1p-127f, ones, ones) == 1.0f);
    assert_true(dot_of(0x1p-127f, tiny, tiny) == 0.0f);
    const float small[TILE_K] = {0x1p-100f}, factor[TILE_K] = {0x1p-27f};
    assert_true(dot_of(0, small, factor) == 0.0f);
    assert_true(dot_of(0x1.8p-126f, (float[TILE_K]){-0x1p-100f}, (float[TILE_K]){0x1p-26f}) == 0.0f);
    const float from[TILE_K] = {0x1p-100f, 0, 0x1p-100f}, more[TILE_K] = {0x1p-26f, 0, 0x1p-30f};
    assert_true(dot_of(0, from, more) == 0x1.1p-126f);
    const float less[TILE_K] = {0x1p-26f, 0, -0x1p-30f};
    assert_true(dot_of(0, from, less) == 0.0f);
}
static void test_denormals(void **state) {
    (void)state;
    check_denormals();
    const uint32_t toward_zero = 0x1F80u | 0x6000u, mine = twin_change_mxcsr(toward_zero);
    check_denormals();
    const float ones[TILE_K] = {1, 0, 1}, up[TILE_K] = {0x1p24f, 0, 3};
    const float rounded = dot_of(0, up, ones);
    const uint32_t after = twin_change_mxcsr(mine);
    assert_true(rounded == 0x1p24f + 4.0f);
    assert_int_equal(after, toward_zero);
}

/* Tiles of 5 rows, 3 pairs of k and 7 columns: what lies beyond is not read, not written, and zero. */
static void test_part(void **state) {
    (void)state;
    tiles_twin unit;
    twin_config config = {.palette = 1};
    const int rows[3] = {5, 5, 3}, row_bytes[3] = {28, 12, 28}; /* c, a, b */
    for (int t = 0; t < 3; t++) {
        config.rows[t] = (uint8_t)rows[t];
        config.row_bytes[t] = (uint16_t)row_bytes[t];
    }
    matrix a, b, c;
    memset(&c, 0xFF, sizeof c);
    for (int row = 0; row < TILE_SIDE; row++)
        for (int i = 0; i < STRIDE / 2; i++) {
            set_bf16(&a, row, i, row < 5 && i < 6 ? (float)(row + i) : NAN);
            set_bf16(&b, row, i, row < 3 && i < 14 ? (float)(1 + row * i) : NAN);
        }
    twin_configure(&unit, &config);
    twin_load(&unit, 1, &a, STRIDE);
    twin_load(&unit, 2, &b, STRIDE);
    twin_dot(&unit, 0, 1, 2);
    twin_store(&unit, 0, &c, STRIDE);
    for (int m = 0; m < TILE_SIDE; m++)
        for (int n = 0; n < STRIDE / 4; n++) {
            float want = 0;
            for (int k = 0; k < 6; k++)
                want += (float)((m + k) * (1 + k / 2 * (2 * n + k % 2)));
            assert_true(m < 5 && n < 7 ? f32_at(&c, m, n) == want : isnan(f32_at(&c, m, n)));
        }
    for (int m = 0; m < TILE_SIDE; m++)
        for (int i = m < 5 ? 28 : 0; i < TILE_BYTES; i++)
            assert_int_equal(unit.tile[0][m][i], 0);
}

/* Configurations, and a product, that are a fault. */
static void misuse(int which) {
    tiles_twin unit;
    twin_config config = whole_tiles();
    signal(SIGILL, SIG_DFL);
    config.palette = which == 0 ? 2 : 1;
    config.reserved[13] = which == 1 ? 1 : 0;
    config.rows[3] = which == 2 ? 17 : 16;
    config.row_bytes[3] = which == 3 ? 0 : 64;
    config.rows[9] = which == 4 ? 16 : 0;
    config.row_bytes[9] = config.rows[9];
    config.rows[2] = which == 5 ? 15 : 16; /* 32 k, and 15 pairs of them */
    twin_configure(&unit, &config);
    if (which == 6)
        twin_release(&unit);
    twin_dot(&unit, 0, 1, which == 7 ? 1 : 2);
    _exit(0);
}
static void test_misuse(void **state) {
    (void)state;
    for (int which = 0; which < 9; which++) {
        int status;
        const pid_t child = fork();
        if (child == 0)
            misuse(which);
        assert_int_equal(waitpid(child, &status, 0), child);
        if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) != (which == 8))
            fail_msg("misuse %d ends with %x", which, (unsigned)status);
    }
}

/* Numbers of all sizes, a few of them denormal or zero. */
static void fill(matrix *m, test_random *r) {
    for (int row = 0; row < TILE_SIDE; row++)
        for (int i = 0; i < STRIDE / 2; i++) {
            const uint32_t bits = (uint32_t)test_random_u64(r), exponent = bits >> 16 & 0x3F;
            const uint16_t value = (uint16_t)((bits & 0x807Fu) | (exponent < 4 ? 0 : exponent + 30) << 7);
            memcpy(&m->bytes[row][2 * i], &value, sizeof value);
        }
}

/* Every instruction of tiles.h, with numbers of tiles that are all different: c0..c3 += a4|a5 times b6|b7. */
static void __attribute__((noinline)) by_unit(matrix c[4], const matrix a[2], const matrix b[2]) {
    tiles_begin(TILE_SIDE);
    tile_zero(0);
    tile_load(1, &c[1], STRIDE);
    tile_load(2, &c[2], STRIDE);
    tile_load(3, &c[3], STRIDE);
    tile_load(4, &a[0], STRIDE);
    tile_load(5, &a[1], STRIDE);
    tile_load(6, &b[0], STRIDE);
    tile_load(7, &b[1], STRIDE);
    tile_dot(0, 4, 6);
    tile_dot(1, 5, 6);
    tile_dot(2, 4, 7);
    tile_dot(3, 5, 7);
    tile_store(0, &c[0], STRIDE);
    tile_store(1, &c[1], STRIDE);
    tile_store(2, &c[2], STRIDE);
    tile_store(3, &c[3], STRIDE);
    tiles_end();
}

static void by_twin(matrix c[4], const matrix a[2], const matrix b[2]) {
    static tiles_twin unit;
    const twin_config config = whole_tiles();
    twin_configure(&unit, &config);
    for (int i = 0; i < 4; i++) {
        twin_load(&unit, 0, &c[i], STRIDE);
        if (i == 0)
            twin_zero(&unit, 0);
        twin_load(&unit, 1, &a[i % 2], STRIDE);
        twin_load(&unit, 2, &b[i / 2], STRIDE);
        twin_dot(&unit, 0, 1, 2);
        twin_store(&unit, 0, &c[i], STRIDE);
    }
}

static void test_unit(void **state) {
    (void)state;
    test_random r = {7};
    test_tiles_trap(); /* here: cmocka has its own answer to signals */
    for (int round = 0; round < 200; round++) {
        matrix a[2], b[2], c[4], want[4];
        for (int i = 0; i < 2; i++) {
            fill(&a[i], &r);
            fill(&b[i], &r);
        }
        for (int i = 0; i < 4; i++)
            fill(&c[i], &r);
        memcpy(want, c, sizeof want);
        by_twin(want, a, b);
        by_unit(c, a, b);
        assert_memory_equal(c, want, sizeof want);
    }
    assert_int_equal(test_tiles_trapped(), cdp_cpu_best_tier() == CDP_TIER_AMX ? 0 : 200 * 18);
}

/* What an instruction reads is written before it, though nobody else ever reads it. */
static void __attribute__((noinline)) from_scratch(matrix out[3]) {
    unsigned char scratch[TILE_SIDE * TILE_BYTES];
    tile_config config = {.palette = 1};
    for (int t = 0; t < 2; t++) {
        config.rows[t] = TILE_SIDE;
        config.row_bytes[t] = TILE_BYTES;
    }
    tile_configure(&config);
    memset(scratch, 3, sizeof scratch);
    tile_load(0, scratch, TILE_BYTES);
    memset(scratch, 5, sizeof scratch);
    tile_load(1, scratch, TILE_BYTES);
    tile_store(0, &out[0], STRIDE);
    tile_store(1, &out[1], STRIDE);
    config.rows[0] = 9;
    config.row_bytes[0] = 20;
    tile_configure(&config);
    memset(scratch, 7, sizeof scratch);
    tile_load(0, scratch, TILE_BYTES);
    tile_store(0, &out[2], STRIDE);
    tile_release();
}

static void test_memory(void **state) {
    (void)state;
    matrix out[3];
    memset(out, 0, sizeof out);
    test_tiles_trap();
    from_scratch(out);
    for (int row = 0; row < TILE_SIDE; row++)
        for (int i = 0; i < STRIDE; i++) {
            assert_int_equal(out[0].bytes[row][i], i < TILE_BYTES ? 3 : 0);
            assert_int_equal(out[1].bytes[row][i], i < TILE_BYTES ? 5 : 0);
            assert_int_equal(out[2].bytes[row][i], row < 9 && i < 20 ? 7 : 0);
        }
}

int main(void) {
    if (cdp_cpu_best_tier() < CDP_TIER_AVX2) {
        printf("the twin is compiled for AVX2, which this processor has not\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),  cmocka_unit_test(test_rounding), cmocka_unit_test(test_denormals),
        cmocka_unit_test(test_part),   cmocka_unit_test(test_misuse),   cmocka_unit_test(test_unit),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void) {
    printf("the matrix unit is one of x86 processors\n");
    return 77;
}
#endif
