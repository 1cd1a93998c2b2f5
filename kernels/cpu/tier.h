/* kernels/cpu/tier.h - the operation table of one tier. plain.c, avx2.c, avx512.c and amx.c define TIER_OPS
 * and TIER_NAME, and include this under their own instruction flags; the code is the same, the vectors
 * differ, and with TIER_HAS_TILES products of bf16 weights and attention over bf16 go to the matrix unit.
 *
 * An operation is a few jobs: rows are normed, the matrix product takes all workers, rows are finished.
 */
#pragma once

#include "kernels/cpu/attention_items.h"
#include "kernels/cpu/peak.h"
#include "kernels/cpu/product.h"
#if defined(TIER_HAS_TILES)
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/product_tiles.h"
#else
static bool attends_by_tiles(const cdp_shape *s) {
    (void)s;
    return false;
}
#endif

typedef struct row_args {
    const cdp_shape *shape;
    const cdp_layer *layer;
    const cdp_tensor *norm, *bias;
    cdp_step_view step;
    cdp_buffers buf;
} row_args;

static size_t qkv_width(const cdp_shape *s) {
    return (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim);
}

static uint64_t kv_block_bytes(const cdp_shape *s) {
    return 2 * kv_half(s) * cdp_dtype_bytes(s->kv_dtype);
}

static cdp_status submit_rows(cdp_device *device, cdp_job job, const cdp_shape *shape, const cdp_layer *layer,
                              const cdp_tensor *norm, const cdp_tensor *bias, const cdp_step_view *step,
                              const cdp_buffers *buffers) {
    const row_args args = {shape, layer, norm, bias, *step, *buffers};
    return cdp_cpu_submit(device, job, &args, sizeof args);
}

/* Job NAME_job calls NAME_row for each row. */
#define ROW_JOB(name)                                                                                        \
    static void name##_job(const void *args, const cdp_turn *turn) {                                         \
        const row_args *a = args;                                                                            \
        int begin, end;                                                                                      \
        while (cdp_turn_take(turn, a->step.n_rows, 1, &begin, &end))                                         \
            for (int row = begin; row < end; row++)                                                          \
                name##_row(a, row);                                                                          \
    }

static void norm_row(const row_args *a, int row) {
    row_norm(a->buf.normed + (size_t)row * (size_t)a->shape->hidden, a->step.hidden, a->shape, a->norm, row);
}
ROW_JOB(norm)

/* After attn_out and down: the product lies in `normed`. */
static void residual_row(const row_args *a, int row) {
    float *x = a->buf.normed + (size_t)row * (size_t)a->shape->hidden;
    row_residual(a->step.hidden, x, a->shape, a->bias, a->norm, row);
}
ROW_JOB(residual)

static void rope_row(const row_args *a, int row) {
    const int half = a->shape->rope_dim / 2, list = a->step.rope_list[row];
    float *cosine = a->buf.rope + (size_t)row * (size_t)a->shape->rope_dim;
    for (int i = 0; i < half; i++) {
        double s, c;
        sincos(a->step.position[row] * a->shape->rope_inv[list][i], &s, &c);
        cosine[i] = (float)c * a->shape->rope_factor[list];
        cosine[half + i] = (float)s * a->shape->rope_factor[list];
    }
}
ROW_JOB(rope)

/* n keys and values of one head to their places: the ones (`far`) a block of positions apart, the others side
 * by side. */
SIMD void append_head(void *kv, size_t far, size_t near, const float *far_from, const float *near_from, int n,
                      const cdp_dtype dtype) {
    const size_t bytes = cdp_dtype_bytes(dtype);
    int d = 0;
    for (; d + VF <= n; d += VF) {
        float lanes[VF]; /* or halves */
        char *to = (char *)kv + (far + (size_t)d * CDP_BLOCK_TOKENS) * bytes;
        v_store_as(lanes, dtype, 0, v_load(far_from + d));
        v_store_as(kv, dtype, near + (size_t)d, v_load(near_from + d));
        for (size_t lane = 0; lane < VF; lane++)
            memcpy(to + lane * CDP_BLOCK_TOKENS * bytes, (const char *)lanes + lane * bytes, bytes);
    }
    for (; d < n; d++) {
        cdp_store(kv, dtype, far + (size_t)d * CDP_BLOCK_TOKENS, far_from[d]);
        cdp_store(kv, dtype, near + (size_t)d, near_from[d]);
    }
}

