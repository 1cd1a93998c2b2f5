/* kernels/cpu/product.h - the matrix product of a tier: out[r,o] = sum_k x[r,k] * w[o,k].
 *
 * x (n_rows, cols) f32, w (rows, cols) row-major as the file has it, out (n_rows, rows) f32. Every output has
 * one vector accumulator that takes k in ascending order, VF at a time, and one fixed tree at the end: the
 * blocking below never shows in the bits, so decode, prompts and any company share one arithmetic.
 * Bound by the bytes of w for few rows, by FMAs for many. The processor's own prefetch follows one long run
 * of bytes, or a few long rows, but no bundle of short rows: there one row of w is taken at a time, or the
 * next item is asked for ahead. The AMX tier has another way for bf16 weights: product_tiles.h.
 */
#pragma once

#include "kernels/cpu/queue.h"
#include "kernels/cpu/simd.h"

enum {
    OUTS_PER_ITEM = 32, /* weight rows a worker takes at once: they stay in its cache for all token rows */
    CACHE_LINE = 64,
    /* Measured (tests/bench/NOTEBOOK.md): */
    SHORT_ROW_BYTES = 3072, /* rows of w up to here are fetched ahead */
    FEW_ROWS = 2,           /* up to so many rows of x, of together ... */
    FEW_BYTES = 16 << 10,   /* ... so many bytes, take one row of w at a time: x stays in the first cache */
};

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
#define ROWS_2(DO, OUTS) ROWS_1(DO, OUTS) DO(1, OUTS)
#define ROWS_3(DO, OUTS) ROWS_2(DO, OUTS) DO(2, OUTS)
#define ROWS_4(DO, OUTS) ROWS_3(DO, OUTS) DO(3, OUTS)
#define ROWS_5(DO, OUTS) ROWS_4(DO, OUTS) DO(4, OUTS)
#define ROWS_6(DO, OUTS) ROWS_5(DO, OUTS) DO(5, OUTS)

#define ZERO(r, o) vf s##r##o = v_set(0.0f);
#define LOAD_W(r, o) const vf w##o = v_load_as(a->w.data, dtype, first + o * cols + k);
#define PART_W(r, o) const vf w##o = v_load_part(a->w.data, dtype, first + o * cols + k, (int)(cols - k));
#define ADD(r, o) s##r##o = v_fma(x##r, w##o, s##r##o);
#define STORE_1(r) out[r * a->out_stride] = v_sum(s##r##0);
#define STORE_2(r) STORE_1(r) out[r * a->out_stride + 1] = v_sum(s##r##1);
#define STORE_4(r) v_store_sums(out + r * a->out_stride, s##r##0, s##r##1, s##r##2, s##r##3);
#define STORE_8(r) STORE_4(r) v_store_sums(out + r * a->out_stride + 4, s##r##4, s##r##5, s##r##6, s##r##7);
#define LOAD_X(r) const vf x##r = v_keep(v_load(x + r * a->x_stride + k));
#define PART_X(r) const vf x##r = v_load_part(x + r * a->x_stride, CDP_F32, k, (int)(cols - k));
#define ZERO_ROW(r, OUTS) OUTS(ZERO, r)
#define ADD_ROW(r, OUTS) LOAD_X(r) OUTS(ADD, r)
#define ADD_PART(r, OUTS) PART_X(r) OUTS(ADD, r)
#define STORE_ROW(r, STORE) STORE(r)

/* Rows row.. of x against outputs output..: k ascending, VF at a time, the tail padded with zeros. */
#define PRODUCT_TILE(name, ROWS, OUTS, STORE)                                                                \
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
        ROWS(STORE_ROW, STORE)                                                                               \
    }
/* clang-format on */

PRODUCT_TILE(tile_1x1, ROWS_1, OUTS_1, STORE_1)
PRODUCT_TILE(tile_2x1, ROWS_2, OUTS_1, STORE_1)
#if defined(__AVX512F__) /* 32 registers: 24 sums, 4 weights, 1 of x */
enum { TILE_ROWS = 6, TILE_OUTS = 4, TILE_OUTS_ONE = 8 };
PRODUCT_TILE(tile_1, ROWS_1, OUTS_8, STORE_8)
PRODUCT_TILE(tile_2, ROWS_2, OUTS_4, STORE_4)
PRODUCT_TILE(tile_3, ROWS_3, OUTS_4, STORE_4)
PRODUCT_TILE(tile_4, ROWS_4, OUTS_4, STORE_4)
PRODUCT_TILE(tile_5, ROWS_5, OUTS_4, STORE_4)
PRODUCT_TILE(tile_6, ROWS_6, OUTS_4, STORE_4)
#else /* 16 registers: 12 sums, 2 weights, 1 of x */
enum { TILE_ROWS = 6, TILE_OUTS = 2, TILE_OUTS_ONE = 4 };
PRODUCT_TILE(tile_1, ROWS_1, OUTS_4, STORE_4)
PRODUCT_TILE(tile_2, ROWS_2, OUTS_2, STORE_2)
PRODUCT_TILE(tile_3, ROWS_3, OUTS_2, STORE_2)
PRODUCT_TILE(tile_4, ROWS_4, OUTS_2, STORE_2)
PRODUCT_TILE(tile_5, ROWS_5, OUTS_2, STORE_2)
PRODUCT_TILE(tile_6, ROWS_6, OUTS_2, STORE_2)
#endif

