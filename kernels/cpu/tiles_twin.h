/* kernels/cpu/tiles_twin.h - the matrix unit of a core in plain C, bit for bit as Intel's instruction
 * reference describes it: LDTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED, TDPBF16PS.
 *
 * For the tests alone: they run the kernels of this tier on processors that have no such unit (tiles.h), and
 * hold the unit to its twin where there is one. What the unit answers with a fault ends the process here.
 */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/dtype.h"

enum { TWIN_TILES = 8, TWIN_ROWS = 16, TWIN_ROW_BYTES = 64 };

/* What LDTILECFG reads. */
typedef struct twin_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} twin_config;

/* Of each thread its own. */
typedef struct tiles_twin {
    twin_config config;
    unsigned char tile[TWIN_TILES][TWIN_ROWS][TWIN_ROW_BYTES];
} tiles_twin;

static inline void twin_demand(bool is_allowed) {
    if (!is_allowed)
        __builtin_trap();
}

/* LDTILECFG: every tile is zero afterwards. */
static inline void twin_configure(tiles_twin *unit, const void *from) {
    static const unsigned char none[14];
    memcpy(&unit->config, from, sizeof unit->config);
    const twin_config *c = &unit->config;
    twin_demand(c->palette == 1 && c->start_row == 0 && memcmp(c->reserved, none, sizeof none) == 0);
    for (int t = 0; t < 16; t++) {
        twin_demand(c->rows[t] <= TWIN_ROWS && c->row_bytes[t] <= TWIN_ROW_BYTES);
        twin_demand((c->rows[t] == 0) == (c->row_bytes[t] == 0));
        twin_demand(t < TWIN_TILES || c->rows[t] == 0);
    }
    memset(unit->tile, 0, sizeof unit->tile);
}

/* TILERELEASE */
static inline void twin_release(tiles_twin *unit) {
    memset(unit, 0, sizeof *unit);
}

static inline bool twin_has(const tiles_twin *unit, int t) {
    return unit->config.palette == 1 && unit->config.rows[t] > 0;
}

/* TILEZERO */
static inline void twin_zero(tiles_twin *unit, int t) {
    twin_demand(twin_has(unit, t));
    memset(unit->tile[t], 0, sizeof unit->tile[t]);
}

/* TILELOADD: what lies beyond the tile's rows and their bytes becomes zero. */
static inline void twin_load(tiles_twin *unit, int t, const void *from, size_t stride) {
    twin_zero(unit, t);
    for (size_t m = 0; m < unit->config.rows[t]; m++)
        memcpy(unit->tile[t][m], (const char *)from + m * stride, unit->config.row_bytes[t]);
}

/* TILESTORED */
static inline void twin_store(const tiles_twin *unit, int t, void *to, size_t stride) {
    twin_demand(twin_has(unit, t));
    for (size_t m = 0; m < unit->config.rows[t]; m++)
        memcpy((char *)to + m * stride, unit->tile[t][m], unit->config.row_bytes[t]);
}

/* The unit neither asks nor changes the thread's MXCSR: it rounds to nearest even, takes denormals for zero
 * and makes none. No arithmetic is moved across: it works on memory. */
enum { TWIN_MXCSR = 0x9FC0 }; /* flush to zero, denormals are zero, all exceptions masked */
static inline uint32_t twin_change_mxcsr(uint32_t bits) {
    uint32_t before;
    __asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=&m"(before) : "m"(bits) : "memory");
    return before;
}

/* One row of TDPBF16PS: the even k and the odd k are a chain of fused products each, from zero on; the sum of
 * both is added to what the tile held. */
static inline void twin_dot_row(float *sums, const uint16_t *a, const unsigned char (*b)[TWIN_ROW_BYTES],
                                int n_pairs, int n_columns) {
    float chains[TWIN_ROW_BYTES / 2] = {0};
    for (int k = 0; k < n_pairs; k++) {
        const float x[2] = {cdp_bf16_to_f32(a[2 * k]), cdp_bf16_to_f32(a[2 * k + 1])};
        for (int i = 0; i < 2 * n_columns; i++)
            chains[i] = fmaf(x[i % 2], cdp_load(b[k], CDP_BF16, (size_t)i), chains[i]);
    }
    for (int n = 0; n < n_columns; n++)
        sums[n] += chains[2 * n] + chains[2 * n + 1];
}

/* TDPBF16PS: c (rows, columns) f32 += a (rows, pairs of k) b (pairs of k, columns of pairs) */
static inline void twin_dot(tiles_twin *unit, int c, int a, int b) {
    const twin_config *is = &unit->config;
    twin_demand(twin_has(unit, a) && twin_has(unit, b) && twin_has(unit, c));
    twin_demand(a != b && b != c && a != c);
    twin_demand(is->row_bytes[a] % 4 == 0 && is->row_bytes[c] % 4 == 0);
    twin_demand(is->rows[a] == is->rows[c] && is->row_bytes[b] == is->row_bytes[c]);
    twin_demand(is->row_bytes[a] / 4 == is->rows[b]);
    const uint32_t mxcsr = twin_change_mxcsr(TWIN_MXCSR);
    for (int m = 0; m < is->rows[c]; m++) {
        float sums[TWIN_ROW_BYTES / 4];
        uint16_t row[TWIN_ROW_BYTES / 2];
        memcpy(sums, unit->tile[c][m], sizeof sums);
        memcpy(row, unit->tile[a][m], sizeof row);
        twin_dot_row(sums, row, unit->tile[b], is->rows[b], is->row_bytes[c] / 4);
        memcpy(unit->tile[c][m], sums, sizeof sums);
    }
    twin_change_mxcsr(mxcsr);
}
