/* kernels/cpu/product.h - the matrix product of a tier: out[r,o] = sum_k x[r,k] * w[o,k].
 *
 * x (n_rows, cols) f32, w (rows, cols) row-major as the file has it, out (n_rows, rows) f32. Every output has
 * one vector accumulator that takes k in ascending order, VF at a time, and one fixed tree at the end: the
 * blocking below never shows in the bits, so decode, prompts and any company share one arithmetic.
 * Bound by the bytes of w for few rows, by FMAs for many. The AMX tier has another way for bf16 weights:
 * product_tiles.h.
 */
#pragma once

#include "kernels/cpu/queue.h"
#include "kernels/cpu/simd.h"

/* Weight rows a worker takes at once: they stay in its cache for all token rows. */
enum { OUTS_PER_ITEM = 32 };

typedef struct product_args {
    const float *x;
    size_t x_stride;
    int n_rows;
    cdp_tensor w;
    float *out;
    size_t out_stride;
} product_args;

/* A tile is n rows of x times m rows of w, all its sums in registers. The compiler keeps an array of sums in
 * memory, so the sums are variables with names: s12 is row 1, output 2. Each macro says one thing for each
 * output, or for each row. */
/* clang-format off */
#define OUTS_1(DO, r) DO(r, 0)
#define OUTS_2(DO, r) DO(r, 0) DO(r, 1)
#define OUTS_4(DO, r) OUTS_2(DO, r) DO(r, 2) DO(r, 3)
#define OUTS_8(DO, r) OUTS_4(DO, r) DO(r, 4) DO(r, 5) DO(r, 6) DO(r, 7)
#define ROWS_1(DO, OUTS) DO(0, OUTS)
#define ROWS_2(DO, OUTS) DO(0, OUTS) DO(1, OUTS)
#define ROWS_4(DO, OUTS) ROWS_2(DO, OUTS) DO(2, OUTS) DO(3, OUTS)
#define ROWS_6(DO, OUTS) ROWS_4(DO, OUTS) DO(4, OUTS) DO(5, OUTS)

#define ZERO(r, o) vf s##r##o = v_set(0.0f);
#define LOAD_W(r, o) const vf w##o = v_load_as(a->w.data, dtype, first + o * cols + k);
#define PART_W(r, o) const vf w##o = v_load_part(a->w.data, dtype, first + o * cols + k, (int)(cols - k));
#define ADD(r, o) s##r##o = v_fma(x##r, w##o, s##r##o);
#define STORE(r, o) out[r * a->out_stride + o] = v_sum(s##r##o);
#define LOAD_X(r) const vf x##r = v_load(x + r * a->x_stride + k);
#define PART_X(r) const vf x##r = v_load_part(x + r * a->x_stride, CDP_F32, k, (int)(cols - k));
#define ZERO_ROW(r, OUTS) OUTS(ZERO, r)
#define ADD_ROW(r, OUTS) LOAD_X(r) OUTS(ADD, r)
#define ADD_PART(r, OUTS) PART_X(r) OUTS(ADD, r)
#define STORE_ROW(r, OUTS) OUTS(STORE, r)

/* Rows row.. of x against outputs output..: k ascending, VF at a time, the tail padded with zeros. */
#define PRODUCT_TILE(name, ROWS, OUTS)                                                                       \
    SIMD void name(const product_args *a, int row, int output, const cdp_dtype dtype) {                      \
        const size_t cols = (size_t)a->w.cols, first = (size_t)output * cols;                                \
        const float *x = a->x + (size_t)row * a->x_stride;                                                   \
        float *out = a->out + (size_t)row * a->out_stride + (size_t)output;                                  \
        size_t k = 0;                                                                                        \
        ROWS(ZERO_ROW, OUTS)                                                                                 \
        for (; k + VF <= cols; k += VF) {                                                                    \
            OUTS(LOAD_W, 0)                                                                                  \
            ROWS(ADD_ROW, OUTS)                                                                              \
        }                                                                                                    \
        if (k < cols) {                                                                                      \
            OUTS(PART_W, 0)                                                                                  \
            ROWS(ADD_PART, OUTS)                                                                             \
        }                                                                                                    \
        ROWS(STORE_ROW, OUTS)                                                                                \
    }
/* clang-format on */

#if defined(__AVX512F__) /* 32 registers: 24 sums, 4 weights, 1 of x */
enum { TILE_ROWS = 6, TILE_OUTS = 4, TILE_OUTS_ONE = 8 };
PRODUCT_TILE(tile_many, ROWS_6, OUTS_4)
PRODUCT_TILE(tile_many_1, ROWS_6, OUTS_1)
PRODUCT_TILE(tile_two, ROWS_2, OUTS_4)
PRODUCT_TILE(tile_one, ROWS_1, OUTS_8)
#else /* 16 registers: 8 sums, 2 weights, 1 of x */
enum { TILE_ROWS = 4, TILE_OUTS = 2, TILE_OUTS_ONE = 4 };
PRODUCT_TILE(tile_many, ROWS_4, OUTS_2)
PRODUCT_TILE(tile_many_1, ROWS_4, OUTS_1)
PRODUCT_TILE(tile_two, ROWS_2, OUTS_2)
PRODUCT_TILE(tile_one, ROWS_1, OUTS_4)
#endif
PRODUCT_TILE(tile_two_1, ROWS_2, OUTS_1)
PRODUCT_TILE(tile_one_1, ROWS_1, OUTS_1)

/* All token rows for outputs [begin, end): as many rows as share a load of a weight, then two, then one. */
SIMD void product_block(const product_args *a, int begin, int end, const cdp_dtype dtype) {
    int r = 0, o;
    for (; r + TILE_ROWS <= a->n_rows; r += TILE_ROWS) {
        for (o = begin; o + TILE_OUTS <= end; o += TILE_OUTS)
            tile_many(a, r, o, dtype);
        for (; o < end; o++)
            tile_many_1(a, r, o, dtype);
    }
    for (; r + 2 <= a->n_rows; r += 2) {
        for (o = begin; o + TILE_OUTS <= end; o += TILE_OUTS)
            tile_two(a, r, o, dtype);
        for (; o < end; o++)
            tile_two_1(a, r, o, dtype);
    }
    for (; r < a->n_rows; r++) {
        for (o = begin; o + TILE_OUTS_ONE <= end; o += TILE_OUTS_ONE)
            tile_one(a, r, o, dtype);
        for (; o < end; o++)
            tile_one_1(a, r, o, dtype);
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
