#include "launcher/engine/pipeline_inside.h"

#include <stdlib.h>
#include <string.h>

#include "comm/watchdog.h"
#include "kernels/fault.h"

static cdp_packet_limits limits_of(const cdp_plan *plan, const cdp_model_card *card) {
    const cdp_run_shape *run = &plan->run;
    return (cdp_packet_limits){.max_rows = cdp_step_rows(run),
                               .max_slots = run->max_batch,
                               .max_commands = cdp_max_commands(run),
                               .max_blocks = (int)cdp_blocks_per_sequence(run),
                               .n_blocks = (int)plan->n_blocks,
                               .ctx = run->ctx,
                               .n_layers = card->n_layers,
                               .max_taps = cdp_tap_rows(run)};
}

void cdp_pipeline_link(cdp_link_options *out, int *active, const cdp_plan *plan, const cdp_model_card *card) {
    const cdp_packet_limits limits = limits_of(plan, card);
    int n = 0;
    for (int i = 0; i < plan->n_stages; i++)
        if (!plan->stages[i].is_idle)
            active[n++] = i;
    *out = (cdp_link_options){.n_active = n,
                              .active = active,
                              .n_seats = cdp_n_seats(&plan->run),
                              .max_header_bytes = cdp_packet_max_bytes(&limits),
                              .max_data_bytes = (size_t)cdp_seat_bytes(card, &plan->run),
                              .on_gpu = plan->run.on_gpu};
}