/* Where the matrix unit attends, keys lie side by side and values apart: see attention_tiles.h. */
SIMD void append_heads(const row_args *a, const float *k, const float *v, int32_t block, int t,
                       const cdp_dtype dtype) {
    const cdp_shape *s = a->shape;
    const bool is_turned = attends_by_tiles(s);
    const float *far = is_turned ? v : k, *near = is_turned ? k : v;
    for (int h = 0; h < s->n_kv_heads; h++)
        append_head(a->layer->kv, kv_place(s, block, h, is_turned) + (size_t)t,
                    kv_place(s, block, h, !is_turned) + (size_t)(t * s->head_dim), far + h * s->head_dim,
                    near + h * s->head_dim, s->head_dim, dtype);
}

static void append_kv(const row_args *a, const float *k, const float *v, int row) {
    const int position = a->step.position[row], t = position % CDP_BLOCK_TOKENS;
    const int32_t block = a->buf.tables[(size_t)a->step.slot[row] * (size_t)a->buf.max_blocks +
                                        (size_t)(position / CDP_BLOCK_TOKENS)];
    if (a->shape->kv_dtype == CDP_BF16)
        append_heads(a, k, v, block, t, CDP_BF16);
    else if (a->shape->kv_dtype == CDP_F16)
        append_heads(a, k, v, block, t, CDP_F16);
    else
        append_heads(a, k, v, block, t, CDP_F32);
}

/* The products q, k, v of a row: bias, q/k norm, rope, rounding, append. */
static void qkv_row(const row_args *a, int row) {
    const cdp_shape *s = a->shape;
    if (a->step.slot[row] < 0)
        return;
    float *q = a->buf.qkv + (size_t)row * qkv_width(s);
    float *k = q + s->n_heads * s->head_dim, *v = k + s->n_kv_heads * s->head_dim;
    row_add_bias(q, a->bias, (int)qkv_width(s));
    if (s->head_norm != CDP_HEAD_NORM_NONE) {
        row_norm_heads(q, s->n_heads, &a->layer->q_norm, s);
        row_norm_heads(k, s->n_kv_heads, &a->layer->k_norm, s);
    }
    const float *cosine = a->buf.rope + (size_t)row * (size_t)s->rope_dim;
    for (int h = 0; a->layer->has_rope && h < s->n_heads + s->n_kv_heads; h++)
        row_rotate(q + h * s->head_dim, cosine, cosine + s->rope_dim / 2, s->rope_dim);
    row_round(q, (int)qkv_width(s), s);
    append_kv(a, k, v, row);
}
ROW_JOB(qkv)

static void silu_row(const row_args *a, int row) {
    float *gate = a->buf.ffn + (size_t)row * 2 * (size_t)a->shape->ffn;
    row_add_bias(gate, a->bias, 2 * a->shape->ffn);
    row_silu_product(gate, gate + a->shape->ffn, a->shape->ffn, a->shape);
}
ROW_JOB(silu)

/* out (n_rows, w->rows) = x (n_rows, w->cols) times w transposed. */
static cdp_status multiply(cdp_device *device, const float *x, size_t x_stride, int n_rows,
                           const cdp_tensor *w, float *out, size_t out_stride, const cdp_buffers *buffers) {
#if defined(TIER_HAS_TILES)
    if (w->dtype == CDP_BF16)
        return submit_tiles(device, x, x_stride, n_rows, w, out, out_stride, buffers->packed);
#endif
    (void)buffers;
    return submit_product(device, x, x_stride, n_rows, w, out, out_stride);
}

static cdp_status rope(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step,
                       const cdp_buffers *buffers) {
    return submit_rows(device, rope_job, shape, NULL, NULL, NULL, step, buffers);
}

static cdp_status qkv(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                      const cdp_step_view *step, const cdp_buffers *buffers) {
    CDP_TRY(submit_rows(device, norm_job, shape, layer, &layer->attn_norm, NULL, step, buffers));
    CDP_TRY(multiply(device, buffers->normed, (size_t)shape->hidden, step->n_rows, &layer->qkv, buffers->qkv,
                     qkv_width(shape), buffers));
    return submit_rows(device, qkv_job, shape, layer, NULL, &layer->qkv_bias, step, buffers);
}

static cdp_status attend(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                         const cdp_step_view *step, const cdp_buffers *buffers) {
    const attend_args args = {shape, layer->kv, layer->window, *step, *buffers};
#if defined(TIER_HAS_TILES)
    if (attends_by_tiles(shape))
        return submit_attention(device, attend_tiles_job, &args);
#endif
    return submit_attention(device, attend_job, &args);
}

