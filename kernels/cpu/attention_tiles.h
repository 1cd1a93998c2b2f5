/* kernels/cpu/attention_tiles.h - attention of bf16 queries over a bf16 cache on the matrix unit, one
 * arithmetic for prompts and decode.
 *
 * A KV block:   keys   (n_kv_heads, 16, head_dim)     both are A tiles of 16 x 16 as they lie,
 *               values (n_kv_heads, head_dim, 16)     nothing is packed
 *
 * Sixteen queries that see the same cache (the heads of a group, the rows of a prompt) stand side by side,
 * one in each lane, from the first product to the last:
 *
 *     scores (16 keys, 16 queries)  = keys (16, head_dim) . queries (head_dim, 16)
 *     out (head_dim, 16 queries)   += values (head_dim, 16) . p (16 keys, 16 queries)
 *
 * so that nothing is added up across lanes, and p is the next product's B tile but for pairing two rows. It
 * becomes two bf16, upper and lower part: one alone would lose more than the rounding of the result. Each
 * part has sums of its own, which are added at the end.
 *
 * Keys are taken in groups of 64 that begin at multiples of 64, in ascending order, with a running maximum
 * and sum as in attention.h. A key that a query does not see adds 0 to its sums, so the company in the lanes
 * never shows.
 */
#pragma once

#include "kernels/cpu/attention.h"
#include "kernels/cpu/tiles.h"

enum {
    GROUP_BLOCKS = 4,
    GROUP_KEYS = GROUP_BLOCKS * CDP_BLOCK_TOKENS,
    LANES = TILE_SIDE,
    PAIRS = CDP_BLOCK_TOKENS / 2, /* rows of a B tile: 16 keys, or 16 of head_dim */
    MOST_HEAD_DIM = 256,
    BF16_UPPER = 16, /* bits of an f32 below its bf16 */
};

typedef struct query_lanes {
    int n;                   /* queries; the other lanes repeat the first one's range */
    int begin, last;         /* positions that any of them sees */
    int all_begin, all_last; /* that all of them see */
    float *out[LANES];
    int32_t first[LANES], position[LANES]; /* each one's range */
    float best[LANES], total[LANES], keep[LANES];
    tile_row q[MOST_HEAD_DIM / 2]; /* pairs */
    float sums[2][MOST_HEAD_DIM][LANES];
} query_lanes;

/* The blocks of a group that any lane sees. */
typedef struct key_group {
    int n_blocks, position; /* of the first key */
    const uint16_t *keys[GROUP_BLOCKS], *values[GROUP_BLOCKS];
    float scores[GROUP_KEYS][LANES];
    tile_row p[2][GROUP_KEYS / 2];
    uint16_t edges[GROUP_BLOCKS][MOST_HEAD_DIM][CDP_BLOCK_TOKENS];
} key_group;

SIMD vi v_int(int32_t x) {
    return x - (vi){0};
}

static void lanes_begin(query_lanes *l, const query *queries, int n, const cdp_shape *s) {
    l->n = n;
    l->begin = l->all_begin = queries[0].first;
    l->last = l->all_last = queries[0].position;
    for (int i = 0; i < LANES; i++) {
        const query *one = &queries[i < n ? i : 0];
        l->out[i] = one->out;
        l->first[i] = one->first;
        l->position[i] = one->position;
        l->begin = one->first < l->begin ? one->first : l->begin;
        l->last = one->position > l->last ? one->position : l->last;
        l->all_begin = one->first > l->all_begin ? one->first : l->all_begin;
        l->all_last = one->position < l->all_last ? one->position : l->all_last;
        l->best[i] = -INFINITY;
        l->total[i] = 0.0f;
    }
    for (int d = 0; d < s->head_dim; d += TILE_K) {
        tile_row pairs[LANES] = {0};
        for (int i = 0; i < n; i++)
            bf16_pairs(&pairs[i], queries[i].q + d, TILE_K);
        transpose(pairs);
        memcpy(&l->q[d / 2], pairs, sizeof pairs);
    }
    memset(l->sums[0], 0, (size_t)s->head_dim * sizeof l->sums[0][0]);
    memset(l->sums[1], 0, (size_t)s->head_dim * sizeof l->sums[1][0]);
}

/* A block's values, 0 at the positions that no lane sees: what lies there may be anything, and the unit would
 * multiply it. */
static const uint16_t *seen_values(uint16_t (*edge)[CDP_BLOCK_TOKENS], const uint16_t *values,
                                   const query_lanes *l, int position, int head_dim) {
    if (l->begin <= position && l->last >= position + CDP_BLOCK_TOKENS - 1)
        return values;
    uint16_t seen[CDP_BLOCK_TOKENS];
    for (int t = 0; t < CDP_BLOCK_TOKENS; t++)
        seen[t] = position + t >= l->begin && position + t <= l->last ? 0xFFFF : 0;
    for (int d = 0; d < head_dim; d++)
        for (int t = 0; t < CDP_BLOCK_TOKENS; t++)
            edge[d][t] = values[d * CDP_BLOCK_TOKENS + t] & seen[t];
    return edge[0];
}

