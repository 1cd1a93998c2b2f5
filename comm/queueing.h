/* comm/queueing.h - how long the threads of this process stand in line for a core.
 *
 * A rank without progress may hang, or its machine may be overloaded: another job on its cores, more ranks
 * than cores. The kernel counts for each thread how long it was ready and had no core
 * (/proc/self/task/TID/schedstat).
 */
#pragma once

#include <stdint.h>

enum { CDP_QUEUEING_THREADS = 512 }; /* the first ones; of more the rest is not asked */

typedef struct cdp_queueing {
    int64_t at_ns; /* 0: nothing is known */
    int n;
    struct {
        int tid;
        uint64_t waited_ns;
    } threads[CDP_QUEUEING_THREADS]; /* (n) */
} cdp_queueing;

/* Read the counts of all threads but the calling one. */
void cdp_queueing_read(cdp_queueing *out, int64_t now_ns);

/* The part of the time between two readings, 0 to 1, for which the thread that waited most waited for a core.
 * 0 when one of them knows nothing, or the kernel does not count. */
double cdp_queueing_share(const cdp_queueing *before, const cdp_queueing *after);
