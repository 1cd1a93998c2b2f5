#include "launcher/batch/ledger.h"

#include <stdlib.h>

enum { MARK_BITS = 8 };

cdp_hash128 cdp_id_hash(const char *id, size_t n) {
    return cdp_hash_add(CDP_HASH_START, id, n);
}

cdp_hash128 cdp_line_hash(uint32_t line) { /* no id starts with a NUL */
    const uint32_t words[2] = {0, line};
    return cdp_hash_add(CDP_HASH_START, words, sizeof words);
}

/* One array, grown; untouched pages of the new room cost nothing. */
static bool grow(void *array_of_pointer, size_t room, size_t size) {
    void **array = array_of_pointer;
    void *grown = realloc(*array, room * size);
    if (grown == NULL)
        return false;
    *array = grown;
    return true;
}

static cdp_status make_room(cdp_ledger *l) {
    if (l->n < l->room)
        return CDP_OK;
    if (l->n >= UINT32_MAX / 2)
        return cdp_fail(CDP_BAD_DATA, "more than %u lines: cut the input into several", l->n);
    const size_t room = l->room < 1024 ? 1024 : (size_t)l->room + l->room / 2;
    if (!grow(&l->ids, room, sizeof *l->ids) || !grow(&l->places, room, sizeof *l->places) ||
        !grow(&l->lines, room, sizeof *l->lines) || !grow(&l->by_hash, room, sizeof *l->by_hash))
        return cdp_fail(CDP_SYSTEM, "no memory for the ids of %zu lines", room);
    l->room = (uint32_t)room;
    return CDP_OK;
}

cdp_status cdp_ledger_add(cdp_ledger *l, cdp_hash128 id, uint64_t offset, uint32_t line, unsigned marks) {
    CDP_TRY(make_room(l));
    l->ids[l->n] = id;
    l->places[l->n] = offset << MARK_BITS | marks;
    l->lines[l->n] = line;
    l->by_hash[l->n] = l->n;
    l->n++;
    return CDP_OK;
}

/* Order of two lines: by hash, then as in the file. */
static bool is_before(const cdp_ledger *l, uint32_t x, uint32_t y) {
    const int order = cdp_hash_compare(l->ids[x], l->ids[y]);
    return order < 0 || (order == 0 && x < y);
}

/* Let the line at `at` sink in the heap of the first n until none below it is later in the order. */
static void sink(cdp_ledger *l, size_t at, size_t n) {
    uint32_t *heap = l->by_hash;
    const uint32_t line = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_before(l, heap[child], heap[child + 1]))
            child++;
        if (!is_before(l, line, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = line;
}

/* Heapsort, because it needs no second array. */
bool cdp_ledger_sort(cdp_ledger *l, uint32_t *first_out, uint32_t *second_out) {
    for (size_t at = l->n / 2; at-- > 0;)
        sink(l, at, l->n);
    for (size_t n = l->n; n > 1; n--) {
        const uint32_t last = l->by_hash[0];
        l->by_hash[0] = l->by_hash[n - 1];
        l->by_hash[n - 1] = last;
        sink(l, 0, n - 1);
    }
    for (uint32_t i = 1; i < l->n; i++) {
        if (cdp_hash_compare(l->ids[l->by_hash[i - 1]], l->ids[l->by_hash[i]]) != 0)
            continue;
        *first_out = l->by_hash[i - 1];
        *second_out = l->by_hash[i];
        return false;
    }
    return true;
}

int64_t cdp_ledger_find(const cdp_ledger *l, cdp_hash128 id) {
    uint32_t low = 0, high = l->n;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (cdp_hash_compare(l->ids[l->by_hash[middle]], id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->n && cdp_hash_compare(l->ids[l->by_hash[low]], id) == 0 ? (int64_t)l->by_hash[low]
                                                                            : CDP_NO_LINE;
}

int64_t cdp_ledger_find_line(const cdp_ledger *l, uint32_t line) {
    uint32_t low = 0, high = l->n;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (l->lines[middle] < line)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->n && l->lines[low] == line ? (int64_t)low : CDP_NO_LINE;
}

bool cdp_ledger_mark_done(cdp_ledger *l, uint32_t index, bool is_failed) {
    if (l->places[index] & CDP_LEDGER_DONE)
        return false;
    l->places[index] |= CDP_LEDGER_DONE | (is_failed ? CDP_LEDGER_FAILED : 0u);
    l->n_done++;
    l->n_failed += is_failed;
    return true;
}

uint64_t cdp_ledger_offset(const cdp_ledger *l, uint32_t index) {
    return l->places[index] >> MARK_BITS;
}

unsigned cdp_ledger_marks(const cdp_ledger *l, uint32_t index) {
    return (unsigned)(l->places[index] & ((1u << MARK_BITS) - 1));
}

void cdp_ledger_close(cdp_ledger *l) {
    free(l->ids);
    free(l->places);
    free(l->lines);
    free(l->by_hash);
    *l = (cdp_ledger){0};
}
