#include "launcher/engine/times.h"

static double seconds(int64_t from_ns, int64_t to_ns) {
    return (double)(to_ns - from_ns) * 1e-9;
}

/* Work that is seen to end now began when the device was done with what stood before it, or when it was
 * queued, whichever came later. */
static int64_t work_began(cdp_times *t, int64_t queued_ns, int64_t now_ns) {
    const int64_t began = queued_ns > t->free_ns ? queued_ns : t->free_ns;
    t->free_ns = now_ns;
    return began;
}

void cdp_times_asked(cdp_step_span *span, const cdp_step *step) {
    *span = (cdp_step_span){
        .id = step->id, .n_rows = step->n_rows, .n_home = step->n_home, .asked_ns = cdp_now_ns()};
}

void cdp_times_came(cdp_step_span *span) {
    span->came_ns = cdp_now_ns();
}

void cdp_times_queued(cdp_times *t, const cdp_step_span *span) {
    t->sums.n_steps++;
    t->sums.n_rows += (uint64_t)span->n_rows;
}

void cdp_times_done(cdp_times *t, cdp_step_span *span) {
    span->done_ns = cdp_now_ns();
    span->began_ns = work_began(t, span->came_ns, span->done_ns);
    t->sums.layers_s += seconds(span->began_ns, span->done_ns);
}

void cdp_times_sent(cdp_times *t, cdp_step_span *span) {
    span->sent_ns = cdp_now_ns();
    t->sums.send_s += seconds(span->done_ns, span->sent_ns);
}

void cdp_times_home(cdp_step_span *span) {
    if (span->home_ns == 0)
        span->home_ns = cdp_now_ns();
}

void cdp_times_head_done(cdp_times *t, cdp_step_span *span) {
    const int64_t now = cdp_now_ns(), began = work_began(t, span->home_ns, now);
    span->head_ns = span->head_ns == 0 ? began : span->head_ns;
    span->head_done_ns = now;
    t->sums.head_s += seconds(began, now);
}

void cdp_times_ended(cdp_times *t, cdp_step_span *span) {
    span->ended_ns = cdp_now_ns();
    t->sums.flight_s += seconds(span->asked_ns, span->ended_ns);
    if (t->span_sink != NULL)
        t->span_sink(t->span_sink_of, span);
}

void cdp_times_turn(cdp_times *t) {
    const int64_t now = cdp_now_ns();
    if (t->sums.n_steps > 0 && t->last_turn_ns > 0)
        t->total_s += seconds(t->last_turn_ns, now);
    t->last_turn_ns = now;
}

cdp_pipeline_times cdp_times_now(const cdp_times *t, uint64_t n_sent_bytes) {
    cdp_pipeline_times now = t->sums;
    now.busy_s = now.layers_s + now.head_s;
    const double rest = t->total_s > now.busy_s ? t->total_s - now.busy_s : 0;
    now.send_s = now.send_s < rest ? now.send_s : rest;
    now.wait_s = rest - now.send_s;
    now.n_sent_bytes = n_sent_bytes;
    return now;
}

void cdp_times_mark(cdp_times *t, uint64_t n_sent_bytes) {
    if (t->n_marks < CDP_MAX_MARKS)
        t->marks[t->n_marks++] = cdp_times_now(t, n_sent_bytes);
}

void cdp_times_expect(cdp_times *t, cdp_wait wait) {
    t->moved_ns = cdp_now_ns();
    t->waits_for = wait;
    t->waiter = (cdp_waiter){.expected_ns = wait == CDP_WAIT_SEND ? 0 : t->expected_ns[wait]};
}

void cdp_times_moved(cdp_times *t, cdp_wait wait) {
    int64_t *expected = &t->expected_ns[t->waits_for];
    const int64_t waited = cdp_now_ns() - t->moved_ns;
    if (t->moved_ns > 0)
        *expected += *expected == 0 ? waited : (waited - *expected) / 4;
    cdp_times_expect(t, wait);
}

void cdp_times_pause(cdp_times *t) {
    cdp_wait_pause(&t->waiter);
}
