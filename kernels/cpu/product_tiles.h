/* kernels/cpu/product_tiles.h - the product of bf16 weights on the matrix unit: out[r,o] = sum_k x[r,k]
 * w[o,k].
 *
 *     x (n_rows, cols) --pack--> B tiles: 16 pairs of k by 16 rows of x         one job, by all workers
 *     w (rows, cols)  as the file has it: A tiles of 16 outputs by 32 k         no second copy, no packing
 *     2 x 2 blocks    C tiles 0 1 2 3 = outputs {0, 16} x rows {0, 16}          four loads feed four products
 *
 * Every output takes its k 32 a step: the unit sums the 16 even and the 16 odd ones from zero on, adds the
 * two sums, and adds that to the output's accumulator. Steps go in ascending order, whatever the other rows
 * are: one token or a prompt, the bits are the same. x holds values that are bf16 already (ops.h, rounding),
 * so packing loses nothing. One row costs as much as sixteen, but even then the unit takes weights faster
 * than memory brings them: 32 rows of w side by side, which no processor fetches ahead by itself, so those of
 * the next item are asked for. What sticks out at the edges of w passes a small copy filled up with zeros.
 *
 * The two A tiles may also be gate rows and up rows of a prompt's gate_up: silu(gate) * up is then made of
 * the sums before they leave the core, and they lie as down's B tiles want them.
 */
#pragma once

#include "kernels/cpu/product.h"
#include "kernels/cpu/tiles.h"

enum {
    OUTS_PER_BLOCK = 2 * TILE_SIDE, /* outputs a worker takes at once: their weights stay in its cache */
    STEPS_PER_PACK = 8,             /* k steps that a worker packs at once */
    PACKED_TILE = TILE_SIDE * TILE_K,
    MOST_AHEAD = 896 << 10, /* of weights: those of the next item lie beside this one's in 2 MiB */
    FEW_ROWS = TILE_SIDE,   /* up to here a product waits for its weights, beyond for the unit */
};

typedef struct tiles_args {
    const float *x;
    size_t x_stride;
    int n_rows;
    cdp_tensor w;
    float *out;
    size_t out_stride;
    uint16_t *packed;  /* (row blocks, k steps, 16 pairs of k, 16 rows, 2) */
    int n_outs, far;   /* outputs of a row; from the first A tile's to the second one's */
    uint16_t *gated;   /* instead of out: silu(gate) * up, packed for the next product */
    const float *bias; /* (w.rows), or NULL; of a gated product */
} tiles_args;

static int n_steps(const tiles_args *a) {
    return (a->w.cols + TILE_K - 1) / TILE_K;
}
static int n_row_blocks(const tiles_args *a) {
    return (a->n_rows + TILE_SIDE - 1) / TILE_SIDE;
}
static uint16_t *packed_at(const tiles_args *a, int row_block, int step) {
    return a->packed + ((size_t)row_block * (size_t)n_steps(a) + (size_t)step) * PACKED_TILE;
}

/* Pairs of n_rows rows' next n values. Where both are constants nothing is asked inside. */
SIMD void read_pairs(tile_row *pairs, const float *x, size_t x_stride, const int n_rows, const int n) {
    for (int r = 0; r < n_rows; r++)
        bf16_pairs(&pairs[r], x + (size_t)r * x_stride, n);
}

static void pack_tile(const tiles_args *a, int row_block, int step) {
    const int first = row_block * TILE_SIDE, k = step * TILE_K;
    const int n_rows = a->n_rows - first < TILE_SIDE ? a->n_rows - first : TILE_SIDE, n = a->w.cols - k;
    const float *x = a->x + (size_t)first * a->x_stride + (size_t)k;
    tile_row pairs[TILE_SIDE];
    if (n_rows == TILE_SIDE && n >= TILE_K) {
        read_pairs(pairs, x, a->x_stride, TILE_SIDE, TILE_K);
    } else {
        memset(pairs, 0, sizeof pairs);
        read_pairs(pairs, x, a->x_stride, n_rows, n);
    }
    transpose(pairs);
    memcpy(packed_at(a, row_block, step), pairs, sizeof pairs);
}

static void pack_job(const void *args, const cdp_turn *turn) {
    const tiles_args *a = args;
    const int n_packs = (n_steps(a) + STEPS_PER_PACK - 1) / STEPS_PER_PACK;
    int item, end;
    while (cdp_turn_take(turn, n_row_blocks(a) * n_packs, 1, &item, &end)) {
        const int first = item % n_packs * STEPS_PER_PACK;
        for (int step = first; step < first + STEPS_PER_PACK && step < n_steps(a); step++)
            pack_tile(a, item / n_packs, step);
    }
}

/* 16 rows of w from `output` on, 32 values from k: where they lie, or copied to `edge` where they stick out.
 */
