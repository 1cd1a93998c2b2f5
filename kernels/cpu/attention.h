/* kernels/cpu/attention.h - attention over the paged cache, one arithmetic for prompts and decode.
 *
 * A KV block of the CPU device:   keys   (n_kv_heads, head_dim, 16)    16 positions side by side, so that the
 *                                 values (n_kv_heads, 16, head_dim)    scores of a block are whole vectors
 *
 * Per row and query head, blocks are taken in ascending order with a running maximum m and sum l:
 *     m' = max(m, s);  p = e^(s - m');  l = l e^(m - m') + sum p;  out = out e^(m - m') + sum_t p_t v_t
 * Which blocks and which lanes count depends on the absolute position alone, never on the step.
 *
 * Queries that see the same cache (the heads of a group, the rows of a prompt) share the reading of a block
 * and the widening of its values to f32: up to QUERIES of them side by side. The arithmetic of each is the
 * one it has alone.
 */
#pragma once

#include "kernels/cpu/rows.h"

enum {
    BLOCK_VECTORS = CDP_BLOCK_TOKENS / VF,
    ROWS_PER_ITEM = 4,
    VALUE_VECTORS = 4,   /* vectors of a query's output at once */
#if defined(__AVX512F__) /* four sums a query: 16 of 32 registers */
    QUERIES = 4,
#else
    QUERIES = 2,
#endif
};

typedef struct attend_args {
    const cdp_shape *shape;
    const void *kv;
    int window;
    cdp_step_view step;
    cdp_buffers buf;
} attend_args;

/* One head of one row on its way through the blocks. */
typedef struct query {
    const float *q;      /* (head_dim) */
    float *out;          /* (head_dim) */
    int first, position; /* it sees positions first .. position */
    float best, total;   /* m and l */
} query;