/* The group in which block `first` lies, from that block on. */
static void group_begin(key_group *g, const attend_args *a, const query_lanes *l, int kv_head,
                        const int32_t *table, int first) {
    const int end = (first / GROUP_BLOCKS + 1) * GROUP_BLOCKS, last = l->last / CDP_BLOCK_TOKENS;
    g->n_blocks = (end <= last ? end : last + 1) - first;
    g->position = first * CDP_BLOCK_TOKENS;
    for (int i = 0; i < GROUP_BLOCKS; i++) {
        const int block = first + (i < g->n_blocks ? i : 0); /* the others' scores are not looked at */
        const uint16_t *kv = a->kv;
        g->keys[i] = kv + kv_place(a->shape, table[block], kv_head, false);
        g->values[i] = seen_values(g->edges[i], kv + kv_place(a->shape, table[block], kv_head, true), l,
                                   block * CDP_BLOCK_TOKENS, a->shape->head_dim);
    }
}

static void group_scores(key_group *g, const query_lanes *l, int head_dim) {
    const size_t stride = (size_t)head_dim * sizeof(uint16_t);
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (int d = 0; d < head_dim; d += TILE_SIDE) {
        tile_load(6, &l->q[d / 2], TILE_BYTES);
        tile_load(4, g->keys[0] + d, stride);
        tile_load(5, g->keys[1] + d, stride);
        tile_dot(0, 4, 6);
        tile_dot(1, 5, 6);
        tile_load(4, g->keys[2] + d, stride);
        tile_load(5, g->keys[3] + d, stride);
        tile_dot(2, 4, 6);
        tile_dot(3, 5, 6);
    }
    tile_store(0, g->scores[0 * CDP_BLOCK_TOKENS], TILE_BYTES);
    tile_store(1, g->scores[1 * CDP_BLOCK_TOKENS], TILE_BYTES);
    tile_store(2, g->scores[2 * CDP_BLOCK_TOKENS], TILE_BYTES);
    tile_store(3, g->scores[3 * CDP_BLOCK_TOKENS], TILE_BYTES);
}

/* The largest of `best` and a block's scores of VF lanes, which are scaled, and -infinity where the lane does
 * not see the key. */
SIMD vf block_largest(float (*scores)[LANES], const query_lanes *l, int position, int lane, vf best,
                      float scale, const bool all_seen) {
    vi first, last;
    memcpy(&first, l->first + lane, sizeof first);
    memcpy(&last, l->position + lane, sizeof last);
    for (int t = 0; t < CDP_BLOCK_TOKENS; t++) {
        const vi at = v_int(position + t);
        vf score = v_load(scores[t] + lane) * v_set(scale);
        if (!all_seen)
            score = v_select((at < first) | (at > last), v_set(-INFINITY), score);
        v_store(scores[t] + lane, score);
        best = v_max(score, best);
    }
    return best;
}

SIMD vf largest_score(key_group *g, const query_lanes *l, int lane, vf best, float scale) {
    for (int i = 0; i < g->n_blocks; i++) {
        const int key = i * CDP_BLOCK_TOKENS, position = g->position + key;
        if (l->all_begin <= position && l->all_last >= position + CDP_BLOCK_TOKENS - 1)
            best = block_largest(g->scores + key, l, position, lane, best, scale, true);
        else
            best = block_largest(g->scores + key, l, position, lane, best, scale, false);
    }
    return best;
}

/* p = upper + lower, both bf16. */
SIMD void store_pair(key_group *g, int pair, int lane, vf even, vf odd) {
    const vu half = (vu){0} + (1u << (BF16_UPPER - 1)), mask = (vu){0} + 0xFFFF0000u;
    const vu even_upper = ((vu)even + half) & mask, odd_upper = ((vu)odd + half) & mask;
    const vu upper = (even_upper >> BF16_UPPER) | odd_upper;
    const vu lower = ((vu)(even - (vf)even_upper) >> BF16_UPPER) | ((vu)(odd - (vf)odd_upper) & mask);
    memcpy((uint32_t *)&g->p[0][pair] + lane, &upper, sizeof upper);
    memcpy((uint32_t *)&g->p[1][pair] + lane, &lower, sizeof lower);
}

SIMD vf key_weight(const key_group *g, int key, int lane, vf best) {
    const vf score = v_load(g->scores[key] + lane);
    return v_select(score == -INFINITY, v_set(0.0f), v_exp(score - best));
}

/* Scores become p. m and l move on, and keep = e^(m - m'), which is 1 where m stays. */
SIMD void group_weights(key_group *g, query_lanes *l, int lane, float scale) {
    const vf before = v_load(l->best + lane), best = largest_score(g, l, lane, before, scale);
    const vf keep = v_exp(before - best);
    vf sum = v_set(0.0f);
    for (int pair = 0; pair < g->n_blocks * PAIRS; pair++) {
        const vf even = key_weight(g, 2 * pair, lane, best), odd = key_weight(g, 2 * pair + 1, lane, best);
        sum = (sum + even) + odd;
        store_pair(g, pair, lane, even, odd);
    }
    v_store(l->best + lane, best);
    v_store(l->keep + lane, keep);
    v_store(l->total + lane, v_load(l->total + lane) * keep + sum);
}