/* Weights on their way into this worker's second cache: `step` bytes are asked for before each tile. */
typedef struct product_ahead {
    const char *at, *end;
    size_t step;
} product_ahead;

SIMD void fetch_ahead(product_ahead *ahead) {
    const size_t left = (size_t)(ahead->end - ahead->at);
    const char *end = ahead->at + (ahead->step < left ? ahead->step : left);
    for (; ahead->at < end; ahead->at += CACHE_LINE)
        __builtin_prefetch(ahead->at, 0, 2);
}

/* Rows row.. of x, n of them up to TILE_ROWS, against outputs [begin, end). */
SIMD void product_rows(const product_args *a, int row, int n, int begin, int end, product_ahead *ahead,
                       const cdp_dtype dtype) {
    const int step = n == 1 ? TILE_OUTS_ONE : TILE_OUTS;
    int o = begin;
    for (; o + step <= end; o += step) {
        fetch_ahead(ahead);
        switch (n) {
        case 1:
            tile_1(a, row, o, dtype);
            break;
        case 2:
            tile_2(a, row, o, dtype);
            break;
        case 3:
            tile_3(a, row, o, dtype);
            break;
        case 4:
            tile_4(a, row, o, dtype);
            break;
        case 5:
            tile_5(a, row, o, dtype);
            break;
        default:
            tile_6(a, row, o, dtype);
        }
    }
    for (; o < end; o++)
        for (int r = row; r < row + n; r++)
            tile_1x1(a, r, o, dtype);
}

SIMD int row_tiles(const product_args *a) {
    return (a->n_rows + TILE_ROWS - 1) / TILE_ROWS;
}

/* All rows of x against outputs [begin, end). */
SIMD void product_block(const product_args *a, int begin, int end, product_ahead *ahead,
                        const cdp_dtype dtype) {
    const size_t x_bytes = (size_t)a->n_rows * (size_t)a->w.cols * sizeof *a->x;
    if (a->n_rows <= FEW_ROWS && x_bytes <= FEW_BYTES) {
        for (int o = begin; o < end; o++)
            if (a->n_rows == 1)
                tile_1x1(a, 0, o, dtype);
            else
                tile_2x1(a, 0, o, dtype);
        return;
    }
    const int n_tiles = row_tiles(a); /* of equal heights: 16 rows are 5 + 5 + 6 */
    for (int tile = 0; tile < n_tiles; tile++) {
        const int row = a->n_rows * tile / n_tiles, next = a->n_rows * (tile + 1) / n_tiles;
        product_rows(a, row, next - row, begin, end, ahead, dtype);
    }
}

/* The weights of item `item`, to be fetched over all tiles of the item before it; nothing where rows are
 * long. */
static product_ahead item_ahead(const product_args *a, int item) {
    const size_t row_bytes = (size_t)a->w.cols * cdp_dtype_bytes(a->w.dtype);
    const int first = item * OUTS_PER_ITEM;
    if (first >= a->w.rows || row_bytes > SHORT_ROW_BYTES)
        return (product_ahead){0};
    const int n_outs = a->w.rows - first < OUTS_PER_ITEM ? a->w.rows - first : OUTS_PER_ITEM;
    const int n_tiles = row_tiles(a) * (OUTS_PER_ITEM / TILE_OUTS);
    const char *at = (const char *)a->w.data + (size_t)first * row_bytes;
    return (product_ahead){at, at + (size_t)n_outs * row_bytes,
                           (size_t)n_outs * row_bytes / (size_t)n_tiles + CACHE_LINE};
}

static void product_job(const void *args, const cdp_turn *turn) {
    const product_args *a = args;
    const int n_items = (a->w.rows + OUTS_PER_ITEM - 1) / OUTS_PER_ITEM;
    int item, next = 0, end;
    for (bool has = cdp_turn_take(turn, n_items, 1, &item, &end); has; item = next) {
        has = cdp_turn_take(turn, n_items, 1, &next, &end); /* taken early, to know what to fetch */
        product_ahead ahead = item_ahead(a, has ? next : n_items);
        const int first = item * OUTS_PER_ITEM;
        const int last = first + OUTS_PER_ITEM < a->w.rows ? first + OUTS_PER_ITEM : a->w.rows;
        if (a->w.dtype == CDP_BF16)
            product_block(a, first, last, &ahead, CDP_BF16);
        else if (a->w.dtype == CDP_F16)
            product_block(a, first, last, &ahead, CDP_F16);
        else
            product_block(a, first, last, &ahead, CDP_F32);
    }
}

static cdp_status submit_product(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                                 const cdp_tensor *w, float *out, size_t out_stride) {
    const product_args args = {x, x_stride, n_rows, *w, out, out_stride};
    return cdp_cpu_submit(device, product_job, &args, sizeof args);
}