SIMD size_t kv_half(const cdp_shape *s) {
    return (size_t)s->n_kv_heads * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

/* Element of the layer's cache where keys (or values) of one head of one block begin. */
SIMD size_t kv_place(const cdp_shape *s, int32_t block, int kv_head, bool is_value) {
    return (size_t)block * 2 * kv_half(s) + (is_value ? kv_half(s) : 0) +
           (size_t)kv_head * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

/* scores[i][t] = scale * sum_d q_i[d] k[d,t] of n queries; four partial sums each, by d modulo 4, keep the
 * FMA units busy. */
SIMD void block_scores(float scores[][CDP_BLOCK_TOKENS], query *const *queries, const int n, const void *kv,
                       size_t keys, const cdp_shape *s, const cdp_dtype dtype) {
    for (int part = 0; part < BLOCK_VECTORS; part++) {
        vf sums[QUERIES][4];
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = v_set(0.0f);
        const size_t lane = keys + (size_t)(part * VF);
        int d = 0;
        for (; d + 4 <= s->head_dim; d += 4)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const vf key = v_load_as(kv, dtype, lane + (size_t)(d + k) * CDP_BLOCK_TOKENS);
#pragma GCC unroll 4
                for (int i = 0; i < n; i++)
                    sums[i][k] = v_fma(v_set(queries[i]->q[d + k]), key, sums[i][k]);
            }
        for (; d < s->head_dim; d++) {
            const vf key = v_load_as(kv, dtype, lane + (size_t)d * CDP_BLOCK_TOKENS);
#pragma GCC unroll 4
            for (int i = 0; i < n; i++)
                sums[i][0] = v_fma(v_set(queries[i]->q[d]), key, sums[i][0]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            v_store(scores[i] + part * VF,
                    ((sums[i][0] + sums[i][1]) + (sums[i][2] + sums[i][3])) * v_set(s->attn_scale));
    }
}

/* out_i[d] = out_i[d] * keep_i + sum_t p_i[t] v[t,d], t ascending, for n_vectors vectors of d; all sums stay
 * in registers. */
SIMD void value_vectors(query *const *queries, const int n, const int n_vectors, float p[][CDP_BLOCK_TOKENS],
                        const float *keep, const void *kv, size_t values, int d, int head_dim, int first,
                        int last, const cdp_dtype dtype) {
    vf sums[QUERIES][VALUE_VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < n_vectors; j++)
            sums[i][j] = v_load(queries[i]->out + d + j * VF) * v_set(keep[i]);
#pragma GCC unroll 1
    for (int t = first; t < last; t++) {
        vf value[VALUE_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < n_vectors; j++)
            value[j] = v_load_as(kv, dtype, values + (size_t)(t * head_dim + d + j * VF));
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const vf weight = v_set(p[i][t]);
#pragma GCC unroll 4
            for (int j = 0; j < n_vectors; j++)
                sums[i][j] = v_fma(weight, value[j], sums[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < n_vectors; j++)
            v_store(queries[i]->out + d + j * VF, sums[i][j]);
}

/* All of out; positions first .. last-1 of the block are visible to all n queries, the others may hold
 * anything and are not read. */
SIMD void block_values(query *const *queries, const int n, float p[][CDP_BLOCK_TOKENS], const float *keep,
                       const void *kv, size_t values, const cdp_shape *s, int first, int last,
                       const cdp_dtype dtype) {
    int d = 0;
    for (; d + VALUE_VECTORS * VF <= s->head_dim; d += VALUE_VECTORS * VF)
        value_vectors(queries, n, VALUE_VECTORS, p, keep, kv, values, d, s->head_dim, first, last, dtype);
    for (; d + VF <= s->head_dim; d += VF)
        value_vectors(queries, n, 1, p, keep, kv, values, d, s->head_dim, first, last, dtype);
    for (; d < s->head_dim; d++)
        for (int i = 0; i < n; i++) {
            float sum = queries[i]->out[d] * keep[i];
            for (int t = first; t < last; t++)
                sum += p[i][t] * cdp_load(kv, dtype, values + (size_t)(t * s->head_dim + d));
            queries[i]->out[d] = sum;
        }
}

/* scores[t] becomes p[t] = e^(scores[t] - m'), 0 outside [first, last); m and l move on. Returns
 * e^(m - m'). */
SIMD float block_weights(query *one, float *scores, int first, int last) {
    const float before = one->best;
    for (int t = 0; t < CDP_BLOCK_TOKENS; t++)
        if (t < first || t >= last)
            scores[t] = -INFINITY;
    for (int part = 0; part < BLOCK_VECTORS; part++) {
        const float largest = v_largest(v_load(scores + part * VF));
        one->best = largest > one->best ? largest : one->best;
    }
    vf sum = v_set(0.0f);
    for (int part = 0; part < BLOCK_VECTORS; part++) {
        const vf score = v_load(scores + part * VF);
        const vf p = v_select(score == -INFINITY, v_set(0.0f), v_exp(score - v_set(one->best)));
        v_store(scores + part * VF, p);
        sum += p;
    }
    float keep = 1.0f; /* e^0, as in most blocks */
    if (before != one->best)
        keep = before == -INFINITY ? 0.0f : v_exp(v_set(before - one->best))[0];
    one->total = one->total * keep + v_sum(sum);
    return keep;
}

/* One block for n queries; each sees the positions first .. last-1 of it. */
SIMD void attend_block(const attend_args *a, query *const *queries, const int n, int kv_head, int32_t block,
                       int first, int last, const cdp_dtype dtype) {
    float scores[QUERIES][CDP_BLOCK_TOKENS], keep[QUERIES];
    block_scores(scores, queries, n, a->kv, kv_place(a->shape, block, kv_head, false), a->shape, dtype);
    for (int i = 0; i < n; i++)
        keep[i] = block_weights(queries[i], scores[i], first, last);
    block_values(queries, n, scores, keep, a->kv, kv_place(a->shape, block, kv_head, true), a->shape, first,
                 last, dtype);
}

/* Up to QUERIES queries of one sequence and one kv head, block by block. Where one of them sees only a part
 * of a block (its own position, the edge of a window), each takes it alone. */
SIMD void attend_queries(const attend_args *a, query *queries, const int n, int kv_head, const int32_t *table,
                         const cdp_dtype dtype) {
    int first = queries[0].first, position = queries[0].position;
    query *all[QUERIES];
    for (int i = 0; i < n; i++) {
        all[i] = &queries[i];
        first = queries[i].first < first ? queries[i].first : first;
        position = queries[i].position > position ? queries[i].position : position;
    }
    for (int block = first / CDP_BLOCK_TOKENS; block <= position / CDP_BLOCK_TOKENS; block++) {
        const int start = block * CDP_BLOCK_TOKENS, end = start + CDP_BLOCK_TOKENS;
        bool is_whole = true;
        for (int i = 0; i < n; i++)
            is_whole &= queries[i].first <= start && queries[i].position >= end - 1;
        if (is_whole) {
            attend_block(a, all, n, kv_head, table[block], 0, CDP_BLOCK_TOKENS, dtype);
            continue;
        }
        for (int i = 0; i < n; i++) {
            const int from = queries[i].first > start ? queries[i].first - start : 0;
            const int to = queries[i].position < end ? queries[i].position - start + 1 : CDP_BLOCK_TOKENS;
            if (from < to)
                attend_block(a, &all[i], 1, kv_head, table[block], from, to, dtype);
        }
    }
}

SIMD void attend_all(const attend_args *a, query *queries, int n, int kv_head, const int32_t *table,
                     const cdp_dtype dtype) {
    int i = 0;
    for (; i + QUERIES <= n; i += QUERIES)
        attend_queries(a, &queries[i], QUERIES, kv_head, table, dtype);
    for (; i + 2 <= n; i += 2)
        attend_queries(a, &queries[i], 2, kv_head, table, dtype);
    if (i < n)
        attend_queries(a, &queries[i], 1, kv_head, table, dtype);
    for (i = 0; i < n; i++) {
        for (int d = 0; d < a->shape->head_dim; d++)
            queries[i].out[d] /= queries[i].total;
        row_round(queries[i].out, a->shape->head_dim, a->shape);
    }
}

static query query_at(const attend_args *a, int row, int head) {
    const cdp_shape *s = a->shape;
    const size_t q_stride = (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim);
    const int position = a->step.position[row];
    return (query){.q = a->buf.qkv + (size_t)row * q_stride + (size_t)(head * s->head_dim),
                   .out = a->buf.context +
                          ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)s->head_dim,
                   .first = a->window > 0 && position >= a->window ? position - a->window + 1 : 0,
                   .position = position,
                   .best = -INFINITY};
}

static const int32_t *table_of(const attend_args *a, int row) {
    return a->buf.tables + (size_t)a->step.slot[row] * (size_t)a->buf.max_blocks;
}

/* The queries of rows [row, row + n_rows), which are one sequence's, for one kv head. */
SIMD void attend_rows(const attend_args *a, int row, int n_rows, int kv_head, const cdp_dtype dtype) {
    const int group = a->shape->n_heads / a->shape->n_kv_heads;
    query queries[QUERIES];
    for (int next = 0, n = 0; next < n_rows * group; next++) {
        queries[n] = query_at(a, row + next / group, kv_head * group + next % group);
        memset(queries[n++].out, 0, (size_t)a->shape->head_dim * sizeof(float));
        if (n == QUERIES || next + 1 == n_rows * group) {
            attend_all(a, queries, n, kv_head, table_of(a, row), dtype);
            n = 0;
        }
    }
}

static void attend_rows_as(const attend_args *a, int row, int n_rows, int kv_head) {
    if (a->shape->kv_dtype == CDP_BF16)
        attend_rows(a, row, n_rows, kv_head, CDP_BF16);
    else if (a->shape->kv_dtype == CDP_F16)
        attend_rows(a, row, n_rows, kv_head, CDP_F16);
    else
        attend_rows(a, row, n_rows, kv_head, CDP_F32);
}

/* Items are a few rows of one kv head; rows of one sequence stand together in a step. */
SIMD void attend_items(const attend_args *a, const cdp_turn *turn, int rows_per_item,
                       void (*attend)(const attend_args *a, int row, int n_rows, int kv_head)) {
    const int n_kv_heads = a->shape->n_kv_heads, n_rows = a->step.n_rows;
    const int n_items = (n_rows + rows_per_item - 1) / rows_per_item * n_kv_heads;
    int item, taken;
    while (cdp_turn_take(turn, n_items, 1, &item, &taken)) {
        const int begin = item / n_kv_heads * rows_per_item;
        const int end = begin + rows_per_item < n_rows ? begin + rows_per_item : n_rows;
        for (int row = begin, n; row < end; row += n) {
            for (n = 1; row + n < end && a->step.slot[row + n] == a->step.slot[row];)
                n++;
            if (a->step.slot[row] >= 0)
                attend(a, row, n, item % n_kv_heads);
        }
    }
}

static void attend_job(const void *args, const cdp_turn *turn) {
    attend_items(args, turn, ROWS_PER_ITEM, attend_rows_as);
}