static cdp_status attn_out(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                           const cdp_step_view *step, const cdp_buffers *buffers) {
    CDP_TRY(multiply(device, buffers->context, (size_t)(shape->n_heads * shape->head_dim), step->n_rows,
                     &layer->attn_out, buffers->normed, (size_t)shape->hidden, buffers));
    return submit_rows(device, residual_job, shape, layer, &layer->attn_post_norm, &layer->attn_out_bias,
                       step, buffers);
}

static cdp_status gate_up(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                          const cdp_step_view *step, const cdp_buffers *buffers) {
    CDP_TRY(submit_rows(device, norm_job, shape, layer, &layer->ffn_norm, NULL, step, buffers));
#if defined(TIER_HAS_TILES)
    if (is_gated_by_tiles(layer, step->n_rows))
        return submit_gated(device, buffers->normed, (size_t)shape->hidden, step->n_rows, &layer->gate_up,
                            layer->gate_up_bias.data, (uint16_t *)buffers->ffn, buffers->packed);
#endif
    CDP_TRY(multiply(device, buffers->normed, (size_t)shape->hidden, step->n_rows, &layer->gate_up,
                     buffers->ffn, 2 * (size_t)shape->ffn, buffers));
    return submit_rows(device, silu_job, shape, layer, NULL, &layer->gate_up_bias, step, buffers);
}

static cdp_status multiply_down(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                                const cdp_step_view *step, const cdp_buffers *buffers) {
#if defined(TIER_HAS_TILES)
    if (is_gated_by_tiles(layer, step->n_rows))
        return submit_packed(device, step->n_rows, &layer->down, buffers->normed, (size_t)shape->hidden,
                             (uint16_t *)buffers->ffn);
#endif
    return multiply(device, buffers->ffn, 2 * (size_t)shape->ffn, step->n_rows, &layer->down, buffers->normed,
                    (size_t)shape->hidden, buffers);
}

static cdp_status down(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                       const cdp_step_view *step, const cdp_buffers *buffers) {
    CDP_TRY(multiply_down(device, shape, layer, step, buffers));
    return submit_rows(device, residual_job, shape, layer, &layer->ffn_post_norm, &layer->down_bias, step,
                       buffers);
}

typedef struct vocab_args {
    const cdp_shape *shape;
    cdp_vocab_weights vocab;
    const void *rows;
    int n_rows;
    float *normed, *logits;
} vocab_args;

static void final_norm_job(const void *args, const cdp_turn *turn) {
    const vocab_args *a = args;
    int begin, end;
    while (cdp_turn_take(turn, a->n_rows, 1, &begin, &end))
        row_norm(a->normed + (size_t)begin * (size_t)a->shape->hidden, a->rows, a->shape,
                 &a->vocab.final_norm, begin);
}

static void scale_logits_job(const void *args, const cdp_turn *turn) {
    const vocab_args *a = args;
    int begin, end;
    while (cdp_turn_take(turn, a->n_rows, 1, &begin, &end))
        for (int i = 0; i < a->shape->vocab; i++)
            a->logits[(size_t)begin * (size_t)a->shape->vocab + (size_t)i] *= a->shape->logit_scale;
}

static cdp_status logits(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                         const void *rows, int n_rows, const cdp_buffers *buffers, float *normed,
                         float *out) {
    const vocab_args args = {shape, *vocab, rows, n_rows, normed, out};
    CDP_TRY(cdp_cpu_submit(device, final_norm_job, &args, sizeof args));
    CDP_TRY(multiply(device, normed, (size_t)shape->hidden, n_rows, &vocab->head, out, (size_t)shape->vocab,
                     buffers));
    if (shape->logit_scale == 1.0f)
        return CDP_OK;
    return cdp_cpu_submit(device, scale_logits_job, &args, sizeof args);
}

/* Embedding, picking and block commands only move bytes: the plain versions serve every tier. */
const cdp_ops TIER_OPS;
const cdp_ops TIER_OPS = {
    .name = TIER_NAME,
    .kv_block_bytes = kv_block_bytes,
    .kv_update = cdp_cpu_kv_update,
    .embed = cdp_cpu_embed,
    .rope = rope,
    .qkv = qkv,
    .attend = attend,
    .attn_out = attn_out,
    .gate_up = gate_up,
    .down = down,
    .pick = cdp_cpu_pick,
    .logits = logits,
};