SIMD const void *weights_at(const tiles_args *a, int output, int k, unsigned char *edge, size_t *stride_out) {
    const int n_rows = a->w.rows - output, n_cols = a->w.cols - k;
    const uint16_t *w = (const uint16_t *)a->w.data + (size_t)output * (size_t)a->w.cols + (size_t)k;
    *stride_out = (size_t)a->w.cols * sizeof *w;
    if (n_rows >= TILE_SIDE && n_cols >= TILE_K)
        return w;
    *stride_out = TILE_BYTES;
    memset(edge, 0, TILE_SIDE * TILE_BYTES);
    for (int r = 0; r < TILE_SIDE && r < n_rows; r++)
        memcpy(edge + (size_t)r * TILE_BYTES, w + (size_t)r * (size_t)a->w.cols,
               (size_t)(n_cols < TILE_K ? n_cols : TILE_K) * sizeof *w);
    return edge;
}

/* A finished tile of sums (16 outputs, 16 rows) to its place in out: whole rows of it by one store each. */
static void put_sums(const tiles_args *a, const float *sums, int output, int row) {
    const int n_outs = a->n_outs - output < TILE_SIDE ? a->n_outs - output : TILE_SIDE;
    const int n_rows = a->n_rows - row < TILE_SIDE ? a->n_rows - row : TILE_SIDE;
    float *out = a->out + (size_t)row * a->out_stride + (size_t)output;
    tile_row r[TILE_SIDE];
    memcpy(r, sums, sizeof r);
    transpose(r);
    for (int i = 0; n_outs == TILE_SIDE && i < n_rows; i++)
        memcpy(out + (size_t)i * a->out_stride, &r[i], sizeof r[i]);
    for (int i = 0; n_outs > 0 && n_outs < TILE_SIDE && i < n_rows; i++)
        memcpy(out + (size_t)i * a->out_stride, &r[i], (size_t)n_outs * sizeof(float));
}

/* round(silu(gate) * up) as in row_silu_product, both with their bias, of output o and VF rows; 0 beyond the
 * last output. */
SIMD vf gated_sums(const tiles_args *a, const float *gate, const float *up, int o) {
    if (o >= a->n_outs)
        return v_set(0.0f);
    const vf g = a->bias != NULL ? v_load(gate) + v_set(a->bias[o]) : v_load(gate);
    const vf u = a->bias != NULL ? v_load(up) + v_set(a->bias[a->far + o]) : v_load(up);
    return v_round_bf16(g / (1.0f + v_exp(-g)) * u);
}

/* 16 outputs of 16 rows are half a B tile of the next product, as the sums lie. */
static void put_gated(const tiles_args *a, float (*sums)[TILE_SIDE * TILE_SIDE], int output, int row) {
    const int n_next = (a->n_outs + TILE_K - 1) / TILE_K;
    uint16_t *tile = a->gated + (size_t)(row / TILE_SIDE * n_next + output / TILE_K) * PACKED_TILE;
    for (int i = 0; i < TILE_SIDE; i += 2)
        for (int r = 0; r < TILE_SIDE; r += VF) {
            const float *gate = sums[0] + i * TILE_SIDE + r, *up = sums[1] + i * TILE_SIDE + r;
            const vu even = (vu)gated_sums(a, gate, up, output + i);
            const vu odd = (vu)gated_sums(a, gate + TILE_SIDE, up + TILE_SIDE, output + i + 1);
            const vu pairs = (even >> 16) | odd;
            memcpy(tile + (output % TILE_K + i) * TILE_SIDE + 2 * r, &pairs, sizeof pairs);
        }
}

/* The first A tile's sums and the second one's. */
static void put_both(const tiles_args *a, float (*sums)[TILE_SIDE * TILE_SIDE], int output, int row) {
    if (a->gated != NULL) {
        put_gated(a, sums, output, row);
        return;
    }
    put_sums(a, sums[0], output, row);
    put_sums(a, sums[1], output + a->far, row);
}

/* The outputs of two A tiles, of one row block or of two. */
SIMD void tiles_block(const tiles_args *a, int output, int row_block, const bool has_two,
                      product_ahead *ahead) {
    unsigned char edges[2][TILE_SIDE * TILE_BYTES];
    float sums[2][TILE_SIDE * TILE_SIDE];
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (int step = 0; step < n_steps(a); step++) {
        size_t stride_0, stride_1;
        fetch_ahead(&ahead[0]);
        fetch_ahead(&ahead[1]);
        const void *w0 = weights_at(a, output, step * TILE_K, edges[0], &stride_0);
        const void *w1 = weights_at(a, output + a->far, step * TILE_K, edges[1], &stride_1);
        tile_load(4, w0, stride_0);
        tile_load(5, w1, stride_1);
        tile_load(6, packed_at(a, row_block, step), TILE_BYTES);
        tile_dot(0, 4, 6);
        tile_dot(1, 5, 6);
        if (has_two) {
            tile_load(7, packed_at(a, row_block + 1, step), TILE_BYTES);
            tile_dot(2, 4, 7);
            tile_dot(3, 5, 7);
        }
    }
    const int row = row_block * TILE_SIDE;
    tile_store(0, sums[0], TILE_BYTES);
    tile_store(1, sums[1], TILE_BYTES);
    put_both(a, sums, output, row);
    if (has_two) {
        tile_store(2, sums[0], TILE_BYTES);
        tile_store(3, sums[1], TILE_BYTES);
        put_both(a, sums, output, row + TILE_SIDE);
    }
}

