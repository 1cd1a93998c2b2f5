/* Time and pauses: how a test loop waits without burning a core. */
#include "comm/world.h"

#include <time.h>

int64_t cdp_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The spin covers the gap of a decode step, where a message comes within microseconds; the last stage is for
 * servers that idle, where a millisecond more is not felt. */
void cdp_wait_pause(cdp_waiter *waiter) {
    const int64_t us = 1000, ms = 1000 * us;
    const int64_t now = cdp_now_ns();
    if (waiter->since_ns == 0)
        waiter->since_ns = now;
    const int64_t waited = now - waiter->since_ns;
    if (waited < 100 * us)
        return;
    const int64_t pause = waited < 5 * ms ? 50 * us : waited < 1000 * ms ? 200 * us : 1 * ms;
    nanosleep(&(struct timespec){0, (long)pause}, NULL);
}
