/* kernels/clock.h - the one clock that durations are measured by. */
#pragma once

#include <stdint.h>
#include <time.h>

/* Monotonic time in nanoseconds. */
static inline int64_t cdp_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
