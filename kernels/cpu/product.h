/* kernels/cpu/product.h - the matrix product of a tier: out[r,o] = sum_k x[r,k] * w[o,k].
 *
 * x (n_rows, cols) f32, w (rows, cols) row-major as the file has it, out (n_rows, rows) f32. Every output has
 * one vector accumulator that takes k in ascending order, VF at a time, and one fixed tree at the end: the
 * blocking below never shows in the bits, so decode, prompts and any company share one arithmetic.
 * Bound by the bytes of w for few rows, by FMAs for many. The outputs of one tile lie far apart in w:
 *
 *     w, the 128 outputs a worker takes     | 0 > > >       | 32 > > >      | 64 > > >      | 96 > > >      |
 *     a tile's four                           ^               ^               ^               ^
 *
 * so a worker reads a few long runs of bytes, which the processor fetches ahead by itself; neighbouring rows
 * of a few KB would be many short runs. Where w is needed more than once, short rows are also asked for an
 * item ahead. The AMX tier has another way for bf16 weights: product_tiles.h.
 */
#pragma once

#include "kernels/cpu/queue.h"
#include "kernels/cpu/simd.h"

enum {
    TILE_ROWS = 6,      /* rows of x that a tile takes at most */
    OUTS_PER_ITEM = 32, /* outputs whose weights stay in a worker's cache for all rows of x */
    ITEMS_ONCE = 4,     /* that a worker takes at once, where there are few rows */
    CACHE_LINE = 64,
    SHORT_ROW_BYTES = 3072 /* rows of w up to here are fetched ahead (measured: tests/bench/NOTEBOOK.md) */
};

typedef struct product_args {
    const float *x;
    size_t x_stride;
    int n_rows;
    cdp_tensor w;
    float *out;
    size_t out_stride;
} product_args;

SIMD void store_sums(float *out, int apart, vf a, vf b, vf c, vf d) {
    float sums[4];
    v_store_sums(sums, a, b, c, d);
    for (int i = 0; i < 4; i++)
        out[i * apart] = sums[i];
}

/* A tile is n rows of x times m rows of w, all its sums in registers. The compiler keeps an array of sums in
 * memory, so the sums are variables with names: s12 is row 1, output 2. Each macro says one thing for each
 * output, or for each row. */
/* clang-format off */
#define OUTS_1(DO, r) DO(r, 0)
#define OUTS_2(DO, r) DO(r, 0) DO(r, 1)
#define OUTS_4(DO, r) OUTS_2(DO, r) DO(r, 2) DO(r, 3)
#define ROWS_1(DO, OUTS) DO(0, OUTS)
#define ROWS_2(DO, OUTS) ROWS_1(DO, OUTS) DO(1, OUTS)
#define ROWS_3(DO, OUTS) ROWS_2(DO, OUTS) DO(2, OUTS)
#define ROWS_4(DO, OUTS) ROWS_3(DO, OUTS) DO(3, OUTS)
#define ROWS_5(DO, OUTS) ROWS_4(DO, OUTS) DO(4, OUTS)
#define ROWS_6(DO, OUTS) ROWS_5(DO, OUTS) DO(5, OUTS)

#define ZERO(r, o) vf s##r##o = v_set(0.0f);
#define LOAD_W(r, o) const vf w##o = v_load_as(a->w.data, dtype, first + o * far + k);
#define PART_W(r, o) const vf w##o = v_load_part(a->w.data, dtype, first + o * far + k, (int)(cols - k));
#define ADD(r, o) s##r##o = v_fma(x##r, w##o, s##r##o);
#define STORE_1(r) out[r * a->out_stride] = v_sum(s##r##0);
#define STORE_2(r) STORE_1(r) out[r * a->out_stride + (size_t)apart] = v_sum(s##r##1);
#define STORE_4(r) store_sums(out + r * a->out_stride, apart, s##r##0, s##r##1, s##r##2, s##r##3);
#define LOAD_X(r) const vf x##r = v_keep(v_load(x + r * a->x_stride + k));
#define PART_X(r) const vf x##r = v_load_part(x + r * a->x_stride, CDP_F32, k, (int)(cols - k));
#define ZERO_ROW(r, OUTS) OUTS(ZERO, r)
#define ADD_ROW(r, OUTS) LOAD_X(r) OUTS(ADD, r)
#define ADD_PART(r, OUTS) PART_X(r) OUTS(ADD, r)
#define STORE_ROW(r, STORE) STORE(r)

/* Rows row.. of x against outputs output, output + apart, ..: k ascending, VF at a time, the tail padded with
 * zeros. */
