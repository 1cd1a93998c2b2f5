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
 * Positions are taken in groups and groups are merged as in attention.h. A key that a query does not see adds
 * 0 to its sums, so the company in the lanes never shows.
 */
#pragma once

#include "kernels/cpu/attention_items.h"
#include "kernels/cpu/tiles.h"

enum {
    SCORE_BLOCKS = 4, /* a tile of sums each */
    LANES = TILE_SIDE,
    PAIRS = CDP_BLOCK_TOKENS / 2, /* rows of a B tile: 16 keys, or 16 of head_dim */
    MOST_HEAD_DIM = 256,
    BF16_UPPER = 16, /* bits of an f32 below its bf16 */
};

typedef struct query_lanes {
    int n;                   /* queries; the other lanes repeat the first one's range */
    int begin, last;         /* positions that any of them sees */
    int all_begin, all_last; /* that all of them see */
    const query *queries;
    int32_t first[LANES], position[LANES];                     /* each one's range */
    float best[LANES], total[LANES], keep[LANES], gain[LANES]; /* M, L and how the group goes into O */
    tile_row q[MOST_HEAD_DIM / 2];                             /* pairs */
    float sums[2][MOST_HEAD_DIM][LANES]; /* o by the upper and by the lower parts of p */
    float out[MOST_HEAD_DIM][LANES];     /* O */
} query_lanes;

/* The blocks of a group that any lane sees. */
typedef struct key_group {
    int n_blocks, position; /* of the first key */
    const uint16_t *keys[GROUP_BLOCKS], *values[GROUP_BLOCKS];
    float scores[GROUP_TOKENS][LANES];
    tile_row p[2][GROUP_TOKENS / 2];
    uint16_t edges[GROUP_BLOCKS][MOST_HEAD_DIM][CDP_BLOCK_TOKENS];
} key_group;

SIMD vi v_int(int32_t x) {
    return x - (vi){0};
}

static void lanes_begin(query_lanes *l, const query *queries, int n, const cdp_shape *s) {
    l->n = n;
    l->queries = queries;
    l->begin = l->all_begin = queries[0].first;
    l->last = l->all_last = queries[0].position;
    for (int i = 0; i < LANES; i++) {
        const query *one = &queries[i < n ? i : 0];
        l->first[i] = one->first;
        l->position[i] = one->position;
        l->begin = int_min(l->begin, one->first);
        l->last = int_max(l->last, one->position);
        l->all_begin = int_max(l->all_begin, one->first);
        l->all_last = int_min(l->all_last, one->position);
    }
    for (int d = 0; d < s->head_dim; d += TILE_K) {
        tile_row pairs[LANES] = {0};
        for (int i = 0; i < n; i++)
            bf16_pairs(&pairs[i], queries[i].q + d, TILE_K);
        transpose(pairs);
        memcpy(&l->q[d / 2], pairs, sizeof pairs);
    }
}

