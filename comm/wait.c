/* Time and pauses: how a test loop waits without burning a core. */
#include "comm/world.h"

#include <time.h>

static const int64_t us = 1000, ms = 1000000;

/* The sleep before and around the expected moment; 0 when there is none, or it is long over. */
static int64_t pause_before(int64_t waited, int64_t expected) {
    const int64_t early = expected - expected / 8;
    if (expected < 500 * us || waited > expected + expected / 8)
        return 0;
    if (waited >= early)
        return 20 * us;
    const int64_t left = early - waited;
    return left > 1 * ms ? 1 * ms : left < 20 * us ? 20 * us : left;
}

/* The spin covers the gap of a decode step, where a message comes within microseconds; the last stage is for
 * servers that idle, where a millisecond more is not felt. */
void cdp_wait_pause(cdp_waiter *waiter) {
    const int64_t now = cdp_now_ns();
    if (waiter->since_ns == 0)
        waiter->since_ns = now;
    const int64_t waited = now - waiter->since_ns;
    if (waited < 100 * us)
        return;
    int64_t pause = pause_before(waited, waiter->expected_ns);
    if (pause == 0)
        pause = waited < 5 * ms ? 50 * us : waited < 100 * ms ? 200 * us : 1 * ms;
    nanosleep(&(struct timespec){0, (long)pause}, NULL);
}