/* The weights of the A tile at `output`, to be fetched over all steps of the item before; nothing where both
 * items' would not fit into a core's second cache. */
static product_ahead tile_ahead(const tiles_args *a, int output) {
    if ((size_t)a->w.cols * sizeof(uint16_t) * OUTS_PER_BLOCK > MOST_AHEAD)
        return (product_ahead){0};
    const int n_parts = n_steps(a) * ((n_row_blocks(a) + 1) / 2);
    return rows_ahead(&a->w, output, TILE_SIDE, (size_t)n_parts);
}

static void tiles_job(const void *args, const cdp_turn *turn) {
    const tiles_args *a = args;
    const int n_blocks = (a->n_outs + OUTS_PER_BLOCK - 1) / OUTS_PER_BLOCK, n_each = a->gated != NULL ? 2 : 1;
    const int n_items = n_blocks * n_each, n_once = OUTS_PER_BLOCK / n_each;
    int item, next = 0, end;
    tiles_begin(TILE_SIDE);
    for (bool has = cdp_turn_take(turn, n_items, 1, &item, &end); has; item = next) {
        has = cdp_turn_take(turn, n_items, 1, &next, &end); /* taken early, to know what to fetch */
        product_ahead ahead[2] = {{0}};
        for (int i = 0; has && i < 2; i++)
            ahead[i] = tile_ahead(a, next * n_once + i * a->far);
        int block = 0;
        for (; block + 2 <= n_row_blocks(a); block += 2)
            tiles_block(a, item * n_once, block, true, ahead);
        if (block < n_row_blocks(a))
            tiles_block(a, item * n_once, block, false, ahead);
    }
    tiles_end();
}

/* x is packed already. */
static cdp_status submit_packed(cdp_device *device, int n_rows, const cdp_tensor *w, float *out,
                                size_t out_stride, uint16_t *packed) {
    const tiles_args args = {.n_rows = n_rows,
                             .w = *w,
                             .out = out,
                             .out_stride = out_stride,
                             .packed = packed,
                             .n_outs = w->rows,
                             .far = TILE_SIDE};
    return cdp_cpu_submit(device, tiles_job, &args, sizeof args);
}

static cdp_status submit_pack(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                              const cdp_tensor *w, uint16_t *packed) {
    const tiles_args args = {.x = x, .x_stride = x_stride, .n_rows = n_rows, .w = *w, .packed = packed};
    return cdp_cpu_submit(device, pack_job, &args, sizeof args);
}

static cdp_status submit_tiles(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                               const cdp_tensor *w, float *out, size_t out_stride, uint16_t *packed) {
    CDP_TRY(submit_pack(device, x, x_stride, n_rows, w, packed));
    return submit_packed(device, n_rows, w, out, out_stride, packed);
}

/* Weights of gate rows and up rows: round(silu(gate) * up) straight from the sums, packed for submit_packed.
 * The rows of both lie half a matrix apart, not both near the worker that takes them (nodes.h): for the many
 * rows of a prompt, which wait for no memory. The bits are those of the other way. */
static cdp_status submit_gated(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                               const cdp_tensor *w, const float *bias, uint16_t *gated, uint16_t *packed) {
    const tiles_args args = {.n_rows = n_rows,
                             .w = *w,
                             .packed = packed,
                             .n_outs = w->rows / 2,
                             .far = w->rows / 2,
                             .gated = gated,
                             .bias = bias};
    CDP_TRY(submit_pack(device, x, x_stride, n_rows, w, packed));
    return cdp_cpu_submit(device, tiles_job, &args, sizeof args);
}

/* A layer whose down reads what its gate_up packed. From 16 outputs and 17 rows on, whole tiles of bf16 fit
 * into the place of 2 f32. */
static bool is_gated_by_tiles(const cdp_layer *layer, int n_rows) {
    return layer->gate_up.dtype == CDP_BF16 && layer->down.dtype == CDP_BF16 &&
           layer->gate_up.rows >= 2 * TILE_SIDE && n_rows > FEW_ROWS;
}
