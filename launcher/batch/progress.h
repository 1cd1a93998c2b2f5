/* launcher/batch/progress.h - how far a job is, on stderr: a bar on a terminal, else a `#` line every 10 s.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct cdp_progress {
    uint64_t n_done, n_failed, n_total; /* failed ones are done too */
    uint64_t n_tokens;                  /* of answers, in this run */
    uint64_t n_done_before;             /* in earlier runs */
    int64_t began_ns, shown_ns;
    bool has_bar;
} cdp_progress;

/* Begin counting time. n_done, n_failed and n_total are set. */
void cdp_progress_begin(cdp_progress *progress);

/* Show what is due. */
void cdp_progress_turn(cdp_progress *progress);

/* The last line, and the end of the bar. */
void cdp_progress_end(cdp_progress *progress);