#define PRODUCT_TILE(name, ROWS, OUTS, STORE)                                                                \
    SIMD void name(const product_args *a, int row, int output, int apart, const cdp_dtype dtype) {           \
        const size_t cols = (size_t)a->w.cols, first = (size_t)output * cols, far = (size_t)apart * cols;    \
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

/* Tall tiles fill the registers: 32 hold 24 sums, 4 weights and 1 of x; 16 hold 12, 2 and 1. */
#if defined(__AVX512F__)
enum { TALL_OUTS = 4 };
#define OUTS_TALL OUTS_4
#define STORE_TALL STORE_4
#else
enum { TALL_OUTS = 2 };
#define OUTS_TALL OUTS_2
#define STORE_TALL STORE_2
#endif
PRODUCT_TILE(tile_one, ROWS_1, OUTS_1, STORE_1)
PRODUCT_TILE(tile_1, ROWS_1, OUTS_4, STORE_4)
PRODUCT_TILE(tile_2, ROWS_2, OUTS_4, STORE_4)
PRODUCT_TILE(tile_3, ROWS_3, OUTS_4, STORE_4)
PRODUCT_TILE(tile_4, ROWS_4, OUTS_TALL, STORE_TALL)
PRODUCT_TILE(tile_5, ROWS_5, OUTS_TALL, STORE_TALL)
PRODUCT_TILE(tile_6, ROWS_6, OUTS_TALL, STORE_TALL)

SIMD int tile_outs(int n_rows) {
    return n_rows > 3 ? TALL_OUTS : 4;
}

SIMD void product_tile(const product_args *a, int row, int n, int output, int apart, const cdp_dtype dtype) {
    switch (n) {
    case 1:
        tile_1(a, row, output, apart, dtype);
        break;
    case 2:
        tile_2(a, row, output, apart, dtype);
        break;
    case 3:
        tile_3(a, row, output, apart, dtype);
        break;
    case 4:
        tile_4(a, row, output, apart, dtype);
        break;
    case 5:
        tile_5(a, row, output, apart, dtype);
        break;
    default:
        tile_6(a, row, output, apart, dtype);
    }
}

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

/* Rows first.. of w, n_most at most, to be asked for in n_parts parts. */
static product_ahead rows_ahead(const cdp_tensor *w, int first, int n_most, size_t n_parts) {
    if (first >= w->rows)
        return (product_ahead){0};
    const size_t row_bytes = (size_t)w->cols * cdp_dtype_bytes(w->dtype);
    const size_t n_bytes = (size_t)(w->rows - first < n_most ? w->rows - first : n_most) * row_bytes;
    const char *at = (const char *)w->data + (size_t)first * row_bytes;
    return (product_ahead){at, at + n_bytes, n_bytes / n_parts + CACHE_LINE};
}

/* Rows row.. of x, n of them up to TILE_ROWS, against outputs [begin, end). */
SIMD void product_rows(const product_args *a, int row, int n, int begin, int end, product_ahead *ahead,
                       const cdp_dtype dtype) {
    const int n_outs = tile_outs(n), apart = (end - begin) / n_outs;
    for (int o = begin; o < begin + apart; o++) {
        fetch_ahead(ahead);
        product_tile(a, row, n, o, apart, dtype);
    }
    for (int o = begin + n_outs * apart; o < end; o++)
        for (int r = row; r < row + n; r++)
            tile_one(a, r, o, 1, dtype);
}

SIMD int row_tiles(const product_args *a) {
    return (a->n_rows + TILE_ROWS - 1) / TILE_ROWS;
}

/* All rows of x against the outputs of items [begin, end). */
SIMD void product_outs(const product_args *a, int begin, int end, product_ahead *ahead,
                       const cdp_dtype dtype) {
    const int n_tiles = row_tiles(a); /* of equal heights: 16 rows are 5 + 5 + 6 */
    const int first = begin * OUTS_PER_ITEM;
    const int last = end * OUTS_PER_ITEM < a->w.rows ? end * OUTS_PER_ITEM : a->w.rows;
    for (int tile = 0; tile < n_tiles; tile++) {
        const int row = a->n_rows * tile / n_tiles, next = a->n_rows * (tile + 1) / n_tiles;
        product_rows(a, row, next - row, first, last, ahead, dtype);
    }
}

static void product_items(const product_args *a, int begin, int end, product_ahead ahead) {
    if (a->w.dtype == CDP_BF16)
        product_outs(a, begin, end, &ahead, CDP_BF16);
    else if (a->w.dtype == CDP_F16)
        product_outs(a, begin, end, &ahead, CDP_F16);
    else
        product_outs(a, begin, end, &ahead, CDP_F32);
}

static int product_n_items(const product_args *a) {
    return (a->w.rows + OUTS_PER_ITEM - 1) / OUTS_PER_ITEM;
}

/* Few rows: every weight is needed once. Several items at a time make longer runs, but leave each worker a
 * few turns. */
static void product_once_job(const void *args, const cdp_turn *turn) {
    const product_args *a = args;
    const int n_items = product_n_items(a), fair = n_items / (2 * turn->n_workers);
    const int n_once = fair < 1 ? 1 : fair < ITEMS_ONCE ? fair : ITEMS_ONCE;
    int begin, end;
    while (cdp_turn_take(turn, n_items, n_once, &begin, &end))
        product_items(a, begin, end, (product_ahead){0});
}

/* The weights of item `item`, to be fetched over all tiles of the item before it; nothing where rows are
 * long. */
static product_ahead item_ahead(const product_args *a, int item) {
    if ((size_t)a->w.cols * cdp_dtype_bytes(a->w.dtype) > SHORT_ROW_BYTES)
        return (product_ahead){0};
    const int n_tiles = row_tiles(a) * (OUTS_PER_ITEM / TALL_OUTS);
    return rows_ahead(&a->w, item * OUTS_PER_ITEM, OUTS_PER_ITEM, (size_t)n_tiles);
}

/* Many rows: an item's weights are read again for each tile of rows. */
static void product_job(const void *args, const cdp_turn *turn) {
    const product_args *a = args;
    const int n_items = product_n_items(a);
    int item, next = 0, end;
    for (bool has = cdp_turn_take(turn, n_items, 1, &item, &end); has; item = next) {
        has = cdp_turn_take(turn, n_items, 1, &next, &end); /* taken early, to know what to fetch */
        product_items(a, item, item + 1, item_ahead(a, has ? next : n_items));
    }
}

static cdp_status submit_product(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                                 const cdp_tensor *w, float *out, size_t out_stride) {
    const product_args args = {x, x_stride, n_rows, *w, out, out_stride};
    return cdp_cpu_submit(device, n_rows > TILE_ROWS ? product_job : product_once_job, &args, sizeof args);
}
