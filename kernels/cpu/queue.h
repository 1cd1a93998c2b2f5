/* kernels/cpu/queue.h - the inside of the CPU device: jobs in order, each worked on by all workers at once.
 *
 *     main      submit(a) submit(b) ...
 *     worker 0       [ a: items 0-3   ][ b: items 0-7 ]
 *     worker 1       [ a: items 4-5, 7][ b: items 8-9 ]      no worker starts b before a is done
 *
 * Where workers stand on several NUMA nodes, each has a range of a job's items and takes those first: the
 * same rows of a matrix each time, which lie near its core (nodes.h). Then it takes what others have left. On
 * one node all take from one range. A worker that lost its core for a while slows the job only by the items
 * that it holds, and which worker computes an item never changes a bit of it.
 */
#pragma once

#include "kernels/ops.h"
#include <stdatomic.h>

enum { CDP_JOB_ARGS_BYTES = 224 };

/* How much of a range is taken; on cache lines of its own, two at a time as they are fetched. */
typedef struct cdp_taken {
    _Alignas(128) atomic_int n;
} cdp_taken;

/* What a job sees of its turn. */
typedef struct cdp_turn {
    cdp_taken *taken; /* (n_ranges) */
    int worker, n_workers;
    int n_ranges; /* n_workers, or 1 that all share */
} cdp_turn;

typedef void (*cdp_job)(const void *args, const cdp_turn *turn);

/* Queue a job with a copy of its arguments. Main thread only. Waits only while the queue is full. */
cdp_status cdp_cpu_submit(cdp_device *device, cdp_job job, const void *args, size_t n_bytes);

/* Where range `range` of n pieces begins; range n_ranges' beginning is the end. */
static inline int cdp_range_begin(int n, int range, int n_ranges) {
    return (int)((int64_t)n * range / n_ranges);
}

/* The next up to `grain` of n_items: false when none are left. The same numbers in all calls of a job. */
static inline bool cdp_turn_take(const cdp_turn *turn, int n_items, int grain, int *begin_out, int *end_out) {
    const int n = (n_items + grain - 1) / grain;
    for (int i = 0; i < turn->n_ranges; i++) {
        const int from = (turn->worker + i) % turn->n_ranges; /* its own, then its neighbours' */
        const int first = cdp_range_begin(n, from, turn->n_ranges);
        const int size = cdp_range_begin(n, from + 1, turn->n_ranges) - first;
        /* Looked at before it is counted up: a range that is used up is not written to any more. */
        if (size == 0 || atomic_load_explicit(&turn->taken[from].n, memory_order_relaxed) >= size)
            continue;
        const int at = atomic_fetch_add_explicit(&turn->taken[from].n, 1, memory_order_relaxed);
        if (at >= size)
            continue;
        *begin_out = (first + at) * grain;
        *end_out = *begin_out + grain < n_items ? *begin_out + grain : n_items;
        return true;
    }
    return false;
}

/* Operations that only move bytes: every table of the CPU device has these. A KV block is 2 * n_kv_heads * 16
 * * head_dim values, whatever their order inside. */
cdp_status cdp_cpu_kv_update(cdp_device *device, const cdp_shape *shape, const cdp_layer *layers,
                             int n_layers, const cdp_kv_command *commands, int n_commands,
                             const cdp_buffers *buffers);
cdp_status cdp_cpu_embed(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                         const cdp_step_view *step);
cdp_status cdp_cpu_pick(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step, void *picked);

/* The tables of the vectorised tiers; only those this build has are not NULL. */
const cdp_ops *cdp_ops_for_tier(cdp_cpu_tier tier);
extern const cdp_ops cdp_ops_plain;
