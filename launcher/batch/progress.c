#include "launcher/batch/progress.h"

#include <inttypes.h>
#include <stdio.h>

#include "comm/world.h"
#include "kernels/log.h"
#include "launcher/bar.h"

static const int64_t second = 1000000000;

void cdp_progress_begin(cdp_progress *p) {
    p->began_ns = p->shown_ns = cdp_now_ns();
    p->n_done_before = p->n_done;
    p->has_bar = cdp_bar_is_due();
}

/* "120 of 1000 done, 2 failed, 812.3 tokens/s, 0:12:03 left" */
static void describe(char *out, size_t out_size, const cdp_progress *p, int64_t now) {
    const double elapsed_s = (double)(now - p->began_ns) * 1e-9;
    const uint64_t n_new = p->n_done - p->n_done_before;
    const int n =
        snprintf(out, out_size, "%" PRIu64 " of %" PRIu64 " done, %" PRIu64 " failed, %.1f tokens/s",
                 p->n_done, p->n_total, p->n_failed, elapsed_s > 0 ? (double)p->n_tokens / elapsed_s : 0);
    if (n_new == 0 || p->n_done == p->n_total || n < 0 || (size_t)n >= out_size)
        return;
    const double left_s = elapsed_s / (double)n_new * (double)(p->n_total - p->n_done);
    const long left = left_s < 3.6e8 ? (long)left_s : 360000000;
    snprintf(out + n, out_size - (size_t)n, ", %ld:%02ld:%02ld left", left / 3600, left / 60 % 60, left % 60);
}

void cdp_progress_turn(cdp_progress *p) {
    const int64_t now = cdp_now_ns();
    char text[160];
    if (!cdp_log_speaks() || now - p->shown_ns < (p->has_bar ? second / 5 : 10 * second))
        return;
    p->shown_ns = now;
    describe(text, sizeof text, p, now);
    if (p->has_bar)
        cdp_bar_show(p->n_done, p->n_total, text);
    else
        cdp_note("batch: %s", text);
}

void cdp_progress_end(cdp_progress *p) {
    char text[160];
    if (!cdp_log_speaks())
        return;
    if (p->has_bar)
        cdp_bar_clear();
    describe(text, sizeof text, p, cdp_now_ns());
    cdp_note("batch: %s", text);
}