static cdp_status open_seats(cdp_pipeline *p) {
    const cdp_pipeline_options *o = &p->options;
    p->seats = calloc((size_t)p->n_seats, sizeof *p->seats);
    p->packet = malloc(cdp_packet_max_bytes(&p->limits));
    if (p->seats == NULL || p->packet == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the seats of %d steps", p->n_seats);
    for (int i = 0; i < p->n_seats; i++) {
        p->seats[i].number = i;
        CDP_TRY(cdp_step_alloc(&p->seats[i].step, &p->limits));
        CDP_TRY(cdp_seat_open(&p->seats[i].stage, o->device, o->card, o->plan, o->rank));
        if (!p->is_first)
            continue;
        CDP_TRY(cdp_home_open(&p->seats[i].home, &o->plan->run, o->card->n_layers));
        p->seats[i].n_seen = calloc((size_t)p->limits.max_rows + 1, sizeof *p->seats[i].n_seen);
        if (p->seats[i].n_seen == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the seats of %d steps", p->n_seats);
    }
    return CDP_OK;
}

cdp_status cdp_pipeline_open(cdp_pipeline **out, const cdp_pipeline_options *options) {
    *out = NULL;
    cdp_pipeline *p = calloc(1, sizeof *p);
    if (p == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the pipeline");
    const cdp_run_shape *run = &options->plan->run;
    p->options = *options;
    p->n_seats = cdp_n_seats(run);
    p->row_bytes = (size_t)options->card->hidden * cdp_dtype_bytes(cdp_hidden_dtype(run));
    p->limits = limits_of(options->plan, options->card);
    p->link = options->link;
    p->is_first = options->stage_number == 0;
    p->is_last = options->stage_number == options->plan->n_active - 1;
    cdp_status st = CDP_OK;
    CDP_TRY_GOTO(open_seats(p), st, done);
    *out = p;
    return CDP_OK;
done:
    cdp_pipeline_close(p);
    return st;
}

void cdp_pipeline_close(cdp_pipeline *p) {
    if (p == NULL)
        return;
    for (int i = 0; p->seats != NULL && i < p->n_seats; i++) {
        cdp_seat_close(&p->seats[i].stage);
        cdp_home_close(&p->seats[i].home);
        cdp_step_free(&p->seats[i].step);
        free(p->seats[i].n_seen);
    }
    free(p->packet);
    free(p->seats);
    free(p);
}

/* What a finished step sends: hidden rows with what is tapped so far, or what goes home. */
static cdp_status outgoing(cdp_pipeline *p, const pipeline_seat *seat, const void **rows_out,
                           int *n_rows_out) {
    const cdp_seat *s = &seat->stage;
    *rows_out = s->hidden; /* (n_rows + n_behind, hidden) */
    *n_rows_out = seat->step.n_rows + (p->is_first ? 0 : s->n_behind);
    if (!p->is_last)
        return CDP_OK;
    /* Chunks before a prompt's last one only fill the KV cache: nobody reads their logits, so nothing goes
     * home and the head, the widest product of the model, stays cold. */
    const int n_at_home = p->is_first ? s->n_behind : 0;
    *rows_out = cdp_seat_behind(s, n_at_home); /* (n_behind + n_home, hidden) */
    *n_rows_out = s->n_behind - n_at_home + seat->step.n_home;
    return cdp_stage_pick(p->options.stage, &s->view, cdp_seat_behind(s, s->n_behind));
}

/* The stage's part of a step whose hidden states are here: forward, then on its way. */
static cdp_status forward(cdp_pipeline *p, pipeline_seat *seat) {
    const cdp_stage_plan *mine = &p->options.plan->stages[p->options.rank];
    const uint64_t id = seat->step.id;
    cdp_watchdog_note(p->options.world, CDP_COMPUTING, (int64_t)id, mine->first_layer, mine->end_layer - 1);
    cdp_times_came(&seat->span);
    CDP_TRY(cdp_fault_pass("step"));
    const cdp_step_view *view = &seat->stage.view;
    if (p->is_first)
        CDP_TRY(cdp_vocab_embed(p->options.vocab, view));
    CDP_TRY(cdp_stage_forward(p->options.stage, view, seat->stage.commands, seat->stage.n_commands,
                              seat->stage.taps, seat->stage.n_taps));
    const void *going;
    int n_going;
    CDP_TRY(outgoing(p, seat, &going, &n_going));
    seat->done = cdp_device_record(p->options.device);
    seat->is_done = false;
    seat->state = ON_THE_WAY;
    p->next_forward = id + 1;
    cdp_times_queued(&p->times, &seat->span);
    CDP_TRY(cdp_fault_pass("send"));
    return n_going == 0
               ? CDP_OK
               : cdp_link_send(p->link, seat->number, going, (size_t)n_going * p->row_bytes, seat->done);
}

bool cdp_pipeline_has_room(const cdp_pipeline *p) {
    int n_queued = 0, n_awaited = 0;
    if (cdp_pipeline_seat_of(p, p->next_step)->state != FREE)
        return false;
    for (int i = 0; i < p->n_seats; i++) {
        const pipeline_seat *seat = &p->seats[i];
        n_queued += seat->state == ON_THE_WAY && !cdp_device_reached(p->options.device, seat->done);
        n_awaited += seat->state != FREE && !cdp_home_is_done(&seat->home);
    }
    return n_queued == 0 || (n_queued == 1 && n_awaited == 0);
}

void cdp_pipeline_set_sink(cdp_pipeline *p, cdp_logits_sink sink, void *of) {
    p->sink = sink;
    p->sink_of = of;
}

void cdp_pipeline_set_span_sink(cdp_pipeline *p, cdp_span_sink sink, void *of) {
    p->times.span_sink = sink;
    p->times.span_sink_of = of;
}

/* Bytes of a step that the previous rank sends: to rank 0 what goes home, without what lies there already; to
 * another the hidden rows and the tapped ones of the ranks between. */
static size_t coming_bytes(const cdp_pipeline *p, const cdp_step *step) {
    const cdp_stage_plan *stages = p->options.plan->stages;
    const int first = stages[0].end_layer, end = stages[p->options.rank].first_layer;
    const int n_layers = p->options.card->n_layers;
    const int n = p->is_first ? step->n_home + cdp_step_count_taps(step, first, n_layers)
                              : step->n_rows + cdp_step_count_taps(step, first, end);
    return (size_t)n * p->row_bytes;
}

static cdp_status begin(cdp_pipeline *p, cdp_step *step) {
    pipeline_seat *seat = cdp_pipeline_seat_of(p, p->next_step);
    CDP_TRY(cdp_seat_take(&seat->stage, step));
    CDP_TRY(cdp_pipeline_wait_to_load(p, seat));
    step->id = p->next_step++;
    cdp_step_copy(&seat->step, step);
    cdp_home_begin(&seat->home, &seat->step);
    cdp_times_asked(&seat->span, &seat->step);
    if (!p->is_last)
        CDP_TRY(cdp_link_send_header(p->link, p->packet, cdp_packet_encode(p->packet, step)));
    /* Behind the own part, which it could hold up: see pipeline_wait.c. */
    CDP_TRY(forward(p, seat));
    if (step->n_home == 0)
        return CDP_OK;
    CDP_TRY(cdp_fault_pass("recv"));
    return cdp_link_recv(p->link, seat->number, cdp_seat_behind(&seat->stage, seat->stage.n_behind),
                         coming_bytes(p, step));
}

cdp_status cdp_pipeline_begin(cdp_pipeline *p, cdp_step *step) {
    const cdp_status st = begin(p, step);
    p->is_broken |= st != CDP_OK && !p->has_sink_failed;
    cdp_times_expect(&p->times, cdp_pipeline_waits_for(p));
    return st;
}

bool cdp_pipeline_is_broken(const cdp_pipeline *p) {
    return p->is_broken;
}

static uint64_t sent_bytes(const cdp_pipeline *p) {
    uint64_t sent, received;
    cdp_link_traffic(p->link, &sent, &received);
    return sent;
}

/* Rank > 0: the next header, if it is here and its seat is free. */
static cdp_status take_header(cdp_pipeline *p, bool *moved) {
    pipeline_seat *seat = cdp_pipeline_seat_of(p, p->next_step);
    if (p->is_first || p->is_stopping || seat->state != FREE)
        return CDP_OK;
    const void *bytes;
    size_t n_bytes;
    CDP_TRY(cdp_link_take_header(p->link, &bytes, &n_bytes));
    if (bytes == NULL)
        return CDP_OK;
    *moved = true;
    if (!p->is_last) /* on to the next rank at once: ahead of the data */
        CDP_TRY(cdp_link_send_header(p->link, bytes, n_bytes));
    CDP_TRY(cdp_packet_decode(&seat->step, bytes, n_bytes, &p->limits));
    if (seat->step.kind == CDP_STEP_STOP) {
        p->is_stopping = true;
        return CDP_OK;
    }
    if (seat->step.kind == CDP_STEP_MARK) {
        cdp_times_mark(&p->times, sent_bytes(p));
        return CDP_OK;
    }
    if (seat->step.id != p->next_step)
        return cdp_fail(CDP_INTERNAL, "step %llu came where step %llu was expected",
                        (unsigned long long)seat->step.id, (unsigned long long)p->next_step);
    p->next_step++;
    seat->state = COMING;
    cdp_times_asked(&seat->span, &seat->step);
    CDP_TRY(cdp_fault_pass("recv"));
    return cdp_link_recv(p->link, seat->number, seat->stage.hidden, coming_bytes(p, &seat->step));
}

/* Rank > 0: put the next step's work in the queue once its hidden states are here. */
static cdp_status start_next(cdp_pipeline *p, bool *moved) {
    pipeline_seat *seat = cdp_pipeline_seat_of(p, p->next_forward);
    if (seat->state != COMING || !cdp_link_received(p->link, seat->number))
        return CDP_OK;
    *moved = true;
    CDP_TRY(cdp_seat_take(&seat->stage, &seat->step));
    return forward(p, seat);
}

/* Rank 0: the head's next block of what this seat brought home; *has_more_out false when there is none. */
static cdp_status start_head(cdp_pipeline *p, pipeline_seat *seat, bool *has_more_out) {
    cdp_home *home = &seat->home;
    *has_more_out = cdp_home_next(home);
    if (!*has_more_out)
        return CDP_OK;
    CDP_TRY(cdp_vocab_logits(p->options.vocab, cdp_seat_behind(&seat->stage, 0), home->at, home->n_block,
                             home->head, &seat->logits));
    seat->done = cdp_device_record(p->options.device);
    seat->is_done = false;
    seat->state = HEAD;
    cdp_times_home(&seat->span);
    return CDP_OK;
}

/* Hand out the finished block's logits, one by one. */
static cdp_status sink_block(cdp_pipeline *p, pipeline_seat *seat) {
    for (int i = 0; i < seat->home.n_block; i++) {
        cdp_home_logits home = {.logits = seat->logits + (size_t)i * (size_t)p->options.card->vocab};
        int row, ask = CDP_ASK_NOTHING;
        cdp_home_item_of(&seat->home, i, &row, &home.state, &home.is_last);
        if (seat->home.head & CDP_HEAD_HIDDEN)
            home.hidden = cdp_vocab_hidden(p->options.vocab, i);
        home.row = &seat->step.rows[row];
        const cdp_status st = p->sink(p->sink_of, &home, &ask);
        p->has_sink_failed |= st != CDP_OK;
        CDP_TRY(st);
        CDP_TRY(cdp_home_ask(&seat->home, i, ask));
    }
    return CDP_OK;
}

static void note_done(cdp_pipeline *p, bool *moved) {
    for (int i = 0; i < p->n_seats; i++) {
        pipeline_seat *seat = &p->seats[i];
        if ((seat->state != ON_THE_WAY && seat->state != HEAD) || seat->is_done ||
            !cdp_device_reached(p->options.device, seat->done))
            continue;
        if (seat->state == HEAD)
            cdp_times_head_done(&p->times, &seat->span);
        else
            cdp_times_done(&p->times, &seat->span);
        if (seat->state == ON_THE_WAY && seat->step.id >= p->n_ready)
            p->n_ready = seat->step.id + 1;
        seat->is_done = *moved = true;
    }
}

/* Rank 0: home rows go to the head once they are here, those of the oldest step first. */
static bool may_begin_head(const cdp_pipeline *p, const pipeline_seat *seat) {
    return seat->step.n_home == 0 ||
           (seat->step.id == p->next_home && cdp_link_received(p->link, seat->number));
}

/* Is what this seat gave to the device and to the link done? Then it goes on, or it is free again. */
static cdp_status settle_seat(cdp_pipeline *p, pipeline_seat *seat, bool *moved) {
    const bool is_at_work = seat->state == ON_THE_WAY || seat->state == HEAD;
    if (!is_at_work || !seat->is_done || !cdp_link_sent(p->link, seat->number))
        return CDP_OK;
    if (seat->span.sent_ns == 0) {
        cdp_times_sent(&p->times, &seat->span);
        *moved = true;
    }
    if (seat->state == HEAD)
        CDP_TRY(sink_block(p, seat));
    else if (p->is_first && !may_begin_head(p, seat))
        return CDP_OK;
    *moved = true;
    bool has_more = false;
    if (p->is_first)
        CDP_TRY(start_head(p, seat, &has_more));
    if (has_more)
        return CDP_OK;
    seat->state = FREE;
    cdp_times_ended(&p->times, &seat->span);
    return CDP_OK;
}

/* The oldest step whose home rows are not all handed out; steps without any are passed over. */
static void advance_home(cdp_pipeline *p) {
    while (p->next_home < p->next_step) {
        const pipeline_seat *seat = cdp_pipeline_seat_of(p, p->next_home);
        if (seat->step.id == p->next_home && !cdp_home_is_done(&seat->home))
            return;
        p->next_home++;
    }
}

static cdp_status turn(cdp_pipeline *p) {
    bool moved = false;
    cdp_times_turn(&p->times);
    note_done(p, &moved);
    CDP_TRY(cdp_device_check(p->options.device));
    CDP_TRY(cdp_link_poll(p->link));
    CDP_TRY(take_header(p, &moved));
    if (!p->is_first)
        CDP_TRY(start_next(p, &moved));
    for (int i = 0; i < p->n_seats; i++)
        CDP_TRY(settle_seat(p, &p->seats[i], &moved));
    advance_home(p);
    cdp_pipeline_note(p);
    if (moved)
        cdp_times_moved(&p->times, cdp_pipeline_waits_for(p));
    else
        cdp_pipeline_rest(p);
    return CDP_OK;
}

cdp_status cdp_pipeline_turn(cdp_pipeline *p) {
    p->has_sink_failed = false;
    const cdp_status st = turn(p);
    p->is_broken |= st != CDP_OK && !p->has_sink_failed;
    return st;
}

int cdp_pipeline_n_busy(const cdp_pipeline *p) {
    int n = 0;
    for (int i = 0; i < p->n_seats; i++)
        n += p->seats[i].state != FREE;
    return n;
}

cdp_status cdp_pipeline_serve(cdp_pipeline *p) {
    while (!p->is_stopping || cdp_pipeline_n_busy(p) > 0)
        CDP_TRY(cdp_pipeline_turn(p));
    return CDP_OK;
}

cdp_status cdp_pipeline_stop(cdp_pipeline *p) {
    while (cdp_pipeline_n_busy(p) > 0)
        CDP_TRY(cdp_pipeline_turn(p));
    if (p->is_last)
        return CDP_OK;
    const cdp_step stop = {.id = p->next_step, .kind = CDP_STEP_STOP};
    CDP_TRY(cdp_link_send_header(p->link, p->packet, cdp_packet_encode(p->packet, &stop)));
    return cdp_link_poll(p->link);
}

cdp_pipeline_times cdp_pipeline_times_of(const cdp_pipeline *p) {
    return cdp_times_now(&p->times, sent_bytes(p));
}

cdp_status cdp_pipeline_mark(cdp_pipeline *p) {
    cdp_times_mark(&p->times, sent_bytes(p));
    if (p->is_last)
        return CDP_OK;
    const cdp_step mark = {.id = p->next_step, .kind = CDP_STEP_MARK};
    return cdp_link_send_header(p->link, p->packet, cdp_packet_encode(p->packet, &mark));
}

int cdp_pipeline_marks_of(const cdp_pipeline *p, cdp_pipeline_times *out) {
    memcpy(out, p->times.marks, (size_t)p->times.n_marks * sizeof *out);
    return p->times.n_marks;
}
