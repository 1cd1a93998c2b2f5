/* How the main thread of a stage waits, and what it tells the watchdog meanwhile. */
#include "launcher/engine/pipeline_inside.h"

#include "comm/watchdog.h"

cdp_wait cdp_pipeline_waits_for(const cdp_pipeline *p) {
    cdp_wait what = CDP_WAIT_STEP;
    for (int i = 0; i < p->n_seats; i++) {
        const pipeline_seat *seat = &p->seats[i];
        cdp_wait here = CDP_WAIT_STEP;
        if (seat->state == HEAD && !seat->is_done)
            here = CDP_WAIT_HEAD;
        else if (seat->state == ON_THE_WAY)
            here = !seat->is_done ? CDP_WAIT_LAYERS : seat->span.sent_ns == 0 ? CDP_WAIT_SEND : CDP_WAIT_STEP;
        else if (seat->state == COMING)
            here = CDP_WAIT_DATA;
        what = here < what ? here : what;
    }
    return what;
}

/* While the own stage computes, every look takes time from it, and what comes in meanwhile waits for the
 * stage anyway: the main thread sleeps until the stage is done, and looks only as often as messages on their
 * way need a hand (a large one goes in pieces). With the stage idle it listens for the previous rank; where
 * that cannot be heard, it looks by the clock.
 */
void cdp_pipeline_rest(cdp_pipeline *p) {
    enum { SPIN_NS = 50000, SENDING_NS = 100000, LISTEN_NS = 200000, LOOK_NS = 1000000, LONG_NS = 100000000 };
    cdp_event next = UINT64_MAX;
    bool is_sending = false;
    for (int i = 0; i < p->n_seats; i++) {
        const pipeline_seat *seat = &p->seats[i];
        const bool is_queued = seat->state == ON_THE_WAY || seat->state == HEAD;
        if (is_queued && !seat->is_done && seat->done < next)
            next = seat->done;
        is_sending |= is_queued && seat->is_done && seat->span.sent_ns == 0;
    }
    const int64_t still = cdp_now_ns() - p->times.moved_ns;
    bool has_slept;
    if (next != UINT64_MAX)
        has_slept = cdp_device_sleep(p->options.device, next, is_sending ? SENDING_NS : LOOK_NS);
    else /* the spin: between the steps of a small model lie microseconds */
        has_slept = still < SPIN_NS || cdp_link_sleep(p->link, still < LONG_NS ? LISTEN_NS : LOOK_NS);
    if (!has_slept)
        cdp_times_pause(&p->times);
}

static bool awaits_home_rows(const cdp_pipeline *p) {
    bool awaits = false;
    for (int i = 0; i < p->n_seats; i++) {
        const pipeline_seat *seat = &p->seats[i];
        awaits |= seat->state == ON_THE_WAY && seat->step.n_home > 0 && !cdp_link_received(p->link, i);
    }
    return awaits;
}

/* What a device loads or records for a new number of rows may have to wait until nothing runs on it (ops.h),
 * and a receive of the NCCL road does run: until the ring has gone round. The ring in turn may wait for this
 * rank's rows. So rank 0 loads while no receive waits, and posts that of a step behind its own part.
 *
 * No other rank need take care. Its receives wait for the ranks before it alone, and so in the end for rank
 * 0, which goes on; its sends for receives that were posted in the order of the steps, as they were.
 */
cdp_status cdp_pipeline_wait_to_load(cdp_pipeline *p, pipeline_seat *seat) {
    uint8_t *n_seen = &seat->n_seen[seat->stage.view.n_rows][seat->stage.n_taps > 0];
    if (cdp_device_ops(p->options.device)->bucket == NULL || *n_seen == CDP_LOADING_STEPS)
        return CDP_OK;
    ++*n_seen;
    while (awaits_home_rows(p))
        CDP_TRY(cdp_pipeline_turn(p));
    return CDP_OK;
}

/* The step whose data has been asked for and is not here; -1: none. */
static int64_t awaited_step(const cdp_pipeline *p) {
    const uint64_t id = p->is_first ? p->next_home : p->next_forward;
    const pipeline_seat *seat = cdp_pipeline_seat_of(p, id);
    const bool is_asked =
        p->is_first ? seat->state == ON_THE_WAY && seat->step.n_home > 0 : seat->state == COMING;
    return is_asked && seat->step.id == id && !cdp_link_received(p->link, seat->number) ? (int64_t)id : -1;
}

void cdp_pipeline_note(const cdp_pipeline *p) {
    cdp_watchdog_messages(p->options.world, (int64_t)p->n_ready, awaited_step(p),
                          cdp_link_figures_of(p->link).previous);
    if (cdp_device_reached(p->options.device, cdp_device_record(p->options.device)))
        cdp_watchdog_note(p->options.world, CDP_WAITING, (int64_t)p->next_forward, 0, 0);
}
