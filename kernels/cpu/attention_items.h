/* kernels/cpu/attention_items.h - how the attention of a step is dealt out to the workers.
 *
 * An item is a few queries, for a few kv heads, and all groups of positions that they see:
 *
 *     prompt     [ 16 rows ][ one kv head  ][ groups 0, 1, 2 ... ]   keys and values of a group are read by
 *                                                                    48 queries while they are near
 *     decoding   [ 1 row   ][ all kv heads ][ groups 0, 1, 2 ... ]   the cache is read as it lies
 *
 * One long sequence would be one item. So in a step of few rows an item has only some of the groups, and
 * leaves M, L and O of each in scratch; a second job merges them. The scratch is the buffer of the
 * feed-forward part.
 */
#pragma once

#include <limits.h>

#include "kernels/cpu/attention.h"

enum {
    ITEM_QUERIES = 48,
    ITEMS_PER_WORKER = 3, /* so that the last ones end together */
    SPLIT_ROWS = 64,      /* a step of more has items enough */
    PART_HEAD = 2,        /* M and L in front of O */
};

/* How a step is cut. The queries of a kv head are counted row after row: query i is head i % group of row
 * i / group. The groups are those that any row sees. */
typedef struct attend_cut {
    int queries, heads; /* of an item, at most */
    int first_group, n_groups;
    bool is_split;
} attend_cut;

typedef struct cut_args {
    const attend_args *attend;
    attend_cut cut;
} cut_args;

/* Queries [begin, end), which are of one sequence, of kv heads [head, head_end) on groups
 * [group, group_end). */
typedef struct piece {
    int slot, begin, end, head, head_end, group, group_end;
} piece;

SIMD int ceil_div(int a, int b) {
    return (a + b - 1) / b;
}
SIMD int heads_of_group(const attend_args *a) {
    return a->shape->n_heads / a->shape->n_kv_heads;
}

/* Query i of a kv head. */
SIMD query head_query(const attend_args *a, int kv_head, int i) {
    const int group = heads_of_group(a);
    return query_at(a, i / group, kv_head * group + i % group);
}

SIMD const int32_t *table_of(const attend_args *a, int slot) {
    return a->buf.tables + (size_t)slot * (size_t)a->buf.max_blocks;
}

/* What can be known of a split before the positions are. */
SIMD bool may_split(const attend_args *a) {
    return a->step.n_rows <= SPLIT_ROWS && a->buf.max_blocks > GROUP_BLOCKS;
}

/* Whether the scratch holds the parts of all rows. */
static bool has_room(const attend_args *a, int n_groups) {
    const cdp_shape *s = a->shape;
    const uint64_t part = (uint64_t)(s->head_dim + PART_HEAD);
    return (uint64_t)a->step.n_rows * (uint64_t)n_groups * (uint64_t)s->n_heads * part <=
           (uint64_t)a->buf.rows * 2 * (uint64_t)s->ffn;
}

static attend_cut cut_step(const attend_args *a) {
    const int n_rows = a->step.n_rows, group = heads_of_group(a);
    int first = INT_MAX, last = 0;
    bool shares_slots = false;
    for (int row = 0; row < n_rows; row++) {
        const query one = query_at(a, row, 0);
        first = int_min(first, one.first);
        last = int_max(last, one.position);
        shares_slots |= row > 0 && a->step.slot[row] == a->step.slot[row - 1];
    }
    attend_cut cut = {.queries = shares_slots ? ITEM_QUERIES / group * group : group,
                      .first_group = first / GROUP_TOKENS};
    if (cut.queries == 0 || cut.queries > ITEM_QUERIES) /* very large groups */
        cut.queries = ITEM_QUERIES;
    cut.heads = int_min(ITEM_QUERIES / cut.queries, a->shape->n_kv_heads);
    cut.n_groups = last / GROUP_TOKENS + 1 - cut.first_group;
    cut.is_split = may_split(a) && cut.n_groups > 1 && has_room(a, cut.n_groups);
    return cut;
}

/* n queries on one group. */
SIMD void attend_some(const attend_args *a, query *queries, int n, const kv_group *g, int group,
                      const cdp_dtype dtype) {
    query *some[QUERIES];
    bool is_seen = false;
    for (int i = 0; i < n; i++) {
        some[i] = &queries[i];
        const span seen = seen_of(some[i], group);
        is_seen |= seen.from < seen.to;
    }
    if (!is_seen)
        return;
    if (n == 1)
        attend_group(a, some, 1, g, group, dtype);
    else if (n == 2)
        attend_group(a, some, 2, g, group, dtype);
    else if (QUERIES > 3 && n == 3)
        attend_group(a, some, 3, g, group, dtype);
    else
        attend_group(a, some, QUERIES, g, group, dtype);
}