/* All sums times keep; most groups leave all of them as they are. */
static void scale_sums(query_lanes *l, int head_dim) {
    static const float ones[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    if (memcmp(l->keep, ones, sizeof ones) == 0)
        return;
    for (int part = 0; part < 2; part++)
        for (int d = 0; d < head_dim; d++)
            for (int lane = 0; lane < LANES; lane += VF)
                v_store(l->sums[part][d] + lane, v_load(l->sums[part][d] + lane) * v_load(l->keep + lane));
}

static void group_values(const key_group *g, query_lanes *l, int head_dim) {
    for (int d = 0; d < head_dim; d += TILE_K) {
        tile_load(0, l->sums[0][d], TILE_BYTES);
        tile_load(1, l->sums[0][d + TILE_SIDE], TILE_BYTES);
        tile_load(2, l->sums[1][d], TILE_BYTES);
        tile_load(3, l->sums[1][d + TILE_SIDE], TILE_BYTES);
        for (int i = 0; i < g->n_blocks; i++) {
            const uint16_t *values = g->values[i] + d * CDP_BLOCK_TOKENS;
            tile_load(4, values, CDP_BLOCK_TOKENS * sizeof *values);
            tile_load(5, values + TILE_SIDE * CDP_BLOCK_TOKENS, CDP_BLOCK_TOKENS * sizeof *values);
            tile_load(6, &g->p[0][i * PAIRS], TILE_BYTES);
            tile_load(7, &g->p[1][i * PAIRS], TILE_BYTES);
            tile_dot(0, 4, 6);
            tile_dot(1, 5, 6);
            tile_dot(2, 4, 7);
            tile_dot(3, 5, 7);
        }
        tile_store(0, l->sums[0][d], TILE_BYTES);
        tile_store(1, l->sums[0][d + TILE_SIDE], TILE_BYTES);
        tile_store(2, l->sums[1][d], TILE_BYTES);
        tile_store(3, l->sums[1][d + TILE_SIDE], TILE_BYTES);
    }
}

static void lanes_end(const query_lanes *l, int head_dim) {
    for (int d = 0; d < head_dim; d += TILE_SIDE) {
        tile_row r[TILE_SIDE];
        for (int i = 0; i < TILE_SIDE; i++)
            for (int lane = 0; lane < LANES; lane += VF) {
                const vf sum = v_load(l->sums[0][d + i] + lane) + v_load(l->sums[1][d + i] + lane);
                v_store((float *)&r[i] + lane, v_round_bf16(sum / v_load(l->total + lane)));
            }
        transpose(r);
        for (int i = 0; i < l->n; i++)
            memcpy(l->out[i] + d, &r[i], sizeof r[i]);
    }
}

/* Up to 16 queries of one sequence and one kv head. */
static void attend_lanes(const attend_args *a, const query *queries, int n, int kv_head,
                         const int32_t *table) {
    const int head_dim = a->shape->head_dim;
    query_lanes l;
    key_group g;
    lanes_begin(&l, queries, n, a->shape);
    for (int block = l.begin / CDP_BLOCK_TOKENS; block <= l.last / CDP_BLOCK_TOKENS; block += g.n_blocks) {
        group_begin(&g, a, &l, kv_head, table, block);
        group_scores(&g, &l, head_dim);
        for (int lane = 0; lane < LANES; lane += VF)
            group_weights(&g, &l, lane, a->shape->attn_scale);
        scale_sums(&l, head_dim);
        group_values(&g, &l, head_dim);
    }
    lanes_end(&l, head_dim);
}

/* The queries of rows [row, row + n_rows), which are one sequence's, for one kv head. */
static void attend_rows_by_tiles(const attend_args *a, int row, int n_rows, int kv_head) {
    const int group = a->shape->n_heads / a->shape->n_kv_heads;
    query queries[LANES];
    for (int next = 0, n = 0; next < n_rows * group; next++) {
        queries[n++] = query_at(a, row + next / group, kv_head * group + next % group);
        if (n == LANES || next + 1 == n_rows * group) {
            attend_lanes(a, queries, n, kv_head, table_of(a, row));
            n = 0;
        }
    }
}

static void attend_tiles_job(const void *args, const cdp_turn *turn) {
    const attend_args *a = args;
    const int group = a->shape->n_heads / a->shape->n_kv_heads;
    tiles_begin(PAIRS);
    attend_items(a, turn, group < LANES ? LANES / group : 1, attend_rows_by_tiles);
    tiles_end();
}

/* Queries are bf16 where hidden is. */
static bool attends_by_tiles(const cdp_shape *s) {
    return s->hidden_dtype == CDP_BF16 && s->kv_dtype == CDP_BF16 && s->head_dim % TILE_K == 0 &&
           s->head_dim <= MOST_HEAD_DIM;
}
