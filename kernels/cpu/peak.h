/* kernels/cpu/peak.h - what a tier multiplies at most: every worker repeats the tier's own instruction on
 * sums that never leave their registers. Enough sums stand side by side that none waits for the one before:
 *
 *     f32     12 vectors, sum = sum * w + x    (4 to 5 cycles a multiplication, two of them at once)
 *     bf16    4 tiles, sum += a . b            (52 cycles, one every 16; product_tiles.h has the same four)
 *
 * No value is zero and none stays as it is: power, and with it the clock, is that of real data.
 */
#pragma once

#include "kernels/cpu/measure.h"
#include "kernels/cpu/simd.h"
#if defined(TIER_HAS_TILES)
#include "kernels/cpu/tiles.h"
#endif

/* The compiler keeps an array of sums in memory, so they are variables with names. */
/* clang-format off */
#define PEAK_SUMS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define PEAK_BEGIN(i) vf sum##i = v_load(a->data + i);
#define PEAK_STEP(i) sum##i = v_fma(sum##i, w, x);
#define PEAK_TOTAL(i) total += sum##i;
/* clang-format on */
enum { N_PEAK_SUMS = 12 };

static void peak_job(const void *args, const cdp_turn *turn) {
    const cdp_peak_args *a = args;
    const vf w = v_set(a->data[0]), x = v_set(a->data[1]);
    vf total = v_set(0.0f);
    (void)turn;
    PEAK_SUMS(PEAK_BEGIN)
    for (int i = 0; i < a->n_turns; i++) {
        PEAK_SUMS(PEAK_STEP)
    }
    PEAK_SUMS(PEAK_TOTAL)
    atomic_store(a->sum, v_sum(total)); /* all of it is wanted, so nothing is left out */
    atomic_fetch_add(a->n_done, (uint64_t)a->n_turns);
}

#if defined(TIER_HAS_TILES)
static void tile_peak_job(const void *args, const cdp_turn *turn) {
    const cdp_peak_args *a = args;
    uint16_t factor[TILE_SIDE * TILE_K];
    float sums[TILE_SIDE * TILE_SIDE];
    (void)turn;
    for (int i = 0; i < TILE_SIDE * TILE_K; i++)
        factor[i] = (uint16_t)cdp_f32_to_bf16(a->data[i % CDP_PEAK_DATA]);
    tiles_begin(TILE_SIDE);
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    tile_load(4, factor, TILE_BYTES);
    tile_load(5, factor, TILE_BYTES);
    tile_load(6, factor, TILE_BYTES);
    tile_load(7, factor, TILE_BYTES);
    for (int i = 0; i < a->n_turns; i++) {
        tile_dot(0, 4, 6);
        tile_dot(1, 5, 6);
        tile_dot(2, 4, 7);
        tile_dot(3, 5, 7);
    }
    tile_store(0, sums, TILE_BYTES);
    tiles_end();
    atomic_store(a->sum, sums[0]);
    atomic_fetch_add(a->n_done, (uint64_t)a->n_turns);
}
#endif

/* cdp_ops_avx2 has cdp_ops_avx2_peak. */
#define PEAK_NAME_OF(ops) ops##_peak
#define PEAK_NAME(ops) PEAK_NAME_OF(ops)
const cdp_peak PEAK_NAME(TIER_OPS);
const cdp_peak PEAK_NAME(TIER_OPS) = {
    .f32 = peak_job,
    .f32_flop = 2.0 * N_PEAK_SUMS * VF,
#if defined(TIER_HAS_TILES)
    .bf16 = tile_peak_job,
    .bf16_flop = 4 * 2.0 * TILE_SIDE * TILE_SIDE * TILE_K,
#else
    .bf16 = peak_job, /* bf16 becomes f32 on its way in */
    .bf16_flop = 2.0 * N_PEAK_SUMS * VF,
#endif
};