/* A piece's queries, head after head, on one group. */
SIMD void attend_heads(const attend_args *a, const piece *p, query *queries, int group, int last,
                       const cdp_dtype dtype) {
    const int32_t *table = table_of(a, p->slot);
    const int n = p->end - p->begin;
    for (int head = p->head; head < p->head_end; head++, queries += n) {
        const kv_group g = group_at(a->shape, table, head, group, last);
        for (int i = 0, size; i < n; i += size) {
            size = ceil_div(n - i, ceil_div(n - i, QUERIES)); /* four are two and two, not three and one */
            attend_some(a, queries + i, size, &g, group, dtype);
        }
    }
}

/* M, L and O of one group of a query, one behind the other. */
SIMD float *part_at(const cut_args *c, const query *one, int group) {
    const cdp_shape *s = c->attend->shape;
    const size_t row_group =
        (size_t)one->row * (size_t)c->cut.n_groups + (size_t)(group - c->cut.first_group);
    return c->attend->buf.ffn +
           (row_group * (size_t)s->n_heads + (size_t)one->head) * (size_t)(s->head_dim + PART_HEAD);
}

/* M and L into a part; where its O is to stand. */
SIMD float *begin_part(const cut_args *c, const query *one, int group, float best, float total) {
    float *part = part_at(c, one, group);
    part[0] = best;
    part[1] = total;
    return part + PART_HEAD;
}

SIMD void query_begin(query *one, float *out, int head_dim) {
    one->out = out;
    one->best = -INFINITY;
    one->total = 0.0f;
    memset(out, 0, (size_t)head_dim * sizeof *out);
}

/* context = O / L, rounded */
SIMD void query_end(const query *one, const cdp_shape *s) {
    for (int d = 0; d < s->head_dim; d++)
        one->out[d] /= one->total;
    row_round(one->out, s->head_dim, s);
}

/* The piece's groups, each by itself, into scratch. */
SIMD void attend_parts(const cut_args *c, const piece *p, query *queries, int n, int group, int group_end,
                       int last, const cdp_dtype dtype) {
    for (; group < group_end; group++) {
        for (int i = 0; i < n; i++)
            query_begin(&queries[i], part_at(c, &queries[i], group) + PART_HEAD, c->attend->shape->head_dim);
        attend_heads(c->attend, p, queries, group, last, dtype);
        for (int i = 0; i < n; i++)
            begin_part(c, &queries[i], group, queries[i].best, queries[i].total);
    }
}

SIMD void attend_piece(const cut_args *c, const piece *p, const cdp_dtype dtype) {
    const attend_args *a = c->attend;
    query queries[ITEM_QUERIES];
    int n = 0, first = INT_MAX, last = 0;
    for (int head = p->head; head < p->head_end; head++)
        for (int i = p->begin; i < p->end; i++, n++) {
            queries[n] = head_query(a, head, i);
            first = int_min(first, queries[n].first);
            last = int_max(last, queries[n].position);
        }
    const int group = int_max(p->group, first / GROUP_TOKENS);
    const int group_end = int_min(p->group_end, last / GROUP_TOKENS + 1);
    if (c->cut.is_split) {
        attend_parts(c, p, queries, n, group, group_end, last, dtype);
        return;
    }
    for (int i = 0; i < n; i++)
        query_begin(&queries[i], queries[i].out, a->shape->head_dim);
    for (int g = group; g < group_end; g++)
        attend_heads(a, p, queries, g, last, dtype);
    for (int i = 0; i < n; i++)
        query_end(&queries[i], a->shape);
}

static void attend_piece_as(const cut_args *c, const piece *p) {
    if (c->attend->shape->kv_dtype == CDP_BF16)
        attend_piece(c, p, CDP_BF16);
    else if (c->attend->shape->kv_dtype == CDP_F16)
        attend_piece(c, p, CDP_F16);
    else
        attend_piece(c, p, CDP_F32);
}

typedef void (*attend_piece_fn)(const cut_args *c, const piece *p);

/* The sequences of an item's queries; rows of one sequence stand together in a step. */
SIMD void attend_item(const cut_args *c, piece item, attend_piece_fn attend) {
    const int32_t *slot = c->attend->step.slot;
    const int of_head = heads_of_group(c->attend), end = item.end;
    for (; item.begin < end; item.begin = item.end) {
        item.slot = slot[item.begin / of_head];
        for (item.end = item.begin + 1; item.end < end && slot[item.end / of_head] == item.slot;)
            item.end++;
        if (item.slot >= 0)
            attend(c, &item);
    }
}

