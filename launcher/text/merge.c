#include "launcher/text/merge.h"

enum {
    FEW = 40, /* symbols: up to here a search through all of them beats a heap */
    NO_RANK = INT32_MAX,
};
static const uint32_t no_slot = UINT32_MAX;

uint32_t cdp_merge_slot(const cdp_bpe *bpe, int32_t left, int32_t right) {
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t slot = (uint32_t)((pair * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (bpe->n_slots - 1);
    while (bpe->table[slot].pair != CDP_FREE_SLOT && bpe->table[slot].pair != pair)
        slot = (slot + 1) & (bpe->n_slots - 1);
    return slot;
}

static uint32_t find(const cdp_bpe *bpe, int32_t left, int32_t right) {
    const uint32_t slot = cdp_merge_slot(bpe, left, right);
    return bpe->table[slot].pair != CDP_FREE_SLOT ? slot : no_slot;
}

/* Few symbols: ranks[i] and products[i] belong to the pair (i, i + 1). */
static size_t merge_few(const cdp_bpe *bpe, int32_t *ids, size_t n) {
    int32_t ranks[FEW], products[FEW];
    for (size_t i = 0; i + 1 < n; i++) {
        const uint32_t slot = find(bpe, ids[i], ids[i + 1]);
        ranks[i] = slot != no_slot ? bpe->table[slot].rank : NO_RANK;
        products[i] = slot != no_slot ? bpe->table[slot].product : 0;
    }
    while (n > 1) {
        size_t at = 0;
        for (size_t i = 1; i + 1 < n; i++)
            at = ranks[i] < ranks[at] ? i : at;
        if (ranks[at] == NO_RANK)
            break;
        ids[at] = products[at];
        n--;
        for (size_t i = at + 1; i < n; i++)
            ids[i] = ids[i + 1];
        for (size_t i = at + 1; i + 1 < n; i++) {
            ranks[i] = ranks[i + 1];
            products[i] = products[i + 1];
        }
        for (size_t i = at > 0 ? at - 1 : 0; i <= at && i + 1 < n; i++) {
            const uint32_t slot = find(bpe, ids[i], ids[i + 1]);
            ranks[i] = slot != no_slot ? bpe->table[slot].rank : NO_RANK;
            products[i] = slot != no_slot ? bpe->table[slot].product : 0;
        }
    }
    return n;
}

/* Many symbols: a doubly linked list in an array, and a queue of the pairs that could merge. An entry is
 * stale once its left symbol's pair has another rank. */
typedef struct cdp_symbol {
    int32_t id, before, after; /* -1: none */
    uint32_t slot;             /* of the pair (this, after) */
} cdp_symbol;

/* Look the pair of `at` and the symbol behind it up anew. */
static bool renew(const cdp_bpe *bpe, cdp_bpe_work *w, int32_t at) {
    if (at < 0)
        return true;
    cdp_symbol *left = &w->symbols[at];
    left->slot = left->after >= 0 ? find(bpe, left->id, w->symbols[left->after].id) : no_slot;
    return left->slot == no_slot ||
           cdp_pair_queue_push(&w->queue, (uint32_t)bpe->table[left->slot].rank, (uint32_t)at);
}

static bool merge_all(const cdp_bpe *bpe, cdp_bpe_work *w) {
    uint32_t rank, at;
    while (cdp_pair_queue_pop(&w->queue, &rank, &at)) {
        cdp_symbol *left = &w->symbols[at];
        if (left->slot == no_slot || (uint32_t)bpe->table[left->slot].rank != rank)
            continue; /* stale */
        cdp_symbol *right = &w->symbols[left->after];
        left->id = bpe->table[left->slot].product;
        left->after = right->after;
        right->slot = no_slot; /* gone: no entry that names it is valid any more */
        if (left->after >= 0)
            w->symbols[left->after].before = (int32_t)at;
        if (!renew(bpe, w, left->before) || !renew(bpe, w, (int32_t)at))
            return false;
    }
    return true;
}

static int64_t merge_many(const cdp_bpe *bpe, cdp_bpe_work *w, size_t n) {
    free(w->symbols);
    w->symbols = n < INT32_MAX ? malloc(n * sizeof *w->symbols) : NULL;
    if (w->symbols == NULL)
        return -1;
    cdp_pair_queue_clear(&w->queue);
    for (size_t i = 0; i < n; i++)
        w->symbols[i] = (cdp_symbol){w->ids[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1, no_slot};
    for (size_t i = 0; i < n; i++)
        if (!renew(bpe, w, (int32_t)i))
            return -1;
    if (!merge_all(bpe, w))
        return -1;
    int64_t count = 0;
    for (int32_t i = 0; i >= 0; i = w->symbols[i].after)
        w->ids[count++] = w->symbols[i].id;
    return count;
}

int64_t cdp_merge_ids(const cdp_bpe *bpe, cdp_bpe_work *work, size_t n) {
    return n <= FEW ? (int64_t)merge_few(bpe, work->ids, n) : merge_many(bpe, work, n);
}
