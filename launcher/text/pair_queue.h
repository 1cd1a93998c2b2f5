/* launcher/text/pair_queue.h - pairs that could merge: lowest rank first, of one rank leftmost first.
 *
 *     rank 7   3 -> 8 -> 21 -> ...      a lane for each rank: its places, which mostly come in order
 *     rank 9   0 -> 5
 *     late     (7, 4) (9, 2)            a heap of those that do not
 *
 * The lanes' first places lie in a heap of their own, as large as there are different pairs and not as there
 * are places: a million equal characters have one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cdp_heap_entry {
    uint64_t key;  /* rank, place */
    uint32_t lane; /* of a first place */
} cdp_heap_entry;

typedef struct cdp_pair_heap {
    cdp_heap_entry *entries;
    size_t n, room;
} cdp_pair_heap;

/* {0} is an empty queue; what was allocated is kept until cdp_pair_queue_free. */
typedef struct cdp_pair_queue {
    cdp_pair_heap lanes_heap, late;
    struct cdp_lane *lanes;
    uint32_t *map; /* rank -> lane + 1, open addressing; 0: free */
    struct cdp_place *places;
    uint32_t n_lanes, lanes_room, map_size, n_places, places_room, free_places;
} cdp_pair_queue;

void cdp_pair_queue_clear(cdp_pair_queue *queue);
void cdp_pair_queue_free(cdp_pair_queue *queue);

/* False when there is no memory. */
bool cdp_pair_queue_push(cdp_pair_queue *queue, uint32_t rank, uint32_t place);

/* False when it is empty. */
bool cdp_pair_queue_pop(cdp_pair_queue *queue, uint32_t *rank_out, uint32_t *place_out);
