/* kernels/cpu/product.h - the matrix product of a tier: out[r,o] = sum_k x[r,k] * w[o,k].
 *
 * x (n_rows, cols) f32, w (rows, cols) row-major as the file has it, out (n_rows, rows) f32. Every output has
 * one vector accumulator that takes k in ascending order, VF at a time, and one fixed tree at the end: the
 * blocking below never shows in the bits, so decode, prompts and any company share one arithmetic.
 * Bound by the bytes of w for few rows, by FMAs for many. The AMX tier will be another way to fill this job.
 */
#pragma once

#include "kernels/cpu/queue.h"
#include "kernels/cpu/simd.h"

#if defined(__AVX512F__)
enum { TILE_ROWS = 6, TILE_OUTS = 4, TILE_OUTS_ONE = 8 }; /* 24 accumulators of 32 registers */
#else
enum { TILE_ROWS = 4, TILE_OUTS = 2, TILE_OUTS_ONE = 4 }; /* 8 of 16 */
#endif
enum {
    OUTS_PER_ITEM = 32
}; /* weight rows a worker takes at once: they stay in its cache for all token rows */

typedef struct product_args {
    const float *x;
    size_t x_stride;
    int n_rows;
    cdp_tensor w;
    float *out;
    size_t out_stride;
} product_args;

/* n_rows x n_outs outputs from row r and output o on; both counts are constants where this is inlined. */
SIMD void product_tile(const product_args *a, int r, int o, const int n_rows, const int n_outs,
                       const cdp_dtype dtype) {
    vf sums[TILE_ROWS][TILE_OUTS_ONE];
    const int cols = a->w.cols;
    const float *x = a->x + (size_t)r * a->x_stride;
    const size_t first = (size_t)o * (size_t)cols;
#pragma GCC unroll 8
    for (int i = 0; i < n_rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n_outs; j++)
            sums[i][j] = v_set(0.0f);
    int k = 0;
    for (; k + VF <= cols; k += VF) {
        vf w[TILE_OUTS_ONE];
#pragma GCC unroll 8
        for (int j = 0; j < n_outs; j++)
            w[j] = v_load_as(a->w.data, dtype, first + (size_t)j * (size_t)cols + (size_t)k);
#pragma GCC unroll 8
        for (int i = 0; i < n_rows; i++) {
            const vf xi = v_load(x + (size_t)i * a->x_stride + k);
#pragma GCC unroll 8
            for (int j = 0; j < n_outs; j++)
                sums[i][j] = v_fma(xi, w[j], sums[i][j]);
        }
    }
    if (k < cols) {
#pragma GCC unroll 8
        for (int j = 0; j < n_outs; j++) {
            const vf w =
                v_load_part(a->w.data, dtype, first + (size_t)j * (size_t)cols + (size_t)k, cols - k);
#pragma GCC unroll 8
            for (int i = 0; i < n_rows; i++) {
                const vf xi = v_load_part(x + (size_t)i * a->x_stride, CDP_F32, (size_t)k, cols - k);
                sums[i][j] = v_fma(xi, w, sums[i][j]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n_outs; j++)
            a->out[(size_t)(r + i) * a->out_stride + (size_t)(o + j)] = v_sum(sums[i][j]);
}

/* All token rows for outputs [begin, end). */
SIMD void product_block(const product_args *a, int begin, int end, const cdp_dtype dtype) {
    int r = 0;
    for (; r + TILE_ROWS <= a->n_rows; r += TILE_ROWS) {
        int o = begin;
        for (; o + TILE_OUTS <= end; o += TILE_OUTS)
            product_tile(a, r, o, TILE_ROWS, TILE_OUTS, dtype);
        for (; o < end; o++)
            product_tile(a, r, o, TILE_ROWS, 1, dtype);
    }
    if (a->n_rows - r >= 2) { /* two rows share each load of a weight */
        for (; r + 2 <= a->n_rows; r += 2) {
            int o = begin;
            for (; o + TILE_OUTS <= end; o += TILE_OUTS)
                product_tile(a, r, o, 2, TILE_OUTS, dtype);
            for (; o < end; o++)
                product_tile(a, r, o, 2, 1, dtype);
        }
    }
    for (; r < a->n_rows; r++) {
        int o = begin;
        for (; o + TILE_OUTS_ONE <= end; o += TILE_OUTS_ONE)
            product_tile(a, r, o, 1, TILE_OUTS_ONE, dtype);
        for (; o < end; o++)
            product_tile(a, r, o, 1, 1, dtype);
    }
}

static void product_job(const void *args, const cdp_turn *turn) {
    const product_args *a = args;
    const int n_items = (a->w.rows + OUTS_PER_ITEM - 1) / OUTS_PER_ITEM;
    int begin, end;
    while (cdp_turn_take(turn, n_items, 1, &begin, &end)) {
        const int first = begin * OUTS_PER_ITEM;
        const int last = first + OUTS_PER_ITEM < a->w.rows ? first + OUTS_PER_ITEM : a->w.rows;
        if (a->w.dtype == CDP_BF16)
            product_block(a, first, last, CDP_BF16);
        else if (a->w.dtype == CDP_F16)
            product_block(a, first, last, CDP_F16);
        else
            product_block(a, first, last, CDP_F32);
    }
}

static cdp_status submit_product(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                                 const cdp_tensor *w, float *out, size_t out_stride) {
    const product_args args = {x, x_stride, n_rows, *w, out, out_stride};
    return cdp_cpu_submit(device, product_job, &args, sizeof args);
}
