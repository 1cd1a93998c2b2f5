#include "launcher/engine/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "planner/new_file.h"

enum {
    MAX_SPANS = 1 << 20,
    BATCH = 1024, /* spans of each rank that rank 0 holds at once while writing */
    LAYERS_TRACK = 0,
    HEAD_TRACK = 1,
    FIRST_SEAT_TRACK = 2,
};

/* Own clock against rank 0's, at one moment. */
typedef struct clock_fix {
    int64_t at_ns, offset_ns;
} clock_fix;

struct cdp_trace {
    cdp_world *world;
    cdp_new_file file; /* rank 0 */
    clock_fix start;
    cdp_step_span *spans;
    int64_t n_spans, room, n_lost;
    int64_t zero_ns; /* rank 0's clock at the left edge */
    bool has_event;
};

cdp_status cdp_trace_open(cdp_trace **out, cdp_world *world, const char *path) {
    *out = NULL;
    cdp_trace *t = calloc(1, sizeof *t);
    cdp_status st =
        cdp_world_agree(world, t != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the trace"));
    if (st != CDP_OK) {
        free(t);
        return st;
    }
    t->world = world;
    st = cdp_world_clock(world, &t->start.offset_ns);
    t->start.at_ns = cdp_now_ns();
    t->zero_ns = t->start.at_ns;
    if (st == CDP_OK && cdp_world_rank(world) == 0)
        st = cdp_new_file_open(&t->file, path);
    if (st != CDP_OK)
        cdp_trace_close(t);
    else
        *out = t;
    return st;
}

void cdp_trace_close(cdp_trace *t) {
    if (t == NULL)
        return;
    cdp_new_file_close(&t->file);
    free(t->spans);
    free(t);
}

/* A trace is a help, not the job: where memory ends, spans are counted and the run goes on. */
void cdp_trace_add(cdp_trace *t, const cdp_step_span *span) {
    if (t->n_spans == t->room && t->room < MAX_SPANS) {
        const int64_t room = t->room == 0 ? 1024 : 2 * t->room;
        cdp_step_span *grown = realloc(t->spans, (size_t)room * sizeof *grown);
        if (grown != NULL) {
            t->spans = grown;
            t->room = room;
        }
    }
    if (t->n_spans < t->room)
        t->spans[t->n_spans++] = *span;
    else
        t->n_lost++;
}

/* Moments ----------------------------------------------------------------------------------------------- */

/* The offset drifts evenly between the two fixes. */
static int64_t to_rank_0(const clock_fix *start, const clock_fix *end, int64_t ns) {
    if (ns == 0)
        return 0;
    const double share =
        end->at_ns > start->at_ns ? (double)(ns - start->at_ns) / (double)(end->at_ns - start->at_ns) : 0;
    return ns + start->offset_ns + (int64_t)(share * (double)(end->offset_ns - start->offset_ns));
}

/* What did not come is drawn as nothing: every moment at least the one before it. */
static void set_clock(const cdp_trace *t, const clock_fix *end, cdp_step_span *s) {
    int64_t *const moments[] = {&s->asked_ns, &s->came_ns, &s->began_ns,     &s->done_ns, &s->sent_ns,
                                &s->home_ns,  &s->head_ns, &s->head_done_ns, &s->ended_ns};
    int64_t before = 0;
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        const int64_t ns = to_rank_0(&t->start, end, *moments[i]);
        *moments[i] = before = ns > before ? ns : before;
    }
}

/* Events ------------------------------------------------------------------------------------------------ */

static void begin_event(cdp_trace *t) {
    fputs(t->has_event ? ",\n" : "\n", t->file.to);
    t->has_event = true;
}

static void name_track(cdp_trace *t, int rank, int track, const char *name, int number) {
    begin_event(t);
    fprintf(t->file.to,
            "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s", rank,
            track, name);
    if (number >= 0)
        fprintf(t->file.to, " %d", number);
    fputs("\"}}", t->file.to);
}

static void name_rank(cdp_trace *t, int rank, const cdp_plan *plan) {
    const cdp_stage_plan *stage = &plan->stages[rank];
    char holds[48];
    begin_event(t);
    fprintf(t->file.to,
            "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank %d: %s\"}}", rank,
            rank, cdp_stage_holds(holds, sizeof holds, stage));
    begin_event(t);
    fprintf(t->file.to,
            "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%d,\"args\":{\"sort_index\":%d}}", rank,
            rank);
    if (stage->is_idle)
        return;
    name_track(t, rank, LAYERS_TRACK, "layers", -1);
    if (rank == 0)
        name_track(t, rank, HEAD_TRACK, "head", -1);
    for (int seat = 0; seat < cdp_n_seats(&plan->run); seat++)
        name_track(t, rank, FIRST_SEAT_TRACK + seat, "seat", seat);
}

static double micros(const cdp_trace *t, int64_t ns) {
    return (double)(ns - t->zero_ns) * 1e-3;
}

/* A slice; one of no length is left out. */
static void slice(cdp_trace *t, int rank, int track, const cdp_step_span *s, const char *what, int64_t from,
                  int64_t to) {
    if (to <= from)
        return;
    begin_event(t);
    fprintf(t->file.to,
            "{\"ph\":\"X\",\"name\":\"step %" PRIu64 "%s%s\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f",
            s->id, what[0] != '\0' ? " " : "", what, rank, track, micros(t, from),
            (double)(to - from) * 1e-3);
    fprintf(t->file.to, ",\"args\":{\"rows\":%d,\"home\":%d}}", s->n_rows, s->n_home);
}

