/* kernels/cpu/tiles.h - the matrix unit of a core (AMX): eight tiles of 16 rows by 64 bytes.
 *
 *     tile_dot(c, a, b)    c[m][n] += sum over p < 16 of a[m][2p] b[p][2n] + a[m][2p+1] b[p][2n+1]
 *
 * a holds 16 rows of 32 bf16, b the pairs (2p, 2p+1) of 32 k for 16 columns, c (16, 16) f32. The numbers of
 * tiles are constants of the instructions. Source of the semantics: Intel's instruction reference, TDPBF16PS.
 *
 * With CDP_TILES_TWIN every instruction is plain C, so that the tests run the kernels of this tier on
 * processors that have no such unit; the product is never built that way.
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

#if defined(CDP_TILES_TWIN)

static _Thread_local unsigned char twin_tiles[8][TILE_SIDE][TILE_BYTES];

SIMD void tiles_begin(void) {
    memset(twin_tiles, 0xFF, sizeof twin_tiles); /* NaN: a tile that is read before it is written shows */
}
SIMD void tiles_end(void) {
    memset(twin_tiles, 0xFF, sizeof twin_tiles);
}
SIMD void tile_zero(int t) {
    memset(twin_tiles[t], 0, sizeof twin_tiles[t]);
}
SIMD void tile_load(int t, const void *from, size_t stride) {
    for (int m = 0; m < TILE_SIDE; m++)
        memcpy(twin_tiles[t][m], (const char *)from + (size_t)m * stride, TILE_BYTES);
}
SIMD void tile_store(int t, void *to, size_t stride) {
    for (int m = 0; m < TILE_SIDE; m++)
        memcpy((char *)to + (size_t)m * stride, twin_tiles[t][m], TILE_BYTES);
}
static void tile_dot(int c, int a, int b) {
    for (int m = 0; m < TILE_SIDE; m++)
        for (int n = 0; n < TILE_SIDE; n++) {
            float sum;
            memcpy(&sum, &twin_tiles[c][m][4 * n], sizeof sum);
            for (int k = 0; k < TILE_K; k++)
                sum += cdp_load(twin_tiles[a][m], CDP_BF16, (size_t)k) *
                       cdp_load(twin_tiles[b][k / 2], CDP_BF16, (size_t)(2 * n + k % 2));
            memcpy(&twin_tiles[c][m][4 * n], &sum, sizeof sum);
        }
}

#else

/* What LDTILECFG reads: palette 1, all tiles whole. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Each thread has its own tiles. Between end and the next begin the core may power the unit down. */
SIMD void tiles_begin(void) {
    tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.row_bytes[t] = TILE_BYTES;
        config.rows[t] = TILE_SIDE;
    }
    _tile_loadconfig(&config);
}
SIMD void tiles_end(void) {
    _tile_release();
}
#define tile_zero(t) _tile_zero(t)
#define tile_load(t, from, stride) _tile_loadd(t, from, stride)
#define tile_store(t, to, stride) _tile_stored(t, to, stride)
#define tile_dot(c, a, b) _tile_dpbf16ps(c, a, b)

#endif

/* Half of a transposition: of the rows i and i + side the lanes with bit `side` set change places. */
SIMD void exchange(vu r[TILE_SIDE], const int side, const vi low, const vi high) {
#pragma GCC unroll 16
    for (int i = 0; i < TILE_SIDE; i++)
        if ((i & side) == 0) {
            const vu a = r[i], b = r[i + side];
            r[i] = __builtin_shuffle(a, b, low);
            r[i + side] = __builtin_shuffle(a, b, high);
        }
}

/* r[i][j] <- r[j][i], 32 bits each. A lane number of 16 or more names the second row's lane. */
SIMD void transpose(vu r[TILE_SIDE]) {
    exchange(r, 8, (vi){0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
             (vi){8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31});
    exchange(r, 4, (vi){0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27},
             (vi){4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31});
    exchange(r, 2, (vi){0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29},
             (vi){2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31});
    exchange(r, 1, (vi){0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30},
             (vi){1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31});
}
