/* tests/standin/report.cpp - what was found, and what was counted. */
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/standin/inside.h"

standin_counts standin_counted;
std::atomic<bool> standin_is_aborting;

namespace {

std::mutex fault_lock;
char last_fault[1024];

double seconds(clockid_t which) {
    timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct at_exit {
    const double start = seconds(CLOCK_MONOTONIC);
    ~at_exit() {
        if (standin_is_aborting)
            fputs("standin: exit() while a communicator is being aborted: its thread meets the destructors\n",
                  stderr);
        if (getenv("STANDIN_REPORT") == nullptr || standin_counted.launches == 0)
            return;
        const standin_counts c = standin_counted;
        fprintf(
            stderr,
            "# standin: %llu launches, %llu blocks, %llu threads, %llu meetings, %.2f s, %.2f s processor\n",
            (unsigned long long)c.launches, (unsigned long long)c.blocks, (unsigned long long)c.threads,
            (unsigned long long)c.meetings, seconds(CLOCK_MONOTONIC) - start,
            seconds(CLOCK_PROCESS_CPUTIME_ID));
    }
} report_at_exit;

} // namespace

void standin_report(const char *format, ...) {
    std::lock_guard<std::mutex> hold(fault_lock);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_fault, sizeof last_fault, format, arguments);
    va_end(arguments);
    standin_counted.faults++;
    fprintf(stderr, "standin: %s\n", last_fault);
}

double standin_now_ms(void) {
    return 1e3 * seconds(CLOCK_MONOTONIC);
}

void standin_trace(const standin_launch &l, double ms) {
    static const bool standin_wants_trace = getenv("STANDIN_TRACE") != nullptr;
    if (standin_wants_trace)
        fprintf(stderr, "# standin: %8.3f ms  %s, grid %u %u %u, block %u %u %u, %zu bytes\n", ms, l.name,
                l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y, l.block.z, l.shared_bytes);
}

const char *standin_last_fault(void) {
    return last_fault;
}

standin_counts standin_count(void) {
    return standin_counted;
}
