#include "launcher/engine/engine.h"

#include <stdlib.h>

#include "comm/packet.h"
#include "stage/seat.h"

struct cdp_engine {
    cdp_pipeline *pipeline;
    cdp_schedule *schedule;
    cdp_step step; /* the one being built */
};

static cdp_status on_home_row(void *of, const cdp_home_logits *home, int *ask_out) {
    const cdp_engine *e = of;
    CDP_TRY(cdp_schedule_state(e->schedule, home->row, home->state, home->logits, home->hidden, ask_out));
    if (!home->is_last || *ask_out != CDP_ASK_NOTHING)
        return CDP_OK;
    return cdp_schedule_home(e->schedule, home->row, home->logits);
}

cdp_status cdp_engine_open(cdp_engine **out, cdp_pipeline *pipeline, const cdp_model_card *card,
                           const cdp_plan *plan) {
    *out = NULL;
    cdp_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the engine");
    const cdp_packet_limits limits = {.max_rows = cdp_step_rows(&plan->run),
                                      .max_slots = plan->run.max_batch,
                                      .max_commands = cdp_max_commands(&plan->run)};
    cdp_status st = CDP_OK;
    e->pipeline = pipeline;
    CDP_TRY_GOTO(cdp_schedule_open(&e->schedule, plan, &card->rope), st, failed);
    CDP_TRY_GOTO(cdp_step_alloc(&e->step, &limits), st, failed);
    cdp_pipeline_set_sink(pipeline, on_home_row, e);
    *out = e;
    return CDP_OK;
failed:
    cdp_engine_close(e);
    return st;
}

void cdp_engine_close(cdp_engine *e) {
    if (e == NULL)
        return;
    cdp_schedule_close(e->schedule);
    cdp_step_free(&e->step);
    free(e);
}

cdp_status cdp_engine_submit(cdp_engine *e, const cdp_request *request) {
    return cdp_schedule_submit(e->schedule, request);
}

void cdp_engine_cancel(cdp_engine *e, const void *of) {
    cdp_schedule_cancel(e->schedule, of);
}

void cdp_engine_hold(cdp_engine *e, bool holds) {
    cdp_schedule_hold(e->schedule, holds);
}

uint64_t cdp_engine_n_reused(const cdp_engine *e) {
    return cdp_schedule_n_reused(e->schedule);
}

void cdp_engine_took(cdp_engine *e, const cdp_step_span *span) {
    cdp_schedule_took(e->schedule, span->n_rows, (double)(span->done_ns - span->began_ns) * 1e-9);
}

/* What came home is looked at first, because it gates everything; then new steps fill the room. */
cdp_status cdp_engine_turn(cdp_engine *e) {
    CDP_TRY(cdp_pipeline_turn(e->pipeline));
    while (cdp_pipeline_has_room(e->pipeline)) {
        cdp_schedule_next(e->schedule, &e->step);
        if (e->step.n_rows == 0)
            break;
        CDP_TRY(cdp_pipeline_begin(e->pipeline, &e->step));
    }
    return CDP_OK;
}

bool cdp_engine_is_idle(const cdp_engine *e) {
    return cdp_schedule_is_idle(e->schedule) && cdp_pipeline_n_busy(e->pipeline) == 0;
}

cdp_status cdp_engine_run(cdp_engine *e) {
    while (!cdp_engine_is_idle(e)) {
        if (cdp_stop_wanted())
            return CDP_STOPPED;
        CDP_TRY(cdp_engine_turn(e));
    }
    return CDP_OK;
}

uint64_t cdp_engine_n_put_back(const cdp_engine *e) {
    return cdp_schedule_n_put_back(e->schedule);
}