/* No group is merged. */
static void lanes_clear(query_lanes *l, int head_dim) {
    for (int i = 0; i < LANES; i++) {
        l->best[i] = -INFINITY;
        l->total[i] = 0.0f;
    }
    memset(l->out, 0, (size_t)head_dim * sizeof l->out[0]);
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

/* The blocks of a group that any lane sees. */
static void group_begin(key_group *g, const attend_args *a, const query_lanes *l, int kv_head,
                        const int32_t *table, int group) {
    const int first = int_max(group * GROUP_BLOCKS, l->begin / CDP_BLOCK_TOKENS);
    g->n_blocks = int_min((group + 1) * GROUP_BLOCKS, l->last / CDP_BLOCK_TOKENS + 1) - first;
    g->position = first * CDP_BLOCK_TOKENS;
    for (int i = 0; i < GROUP_BLOCKS; i++) {
        const int block = first + (i < g->n_blocks ? i : 0); /* the others' scores are not looked at */
        const uint16_t *kv = a->kv;
        g->keys[i] = kv + kv_place(a->shape, table[block], kv_head, false);
        g->values[i] = seen_values(g->edges[i], kv + kv_place(a->shape, table[block], kv_head, true), l,
                                   block * CDP_BLOCK_TOKENS, a->shape->head_dim);
    }
}

/* Scores of SCORE_BLOCKS blocks from block i of the group on. */
static void block_scores(key_group *g, int i, const query_lanes *l, int head_dim) {
    float(*scores)[LANES] = g->scores + i * CDP_BLOCK_TOKENS;
    const uint16_t *const *keys = g->keys + i;
    const size_t stride = (size_t)head_dim * sizeof(uint16_t);
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (int d = 0; d < head_dim; d += TILE_SIDE) {
        tile_load(6, &l->q[d / 2], TILE_BYTES);
        tile_load(4, keys[0] + d, stride);
        tile_load(5, keys[1] + d, stride);
        tile_dot(0, 4, 6);
        tile_dot(1, 5, 6);
        tile_load(4, keys[2] + d, stride);
        tile_load(5, keys[3] + d, stride);
        tile_dot(2, 4, 6);
        tile_dot(3, 5, 6);
    }
    tile_store(0, scores[0 * CDP_BLOCK_TOKENS], TILE_BYTES);
    tile_store(1, scores[1 * CDP_BLOCK_TOKENS], TILE_BYTES);
    tile_store(2, scores[2 * CDP_BLOCK_TOKENS], TILE_BYTES);
    tile_store(3, scores[3 * CDP_BLOCK_TOKENS], TILE_BYTES);
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

SIMD vf largest_score(key_group *g, const query_lanes *l, int lane, float scale) {
    vf best = v_set(-INFINITY);
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

/* Scores become p, and M and L take in the group's m and l: query_merge for all lanes. */
static void lanes_weights(key_group *g, query_lanes *l, int lane, float scale) {
    const vf before = v_load(l->best + lane);
    const vf best = largest_score(g, l, lane, scale), after = v_max(before, best);
    vf sum = v_set(0.0f);
    for (int pair = 0; pair < g->n_blocks * PAIRS; pair++) {
        const vf even = key_weight(g, 2 * pair, lane, best), odd = key_weight(g, 2 * pair + 1, lane, best);
        sum = (sum + even) + odd;
        store_pair(g, pair, lane, even, odd);
    }
    const vf keep = v_select(before == -INFINITY, v_set(0.0f), v_exp(before - after)),
             gain = v_exp(best - after);
    v_store(l->best + lane, after);
    v_store(l->keep + lane, keep);
    v_store(l->gain + lane, gain);
    v_store(l->total + lane, v_load(l->total + lane) * keep + sum * gain);
}

static void lanes_values(const key_group *g, query_lanes *l, int head_dim) {
    for (int d = 0; d < head_dim; d += TILE_K) {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
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

static void lanes_merge(query_lanes *l, int head_dim) {
    for (int lane = 0; lane < LANES; lane += VF) {
        const vf keep = v_load(l->keep + lane), gain = v_load(l->gain + lane);
        for (int d = 0; d < head_dim; d++) {
            const vf part = v_load(l->sums[0][d] + lane) + v_load(l->sums[1][d] + lane);
            v_store(l->out[d] + lane, v_fma(part, gain, v_load(l->out[d] + lane) * keep));
        }
    }
}

/* O of the lanes to each one's array; the context is O / L, rounded. */
static void lanes_store(const query_lanes *l, float *const *to, const bool is_context, int head_dim) {
    for (int d = 0; d < head_dim; d += TILE_SIDE) {
        tile_row r[TILE_SIDE];
        for (int i = 0; i < TILE_SIDE; i++)
            for (int lane = 0; lane < LANES; lane += VF) {
                const vf out = v_load(l->out[d + i] + lane);
                v_store((float *)&r[i] + lane,
                        is_context ? v_round_bf16(out / v_load(l->total + lane)) : out);
            }
        transpose(r);
        for (int i = 0; i < l->n; i++)
            memcpy(to[i] + d, &r[i], sizeof r[i]);
    }
}

static void attend_lanes_group(const attend_args *a, query_lanes *l, int kv_head, const int32_t *table,
                               int group) {
    const int head_dim = a->shape->head_dim;
    key_group g;
    group_begin(&g, a, l, kv_head, table, group);
    for (int i = 0; i < g.n_blocks; i += SCORE_BLOCKS)
        block_scores(&g, i, l, head_dim);
    for (int lane = 0; lane < LANES; lane += VF)
        lanes_weights(&g, l, lane, a->shape->attn_scale);
    lanes_values(&g, l, head_dim);
    lanes_merge(l, head_dim);
}

/* The lanes' M, L and O of one group to scratch. */
static void lanes_part(const cut_args *c, const query_lanes *l, int group) {
    float *to[LANES];
    for (int i = 0; i < l->n; i++)
        to[i] = begin_part(c, &l->queries[i], group, l->best[i], l->total[i]);
    lanes_store(l, to, false, c->attend->shape->head_dim);
}

/* Up to 16 queries of one kv head. */
static void attend_lanes(const cut_args *c, const piece *p, const query *queries, int n, int kv_head) {
    const attend_args *a = c->attend;
    const int32_t *table = table_of(a, p->slot);
    query_lanes l;
    lanes_begin(&l, queries, n, a->shape);
    lanes_clear(&l, a->shape->head_dim);
    const int end = int_min(p->group_end, l.last / GROUP_TOKENS + 1);
    for (int group = int_max(p->group, l.begin / GROUP_TOKENS); group < end; group++) {
        attend_lanes_group(a, &l, kv_head, table, group);
        if (c->cut.is_split) {
            lanes_part(c, &l, group);
            lanes_clear(&l, a->shape->head_dim);
        }
    }
    if (c->cut.is_split)
        return;
    float *to[LANES];
    for (int i = 0; i < n; i++)
        to[i] = queries[i].out;
    lanes_store(&l, to, true, a->shape->head_dim);
}

static void attend_piece_by_tiles(const cut_args *c, const piece *p) {
    query queries[LANES];
    for (int head = p->head; head < p->head_end; head++)
        for (int i = p->begin, n; i < p->end; i += n) {
            for (n = 0; n < LANES && i + n < p->end; n++)
                queries[n] = head_query(c->attend, head, i + n);
            attend_lanes(c, p, queries, n, head);
        }
}

static void attend_tiles_job(const void *args, const cdp_turn *turn) {
    tiles_begin(PAIRS);
    attend_pieces(args, turn, attend_piece_by_tiles);
    tiles_end();
}

/* Queries are bf16 where hidden is. */
static bool attends_by_tiles(const cdp_shape *s) {
    return s->hidden_dtype == CDP_BF16 && s->kv_dtype == CDP_BF16 && s->head_dim % TILE_K == 0 &&
           s->head_dim <= MOST_HEAD_DIM;
}