/* One end of the arrow from this step's layers on one stage to those on the next: "s" where it starts, "f"
 * where it ends. Readers take the id for a number (a string only if it is a hexadecimal one), and without
 * "bp" an end belongs to the slice that begins next and not to the one around it. */
static void arrow(cdp_trace *t, char end, int rank, const cdp_step_span *s, int hop, int64_t at) {
    begin_event(t);
    fprintf(t->file.to,
            "{\"ph\":\"%c\",\"name\":\"hidden\",\"cat\":\"hidden\",\"id\":%" PRIu64
            ",%s\"pid\":%d,\"tid\":%d,\"ts\":%.3f}",
            end, s->id * CDP_MAX_RANKS + (uint64_t)hop, end == 'f' ? "\"bp\":\"e\"," : "", rank, LAYERS_TRACK,
            micros(t, at));
}

static void draw(cdp_trace *t, int rank, int stage_number, const cdp_plan *plan, const cdp_step_span *s) {
    const cdp_stage_plan *stage = &plan->stages[rank];
    const int seat = FIRST_SEAT_TRACK + (int)(s->id % (uint64_t)cdp_n_seats(&plan->run));
    char layers[48];
    snprintf(layers, sizeof layers, "layers %d-%d", stage->first_layer, stage->end_layer - 1);
    slice(t, rank, LAYERS_TRACK, s, layers, s->began_ns, s->done_ns);
    slice(t, rank, HEAD_TRACK, s, "head", s->head_ns, s->head_done_ns);
    slice(t, rank, seat, s, "", s->asked_ns, s->ended_ns);
    slice(t, rank, seat, s, "recv", s->asked_ns, s->came_ns);
    slice(t, rank, seat, s, "queue", s->came_ns, s->began_ns);
    slice(t, rank, seat, s, layers, s->began_ns, s->done_ns);
    slice(t, rank, seat, s, "send", s->done_ns, s->sent_ns);
    slice(t, rank, seat, s, "home", s->sent_ns, s->home_ns);
    slice(t, rank, seat, s, "head", s->head_ns, s->head_done_ns);
    slice(t, rank, seat, s, "sample", s->head_done_ns, rank == 0 && s->n_home > 0 ? s->ended_ns : 0);
    if (s->done_ns <= s->began_ns)
        return; /* no slice for an arrow to begin or end in */
    if (stage_number > 0)
        arrow(t, 'f', rank, s, stage_number - 1, s->began_ns);
    if (stage_number < plan->n_active - 1)
        arrow(t, 's', rank, s, stage_number, s->began_ns);
}

/* The gather -------------------------------------------------------------------------------------------- */

typedef struct batch {
    int64_t n, n_left;
    cdp_step_span spans[BATCH];
} batch;

/* The next spans of this rank, by rank 0's clock. */
static void fill(batch *out, const cdp_trace *t, const clock_fix *end, int64_t from) {
    const int64_t left = t->n_spans - from;
    out->n = left < BATCH ? left : BATCH;
    out->n_left = left - out->n;
    for (int64_t i = 0; i < out->n; i++) {
        out->spans[i] = t->spans[from + i];
        set_clock(t, end, &out->spans[i]);
    }
}

static bool draw_all(cdp_trace *t, const cdp_plan *plan, const batch *all) {
    bool has_more = false;
    for (int rank = 0, stage = 0; rank < plan->n_stages; rank++) {
        for (int64_t i = 0; t->file.to != NULL && i < all[rank].n; i++)
            draw(t, rank, stage, plan, &all[rank].spans[i]);
        has_more |= all[rank].n_left > 0;
        stage += plan->stages[rank].is_idle ? 0 : 1;
    }
    return has_more;
}

static cdp_status gather_and_draw(cdp_trace *t, const cdp_plan *plan, const clock_fix *end) {
    const size_t size = (size_t)cdp_world_size(t->world);
    batch *mine = calloc(1, sizeof *mine), *all = calloc(size, sizeof *all);
    cdp_status st =
        mine == NULL || all == NULL ? cdp_fail(CDP_SYSTEM, "no memory to write the trace") : CDP_OK;
    CDP_TRY_GOTO(cdp_world_agree(t->world, st), st, done);
    bool has_more = true;
    for (int64_t from = 0; has_more; from += BATCH) {
        fill(mine, t, end, from < t->n_spans ? from : t->n_spans);
        CDP_TRY_GOTO(cdp_world_gather(t->world, all, mine, sizeof *mine), st, done);
        has_more = draw_all(t, plan, all);
    }
done:
    free(all);
    free(mine);
    return st;
}

cdp_status cdp_trace_write(cdp_trace *t, const cdp_plan *plan) {
    clock_fix end;
    CDP_TRY(cdp_world_clock(t->world, &end.offset_ns));
    end.at_ns = cdp_now_ns();
    if (t->file.to != NULL) {
        fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", t->file.to);
        for (int rank = 0; rank < plan->n_stages; rank++)
            name_rank(t, rank, plan);
    }
    CDP_TRY(gather_and_draw(t, plan, &end));
    if (t->n_lost > 0)
        cdp_note("trace: %" PRId64 " steps beyond the first %" PRId64 " are not in it", t->n_lost,
                 t->n_spans);
    if (t->file.to == NULL)
        return CDP_OK;
    fprintf(t->file.to, "\n]}\n");
    return cdp_new_file_end(&t->file, /*is_durable=*/false);
}
