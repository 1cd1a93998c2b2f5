/* kernels/cpu/attention.h - attention over the paged cache, one arithmetic for prompts and decode.
 *
 * A KV block of the CPU device:   keys   (n_kv_heads, head_dim, 16)    16 positions side by side, so that the
 *                                 values (n_kv_heads, 16, head_dim)    scores of a block are whole vectors
 *
 * Per row and query head, positions are taken in groups of 128 that begin at multiples of 128. A group by
 * itself has a maximum m, a sum l and an output o:
 *     m = max_t s_t;  p_t = e^(s_t - m);  l = sum p_t;  o = sum_t p_t v_t
 * and groups are merged in ascending order, into M, L and O, which begin as -infinity, 0 and 0:
 *     M' = max(M, m);  L' = L e^(M - M') + l e^(m - M');  O' = O e^(M - M') + o e^(m - M')
 * So it does not matter whether one worker goes through all groups or each group has another worker
 * (attention_items.h), and which positions count in a group depends on the absolute position alone.
 *
 * Queries that see the same cache (the heads of a kv head, the rows of a prompt) share the reading of a group
 * and its widening to f32: up to QUERIES of them side by side. The arithmetic of each is the one it has
 * alone.
 */
#pragma once

#include "kernels/cpu/rows.h"

enum {
    GROUP_TOKENS = 128,
    GROUP_BLOCKS = GROUP_TOKENS / CDP_BLOCK_TOKENS,
    SCORE_VECTORS = 2, /* of keys side by side: with two sums each a lone query has four that do not wait */
    VALUE_VECTORS = 4, /* of a query's output side by side */
#if defined(__AVX512F__)
    QUERIES = 4, /* 16 sums of 32 registers */
#else
    QUERIES = 3, /* 12 sums of 16 */
#endif
};

typedef struct attend_args {
    const cdp_shape *shape;
    const void *kv;
    int window;
    cdp_step_view step;
    cdp_buffers buf;
} attend_args;

/* One head of one row, and the groups that are merged so far. */
typedef struct query {
    int row, head;
    const float *q;      /* (head_dim) */
    float *out;          /* (head_dim) O */
    int first, position; /* it sees positions first .. position */
    float best, total;   /* M and L */
} query;

/* A group of positions of one kv head: the elements where its blocks begin. Behind the last block that is
 * seen, that block is named again. */
typedef struct kv_group {
    size_t keys[GROUP_BLOCKS], values[GROUP_BLOCKS];
} kv_group;

/* Positions inside a group; none where to <= from. */
typedef struct span {
    int from, to;
} span;

SIMD int int_min(int a, int b) {
    return a < b ? a : b;
}
SIMD int int_max(int a, int b) {
    return a > b ? a : b;
}

