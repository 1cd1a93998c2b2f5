#include "launcher/text/pair_queue.h"

#include <stdlib.h>
#include <string.h>

enum { CHILDREN = 4, NONE = 0 /* places are numbered from 1 */ };

typedef struct cdp_lane {
    uint32_t rank, first, last, last_place;
} cdp_lane;
typedef struct cdp_place {
    uint32_t place, next;
} cdp_place;

/* The array with room for an element number n; NULL: no memory, and the array is what it was. */
static void *with_room(void *array, uint32_t *room, size_t n, size_t size) {
    if (n < *room)
        return array;
    const size_t wanted = 2 * n + 256;
    void *grown = wanted < UINT32_MAX ? realloc(array, wanted * size) : NULL;
    if (grown != NULL)
        *room = (uint32_t)wanted;
    return grown;
}

static bool heap_push(cdp_pair_heap *h, cdp_heap_entry entry) {
    if (h->n == h->room) {
        const size_t room = 2 * h->room + 64;
        cdp_heap_entry *grown = realloc(h->entries, room * sizeof *grown);
        if (grown == NULL)
            return false;
        h->entries = grown;
        h->room = room;
    }
    size_t i = h->n++;
    for (; i > 0 && entry.key < h->entries[(i - 1) / CHILDREN].key; i = (i - 1) / CHILDREN)
        h->entries[i] = h->entries[(i - 1) / CHILDREN];
    h->entries[i] = entry;
    return true;
}

/* Put `entry` in the place of the top. */
static void heap_replace(cdp_pair_heap *h, cdp_heap_entry entry) {
    size_t i = 0;
    for (size_t first = 1; first < h->n; first = CHILDREN * i + 1) {
        size_t least = first;
        for (size_t child = first + 1; child < first + CHILDREN && child < h->n; child++)
            least = h->entries[child].key < h->entries[least].key ? child : least;
        if (h->entries[least].key >= entry.key)
            break;
        h->entries[i] = h->entries[least];
        i = least;
    }
    h->entries[i] = entry;
}

static void heap_pop(cdp_pair_heap *h) {
    h->n--;
    if (h->n > 0)
        heap_replace(h, h->entries[h->n]);
}

static uint32_t map_slot(const cdp_pair_queue *q, uint32_t rank) {
    uint32_t slot = (rank * 0x9E3779B1u >> 7) & (q->map_size - 1);
    while (q->map[slot] != 0 && q->lanes[q->map[slot] - 1].rank != rank)
        slot = (slot + 1) & (q->map_size - 1);
    return slot;
}

static bool grow_map(cdp_pair_queue *q) {
    if (2 * q->n_lanes < q->map_size)
        return true;
    const uint32_t size = q->map_size > 0 ? 2 * q->map_size : 256;
    free(q->map);
    q->map = calloc(size, sizeof *q->map);
    q->map_size = q->map != NULL ? size : 0;
    for (uint32_t lane = 0; q->map != NULL && lane < q->n_lanes; lane++)
        q->map[map_slot(q, q->lanes[lane].rank)] = lane + 1;
    return q->map != NULL;
}

/* The lane of a rank, a new one where it has none; NULL: no memory. */
static cdp_lane *lane_of(cdp_pair_queue *q, uint32_t rank) {
    if (!grow_map(q))
        return NULL;
    const uint32_t slot = map_slot(q, rank);
    if (q->map[slot] == 0) {
        cdp_lane *lanes = with_room(q->lanes, &q->lanes_room, q->n_lanes, sizeof *lanes);
        if (lanes == NULL)
            return NULL;
        q->lanes = lanes;
        q->lanes[q->n_lanes++] = (cdp_lane){.rank = rank};
        q->map[slot] = q->n_lanes;
    }
    return &q->lanes[q->map[slot] - 1];
}

/* A place that is in no lane, numbered from 1; NONE: no memory. */
static uint32_t new_place(cdp_pair_queue *q, uint32_t place) {
    uint32_t number = q->free_places;
    if (number != NONE) {
        q->free_places = q->places[number].next;
    } else {
        number = q->n_places + 1;
        cdp_place *places = with_room(q->places, &q->places_room, number, sizeof *places);
        if (places == NULL)
            return NONE;
        q->places = places;
        q->n_places = number;
    }
    q->places[number] = (cdp_place){place, NONE};
    return number;
}

bool cdp_pair_queue_push(cdp_pair_queue *q, uint32_t rank, uint32_t place) {
    const uint64_t key = (uint64_t)rank << 32 | place;
    cdp_lane *lane = lane_of(q, rank);
    if (lane == NULL)
        return false;
    if (lane->first != NONE && place < lane->last_place)
        return heap_push(&q->late, (cdp_heap_entry){key, 0});
    const uint32_t number = new_place(q, place);
    if (number == NONE)
        return false;
    lane->last_place = place;
    if (lane->first != NONE) {
        q->places[lane->last].next = number;
        lane->last = number;
        return true;
    }
    lane->first = lane->last = number;
    return heap_push(&q->lanes_heap, (cdp_heap_entry){key, (uint32_t)(lane - q->lanes)});
}

/* Take the first place of the lane on top. */
static void advance(cdp_pair_queue *q) {
    cdp_heap_entry top = q->lanes_heap.entries[0];
    cdp_lane *lane = &q->lanes[top.lane];
    const uint32_t number = lane->first;
    lane->first = q->places[number].next;
    q->places[number].next = q->free_places;
    q->free_places = number;
    if (lane->first == NONE) {
        heap_pop(&q->lanes_heap);
        return;
    }
    top.key = (uint64_t)lane->rank << 32 | q->places[lane->first].place;
    heap_replace(&q->lanes_heap, top);
}

bool cdp_pair_queue_pop(cdp_pair_queue *q, uint32_t *rank_out, uint32_t *place_out) {
    if (q->lanes_heap.n == 0 && q->late.n == 0)
        return false;
    const bool is_late =
        q->lanes_heap.n == 0 || (q->late.n > 0 && q->late.entries[0].key < q->lanes_heap.entries[0].key);
    const uint64_t key = is_late ? q->late.entries[0].key : q->lanes_heap.entries[0].key;
    if (is_late)
        heap_pop(&q->late);
    else
        advance(q);
    *rank_out = (uint32_t)(key >> 32);
    *place_out = (uint32_t)key;
    return true;
}

void cdp_pair_queue_clear(cdp_pair_queue *q) {
    q->lanes_heap.n = q->late.n = 0;
    q->n_lanes = q->n_places = 0;
    q->free_places = NONE;
    if (q->map_size > 0)
        memset(q->map, 0, q->map_size * sizeof *q->map);
}

void cdp_pair_queue_free(cdp_pair_queue *q) {
    free(q->lanes_heap.entries);
    free(q->late.entries);
    free(q->lanes);
    free(q->map);
    free(q->places);
    *q = (cdp_pair_queue){0};
}
