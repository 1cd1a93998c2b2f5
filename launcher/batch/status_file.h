/* launcher/batch/status_file.h - --status FILE: where a job stands, for people and schedulers that only look.
 *
 *     {"state": "running", "exit_code": null, "reason": "", "host": "node7", "pid": 4711, "ranks": 3,
 *      "done": 120, "failed": 2, "total": 1000, "time": 1790000000}
 *
 * States: starting, loading, running, stopping; then stopped, done or failed, with the exit code and its
 * reason. Put in place whole, at each change of state and at most once a second between. A process that is
 * killed cannot write its last state: `cdpipe status OUT` reads the output itself. Trouble with the file
 * never ends a job.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

typedef struct cdp_status_file {
    const char *path; /* not owned; NULL: nothing is written */
    const char *state;
    int n_ranks;
    uint64_t n_done, n_failed, n_total;
    int64_t written_ns;
    bool is_broken; /* said once */
} cdp_status_file;

/* A new state, written at once. */
void cdp_status_file_enter(cdp_status_file *file, const char *state);

/* The numbers may have changed: written when the last time is a second ago. */
void cdp_status_file_turn(cdp_status_file *file);

/* The end: done (CDP_OK), stopped (CDP_STOPPED) or failed. */
void cdp_status_file_end(cdp_status_file *file, cdp_status exit_code, const char *reason);