SIMD size_t kv_half(const cdp_shape *s) {
    return (size_t)s->n_kv_heads * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

/* Element of the layer's cache where keys (or values) of one head of one block begin. */
SIMD size_t kv_place(const cdp_shape *s, int32_t block, int kv_head, bool is_value) {
    return (size_t)block * 2 * kv_half(s) + (is_value ? kv_half(s) : 0) +
           (size_t)kv_head * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

SIMD query query_at(const attend_args *a, int row, int head) {
    const cdp_shape *s = a->shape;
    const size_t q_stride = (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim);
    const int position = a->step.position[row];
    return (query){.row = row,
                   .head = head,
                   .q = a->buf.qkv + (size_t)row * q_stride + (size_t)(head * s->head_dim),
                   .out = a->buf.context +
                          ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)s->head_dim,
                   .first = a->window > 0 && position >= a->window ? position - a->window + 1 : 0,
                   .position = position};
}

SIMD span seen_of(const query *one, int group) {
    const int start = group * GROUP_TOKENS;
    return (span){int_max(one->first - start, 0), int_min(one->position + 1 - start, GROUP_TOKENS)};
}

/* `last` is the last position that anyone sees. */
SIMD kv_group group_at(const cdp_shape *s, const int32_t *table, int kv_head, int group, int last) {
    kv_group g;
    for (int b = 0; b < GROUP_BLOCKS; b++) {
        const int32_t block = table[int_min(group * GROUP_BLOCKS + b, last / CDP_BLOCK_TOKENS)];
        g.keys[b] = kv_place(s, block, kv_head, false);
        g.values[b] = kv_place(s, block, kv_head, true);
    }
    return g;
}

/* scores[i][t] = scale * sum_d q_i[d] k[d,t] of n queries, for SCORE_VECTORS vectors of t from `first` on;
 * even and odd d, of which there are as many, have a sum each. */
SIMD void score_vectors(float scores[][GROUP_TOKENS], query *const *queries, const int n, const void *kv,
                        const kv_group *g, int first, const cdp_shape *s, const cdp_dtype dtype) {
    size_t keys[SCORE_VECTORS];
    vf sums[QUERIES][SCORE_VECTORS][2];
#pragma GCC unroll 4
    for (int v = 0; v < SCORE_VECTORS; v++) {
        const int t = first + v * VF;
        keys[v] = g->keys[t / CDP_BLOCK_TOKENS] + (size_t)(t % CDP_BLOCK_TOKENS);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            sums[i][v][0] = sums[i][v][1] = v_set(0.0f);
    }
    for (int d = 0; d < s->head_dim; d += 2)
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; odd++) {
            vf key[SCORE_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < SCORE_VECTORS; v++)
                key[v] = v_load_as(kv, dtype, keys[v] + (size_t)(d + odd) * CDP_BLOCK_TOKENS);
#pragma GCC unroll 4
            for (int i = 0; i < n; i++)
#pragma GCC unroll 4
                for (int v = 0; v < SCORE_VECTORS; v++)
                    sums[i][v][odd] = v_fma(v_set(queries[i]->q[d + odd]), key[v], sums[i][v][odd]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int v = 0; v < SCORE_VECTORS; v++)
            v_store(scores[i] + first + v * VF, (sums[i][v][0] + sums[i][v][1]) * v_set(s->attn_scale));
}

/* How a group goes into O: O' = O keep + o gain. */
typedef struct blend {
    float keep, gain;
} blend;

/* M and L take in a group's m and l. */
SIMD blend query_merge(query *one, float best, float total) {
    const float before = one->best;
    one->best = before > best ? before : best;
    const blend b = {before == -INFINITY ? 0.0f : v_exp(v_set(before - one->best))[0],
                     v_exp(v_set(best - one->best))[0]};
    one->total = one->total * b.keep + total * b.gain;
    return b;
}

SIMD vf v_blend(vf out, vf part, blend b) {
    return v_fma(part, v_set(b.gain), out * v_set(b.keep));
}

/* scores[t] becomes p_t, 0 where t is not seen; m and l are merged. */
SIMD blend group_weights(query *one, float *scores, span seen) {
    const int from = seen.from / VF * VF, end = (seen.to + VF - 1) / VF * VF;
    for (int t = from; t < seen.from; t++)
        scores[t] = -INFINITY;
    for (int t = seen.to; t < end; t++)
        scores[t] = -INFINITY;
    vf largest = v_set(-INFINITY), sum = v_set(0.0f);
    for (int t = from; t < end; t += VF)
        largest = v_max(v_load(scores + t), largest);
    const float best = v_largest(largest);
    for (int t = from; t < end; t += VF) {
        const vf score = v_load(scores + t);
        const vf p = v_select(score == -INFINITY, v_set(0.0f), v_exp(score - v_set(best)));
        v_store(scores + t, p);
        sum += p;
    }
    return query_merge(one, best, v_sum(sum));
}

/* o_i[d] = sum_t p_i[t] v[t,d], t ascending over what is seen, for n_vectors vectors of d, and merged into
 * out; all sums stay in registers. */
SIMD void value_vectors(query *const *queries, const int n, const int n_vectors, float p[][GROUP_TOKENS],
                        const blend *blends, const void *kv, const kv_group *g, int d, int head_dim,
                        span seen, const cdp_dtype dtype) {
    vf sums[QUERIES][VALUE_VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < n_vectors; j++)
            sums[i][j] = v_set(0.0f);
#pragma GCC unroll 1
    for (int t = seen.from; t < seen.to; t++) {
        const size_t row = g->values[t / CDP_BLOCK_TOKENS] + (size_t)(t % CDP_BLOCK_TOKENS * head_dim + d);
        vf weight[QUERIES];
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            weight[i] = v_set(p[i][t]);
#pragma GCC unroll 4
        for (int j = 0; j < n_vectors; j++) {
            const vf value = v_load_as(kv, dtype, row + (size_t)(j * VF));
#pragma GCC unroll 4
            for (int i = 0; i < n; i++)
                sums[i][j] = v_fma(weight[i], value, sums[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < n_vectors; j++) {
            float *out = queries[i]->out + d + j * VF;
            v_store(out, v_blend(v_load(out), sums[i][j], blends[i]));
        }
}

/* All of out, for n queries that see the same of the group. */
SIMD void shared_values(query *const *queries, const int n, float p[][GROUP_TOKENS], const blend *blends,
                        const void *kv, const kv_group *g, const cdp_shape *s, span seen,
                        const cdp_dtype dtype) {
    int d = 0;
    for (; d + VALUE_VECTORS * VF <= s->head_dim; d += VALUE_VECTORS * VF)
        value_vectors(queries, n, VALUE_VECTORS, p, blends, kv, g, d, s->head_dim, seen, dtype);
    for (; d + VF <= s->head_dim; d += VF)
        value_vectors(queries, n, 1, p, blends, kv, g, d, s->head_dim, seen, dtype);
    for (; d < s->head_dim; d++)
        for (int i = 0; i < n; i++) {
            float sum = 0.0f;
            for (int t = seen.from; t < seen.to; t++)
                sum += p[i][t] * cdp_load(kv, dtype,
                                          g->values[t / CDP_BLOCK_TOKENS] +
                                              (size_t)(t % CDP_BLOCK_TOKENS * s->head_dim + d));
            queries[i]->out[d] = v_blend(v_set(queries[i]->out[d]), v_set(sum), blends[i])[0];
        }
}

/* One group for n queries, of which at least one sees some of it. What a query does not see is not touched
 * for it: it may hold anything. */
SIMD void attend_group(const attend_args *a, query *const *queries, const int n, const kv_group *g, int group,
                       const cdp_dtype dtype) {
    enum { STEP = SCORE_VECTORS * VF };
    float scores[QUERIES][GROUP_TOKENS];
    span seen[QUERIES], any = seen_of(queries[0], group);
    blend blends[QUERIES] = {{0}};
    bool is_same = true;
    for (int i = 0; i < n; i++) {
        seen[i] = seen_of(queries[i], group);
        is_same &= seen[i].from == seen[0].from && seen[i].to == seen[0].to;
        any = (span){int_min(any.from, seen[i].from), int_max(any.to, seen[i].to)};
    }
    for (int t = any.from / STEP * STEP; t < any.to; t += STEP)
        score_vectors(scores, queries, n, a->kv, g, t, a->shape, dtype);
    for (int i = 0; i < n; i++)
        if (seen[i].from < seen[i].to)
            blends[i] = group_weights(queries[i], scores[i], seen[i]);
    if (is_same)
        shared_values(queries, n, scores, blends, a->kv, g, a->shape, seen[0], dtype);
    else
        for (int i = 0; i < n; i++)
            if (seen[i].from < seen[i].to)
                shared_values(&queries[i], 1, &scores[i], &blends[i], a->kv, g, a->shape, seen[i], dtype);
}
