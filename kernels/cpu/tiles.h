/* kernels/cpu/tiles.h - the matrix unit of a core (AMX): eight tiles of 16 rows by 64 bytes.
 *
 *     tile_dot(c, a, b)    c[m][n] += sum over p < 16 of a[m][2p] b[p][2n] + a[m][2p+1] b[p][2n+1]
 *
 * a holds 16 rows of 32 bf16, b the pairs (2p, 2p+1) of 32 k for 16 columns, c (16, 16) f32. The numbers of
 * tiles are constants of the instructions. In which order a product is summed: tiles_twin.h.
 *
 * With CDP_TILES_TWIN every instruction is its twin in plain C, so that the tests run the kernels of this
 * tier on processors that have no such unit; the product is never built that way.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels/cpu/simd.h"

enum {
    TILE_SIDE = 16,  /* rows of a tile, and f32 or pairs of bf16 of a row */
    TILE_K = 32,     /* bf16 of a row */
    TILE_BYTES = 64, /* of a row */
};

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Each instruction, once by the twin and once by the unit. Loads and stores of tiles reach memory by an
 * address and a stride, of which the compiler knows nothing: "memory" says that everything written before
 * lies there, and that everything may have changed. (The intrinsics of GCC 12 say so of the store alone, and
 * of the configuration that 8 of its 64 bytes are read.) The compiler has no use for tiles of its own, and
 * keeps volatile statements in their order. */
#if defined(CDP_TILES_TWIN)
#include "kernels/cpu/tiles_twin.h"
static _Thread_local tiles_twin twin_unit;
#define tile_configure(config) twin_configure(&twin_unit, config)
#define tile_release() twin_release(&twin_unit)
#define tile_zero(t) twin_zero(&twin_unit, t)
#define tile_load(t, from, stride) twin_load(&twin_unit, t, from, stride)
#define tile_store(t, to, stride) twin_store(&twin_unit, t, to, stride)
#define tile_dot(c, a, b) twin_dot(&twin_unit, c, a, b)
#else
#define tile_configure(config) __asm__ volatile("ldtilecfg %0" : : "m"(*(const tile_config *)(config)))
#define tile_release() __asm__ volatile("tilerelease" : :)
#define tile_zero(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define tile_load(t, from, stride)                                                                           \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
#define tile_store(t, to, stride)                                                                            \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
#define tile_dot(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#endif

/* Palette 1: sums in tiles 0 to 3, and for their products A tiles 4 and 5, B tiles 6 and 7, of n_pairs pairs
 * of k, 16 at most. Each thread has its own tiles. Between end and the next begin the core may power the unit
 * down. */
SIMD void tiles_begin(int n_pairs) {
    tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.row_bytes[t] = (uint16_t)(t == 4 || t == 5 ? n_pairs * 4 : TILE_BYTES);
        config.rows[t] = (uint8_t)(t >= 6 ? n_pairs : TILE_SIDE);
    }
    tile_configure(&config);
}
SIMD void tiles_end(void) {
    tile_release();
}

/* 16 numbers of 32 bits, whatever vectors the rest of the tier has. */
typedef uint32_t tile_row __attribute__((vector_size(64)));
typedef int32_t tile_lanes __attribute__((vector_size(64)));

/* Half of a transposition: of the rows i and i + side the lanes with bit `side` set change places. */
SIMD void exchange(tile_row r[TILE_SIDE], const int side, const tile_lanes *low, const tile_lanes *high) {
#pragma GCC unroll 16
    for (int i = 0; i < TILE_SIDE; i++)
        if ((i & side) == 0) {
            const tile_row a = r[i], b = r[i + side];
            r[i] = __builtin_shuffle(a, b, *low);
            r[i + side] = __builtin_shuffle(a, b, *high);
        }
}

/* r[i][j] <- r[j][i], 32 bits each. A lane number of 16 or more names the second row's lane. */
SIMD void transpose(tile_row r[TILE_SIDE]) {
    exchange(r, 8, &(tile_lanes){0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
             &(tile_lanes){8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31});
    exchange(r, 4, &(tile_lanes){0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27},
             &(tile_lanes){4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31});
    exchange(r, 2, &(tile_lanes){0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29},
             &(tile_lanes){2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31});
    exchange(r, 1, &(tile_lanes){0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30},
             &(tile_lanes){1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31});
}

/* 32 values of a row, each the upper half of its f32, as 16 pairs; beyond n they are 0. */
SIMD void bf16_pairs(tile_row *out, const float *x, int n) {
    float edge[TILE_K] = {0};
    if (n < TILE_K)
        memcpy(edge, x, (size_t)n * sizeof *x);
    const float *from = n < TILE_K ? edge : x;
    tile_row first, second;
    memcpy(&first, from, sizeof first);
    memcpy(&second, from + TILE_SIDE, sizeof second);
    const tile_row even = __builtin_shuffle(
        first, second, (tile_lanes){0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30});
    const tile_row odd = __builtin_shuffle(
        first, second, (tile_lanes){1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31});
    *out = (even >> 16) | (odd & 0xFFFF0000u);
}
