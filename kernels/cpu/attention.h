/* kernels/cpu/attention.h - attention over the paged cache, one arithmetic for prompts and decode.
 *
 * A KV block of the CPU device:   keys   (n_kv_heads, head_dim, 16)    16 positions side by side, so that the
 *                                 values (n_kv_heads, 16, head_dim)    scores of a block are whole vectors
 *
 * Per row and query head, blocks are taken in ascending order with a running maximum m and sum l:
 *     m' = max(m, s);  p = e^(s - m');  l = l e^(m - m') + sum p;  out = out e^(m - m') + sum_t p_t v_t
 * Which blocks and which lanes count depends on the absolute position alone, never on the step.
 */
#pragma once

#include "kernels/cpu/rows.h"

enum { BLOCK_VECTORS = CDP_BLOCK_TOKENS / VF, MAX_GROUP = 64 };

typedef struct attend_args {
    const cdp_shape *shape;
    const void *kv;
    int window;
    cdp_step_view step;
    cdp_buffers buf;
} attend_args;

SIMD size_t kv_half(const cdp_shape *s) {
    return (size_t)s->n_kv_heads * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

/* Element of the layer's cache where keys (or values) of one head of one block begin. */
SIMD size_t kv_place(const cdp_shape *s, int32_t block, int kv_head, bool is_value) {
    return (size_t)block * 2 * kv_half(s) + (is_value ? kv_half(s) : 0) +
           (size_t)kv_head * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

/* scores[t] = scale * sum_d q[d] k[d,t]; four partial sums by d modulo 4 keep the FMA units busy. */
SIMD void block_scores(float *scores, const float *q, const void *kv, size_t keys, const cdp_shape *s,
                       const cdp_dtype dtype) {
    for (int part = 0; part < BLOCK_VECTORS; part++) {
        vf sums[4] = {v_set(0.0f), v_set(0.0f), v_set(0.0f), v_set(0.0f)};
        const size_t lane = keys + (size_t)(part * VF);
        int d = 0;
        for (; d + 4 <= s->head_dim; d += 4)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                sums[i] = v_fma(v_set(q[d + i]),
                                v_load_as(kv, dtype, lane + (size_t)(d + i) * CDP_BLOCK_TOKENS), sums[i]);
        for (; d < s->head_dim; d++)
            sums[0] = v_fma(v_set(q[d]), v_load_as(kv, dtype, lane + (size_t)d * CDP_BLOCK_TOKENS), sums[0]);
        v_store(scores + part * VF, ((sums[0] + sums[1]) + (sums[2] + sums[3])) * v_set(s->attn_scale));
    }
}

/* out[d] = out[d] * keep + sum_t p[t] v[t,d], t ascending; lanes first..last-1 are visible, the others may
 * hold anything and are not read. */
SIMD void block_values(float *out, const float *p, float keep, const void *kv, size_t values,
                       const cdp_shape *s, int first, int last, const cdp_dtype dtype) {
    int d = 0;
    for (; d + VF <= s->head_dim; d += VF) {
        vf sum = v_load(out + d) * v_set(keep);
        for (int t = first; t < last; t++)
            sum = v_fma(v_set(p[t]), v_load_as(kv, dtype, values + (size_t)(t * s->head_dim + d)), sum);
        v_store(out + d, sum);
    }
    for (; d < s->head_dim; d++) {
        float sum = out[d] * keep;
        for (int t = first; t < last; t++)
            sum += p[t] * cdp_load(kv, dtype, values + (size_t)(t * s->head_dim + d));
        out[d] = sum;
    }
}

/* p[t] = e^(s[t] - m'), 0 outside [first, last); returns their sum and moves *best to m'. */
SIMD float block_weights(float *p, const float *scores, int first, int last, float *best) {
    float largest = *best;
    for (int t = first; t < last; t++)
        largest = scores[t] > largest ? scores[t] : largest;
    for (int part = 0; part < BLOCK_VECTORS; part++)
        v_store(p + part * VF, v_exp(v_load(scores + part * VF) - v_set(largest)));
    for (int t = 0; t < CDP_BLOCK_TOKENS; t++)
        if (t < first || t >= last)
            p[t] = 0.0f;
    vf sum = v_set(0.0f);
    for (int part = 0; part < BLOCK_VECTORS; part++)
        sum += v_load(p + part * VF);
    *best = largest;
    return v_sum(sum);
}

/* The query heads [head, head + n) of one row, which share the keys and values of kv_head. */
SIMD void attend_heads(const attend_args *a, int row, int kv_head, int head, int n, const cdp_dtype dtype) {
    const cdp_shape *s = a->shape;
    const int position = a->step.position[row];
    const int first = a->window > 0 && position >= a->window ? position - a->window + 1 : 0;
    const int32_t *table = a->buf.tables + (size_t)a->step.slot[row] * (size_t)a->buf.max_blocks;
    const size_t q_stride = (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim);
    const float *q = a->buf.qkv + (size_t)row * q_stride + (size_t)(head * s->head_dim);
    float *out = a->buf.context + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)s->head_dim;
    float best[MAX_GROUP], total[MAX_GROUP];
    memset(out, 0, (size_t)(n * s->head_dim) * sizeof *out);
    for (int h = 0; h < n; h++) {
        best[h] = -INFINITY;
        total[h] = 0.0f;
    }
    for (int block = first / CDP_BLOCK_TOKENS; block <= position / CDP_BLOCK_TOKENS; block++) {
        const int start = block * CDP_BLOCK_TOKENS;
        const int from = first > start ? first - start : 0;
        const int to = position - start + 1 < CDP_BLOCK_TOKENS ? position - start + 1 : CDP_BLOCK_TOKENS;
        const size_t keys = kv_place(s, table[block], kv_head, false);
        const size_t values = kv_place(s, table[block], kv_head, true);
        for (int h = 0; h < n; h++) {
            float scores[CDP_BLOCK_TOKENS], p[CDP_BLOCK_TOKENS];
            block_scores(scores, q + h * s->head_dim, a->kv, keys, s, dtype);
            const float before = best[h];
            const float sum = block_weights(p, scores, from, to, &best[h]);
            const float keep = before == -INFINITY ? 0.0f : v_exp(v_set(before - best[h]))[0];
            total[h] = total[h] * keep + sum;
            block_values(out + h * s->head_dim, p, keep, a->kv, values, s, from, to, dtype);
        }
    }
    for (int h = 0; h < n; h++)
        for (int d = 0; d < s->head_dim; d++)
            out[h * s->head_dim + d] /= total[h];
    row_round(out, n * s->head_dim, s);
}

static void attend_item(const attend_args *a, int row, int kv_head) {
    const int group = a->shape->n_heads / a->shape->n_kv_heads;
    for (int h = 0; h < group; h += MAX_GROUP) {
        const int n = group - h < MAX_GROUP ? group - h : MAX_GROUP;
        if (a->shape->kv_dtype == CDP_BF16)
            attend_heads(a, row, kv_head, kv_head * group + h, n, CDP_BF16);
        else if (a->shape->kv_dtype == CDP_F16)
            attend_heads(a, row, kv_head, kv_head * group + h, n, CDP_F16);
        else
            attend_heads(a, row, kv_head, kv_head * group + h, n, CDP_F32);
    }
}

static void attend_job(const void *args, const cdp_turn *turn) {
    const attend_args *a = args;
    const int n_kv_heads = a->shape->n_kv_heads;
    int begin, end;
    while (cdp_turn_take(turn, a->step.n_rows * n_kv_heads, 1, &begin, &end))
        for (int item = begin; item < end; item++)
            if (a->step.slot[item / n_kv_heads] >= 0)
                attend_item(a, item / n_kv_heads, item % n_kv_heads);
}