/* The sizes of an item and the numbers of parts that they make. */
typedef struct deal {
    int queries, heads, groups;
    int n_query_parts, n_head_parts, n_group_parts;
} deal;

static int count_queries(const cut_args *c) {
    return c->attend->step.n_rows * heads_of_group(c->attend);
}

/* Items as large as the cut lets them be, and less where workers would be idle: first of fewer groups, where
 * the step is split, then of fewer heads, then of fewer queries, whole rows if that will do. */
static deal deal_out(const cut_args *c, int n_workers) {
    const int n_queries = count_queries(c), of_head = heads_of_group(c->attend);
    const int n_heads = c->attend->shape->n_kv_heads, n_groups = c->cut.n_groups;
    const int wanted = ITEMS_PER_WORKER * n_workers;
    deal d = {.queries = c->cut.queries, .heads = c->cut.heads, .groups = n_groups};
    int n_others = ceil_div(n_queries, d.queries) * ceil_div(n_heads, d.heads);
    if (c->cut.is_split)
        d.groups = int_min(int_max(1, n_others * n_groups / wanted), n_groups);
    d.n_group_parts = ceil_div(n_groups, d.groups);
    n_others = ceil_div(n_queries, d.queries) * d.n_group_parts;
    d.heads = int_min(int_max(1, n_others * n_heads / wanted), d.heads);
    d.n_head_parts = ceil_div(n_heads, d.heads);
    n_others = d.n_head_parts * d.n_group_parts;
    const int few = int_max(QUERIES, n_others * n_queries / wanted);
    d.queries = int_min(few > of_head ? few / of_head * of_head : few, d.queries);
    d.n_query_parts = ceil_div(n_queries, d.queries);
    return d;
}

static piece piece_of(const cut_args *c, const deal *d, int item) {
    const int begin = item / (d->n_head_parts * d->n_group_parts) * d->queries;
    const int head = item / d->n_group_parts % d->n_head_parts * d->heads;
    const int group = c->cut.first_group + item % d->n_group_parts * d->groups;
    return (piece){.begin = begin,
                   .end = int_min(begin + d->queries, count_queries(c)),
                   .head = head,
                   .head_end = int_min(head + d->heads, c->attend->shape->n_kv_heads),
                   .group = group,
                   .group_end = int_min(group + d->groups, c->cut.first_group + c->cut.n_groups)};
}

/* All items of the step. */
SIMD void attend_pieces(const void *args, const cdp_turn *turn, attend_piece_fn attend) {
    const cut_args cut = {args, cut_step(args)};
    const deal d = deal_out(&cut, turn->n_workers);
    int item, taken;
    while (cdp_turn_take(turn, d.n_query_parts * d.n_head_parts * d.n_group_parts, 1, &item, &taken))
        attend_item(&cut, piece_of(&cut, &d, item), attend);
}

static void attend_job(const void *args, const cdp_turn *turn) {
    attend_pieces(args, turn, attend_piece_as);
}

/* The groups of a query from scratch, in ascending order: what attend_group does where they are not split. */
static void merge_query(const cut_args *c, int row, int head) {
    const cdp_shape *s = c->attend->shape;
    query one = query_at(c->attend, row, head);
    query_begin(&one, one.out, s->head_dim);
    for (int group = one.first / GROUP_TOKENS; group <= one.position / GROUP_TOKENS; group++) {
        const float *part = part_at(c, &one, group), *from = part + PART_HEAD;
        const blend b = query_merge(&one, part[0], part[1]);
        int d = 0;
        for (; d + VF <= s->head_dim; d += VF)
            v_store(one.out + d, v_blend(v_load(one.out + d), v_load(from + d), b));
        for (; d < s->head_dim; d++)
            one.out[d] = v_blend(v_set(one.out[d]), v_set(from[d]), b)[0];
    }
    query_end(&one, s);
}

static void attend_merge_job(const void *args, const cdp_turn *turn) {
    const cut_args cut = {args, cut_step(args)}, *c = &cut;
    const int n_heads = c->attend->shape->n_heads;
    int item, taken;
    while (c->cut.is_split && cdp_turn_take(turn, c->attend->step.n_rows * n_heads, 1, &item, &taken))
        if (c->attend->step.slot[item / n_heads] >= 0)
            merge_query(c, item / n_heads, item % n_heads);
}

/* Positions are known to the workers alone: the second job finds out for itself whether there are parts. */
static cdp_status submit_attention(cdp_device *device, cdp_job job, const attend_args *a) {
    CDP_TRY(cdp_cpu_submit(device, job, a, sizeof *a));
    return may_split(a) ? cdp_cpu_submit(device, attend_merge_job, a, sizeof *a) : CDP_OK;
}
