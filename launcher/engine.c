#include "launcher/engine.h"

#include <stdlib.h>
#include <string.h>

#include "comm/packet.h"
#include "kernels/log.h"
#include "stage/seat.h"

enum { NO_SLOT = -1 };

typedef struct sequence {
    cdp_request request;
    uint64_t order;  /* of submission: the older one goes first */
    int32_t *tokens; /* (limit) prompt, then answer */
    int n_tokens;    /* known */
    int n_fed;       /* in the KV cache, or on the way there */
    int n_heard;     /* rows whose logits have been handed out: positions below it are never wanted again */
    int n_awaited;   /* home rows on the way */
    int slot;        /* place in the block tables; NO_SLOT while waiting */
    int32_t *blocks; /* (n_blocks) of the cache, in order of position */
    int n_blocks, rope_list;
    bool has_ended;
} sequence;

struct cdp_engine {
    cdp_pipeline *pipeline;
    const cdp_plan *plan;
    const cdp_rope_card *rope;
    cdp_step step; /* the one being built */
    int32_t *free_blocks;
    int64_t n_free_blocks;
    sequence **sequences; /* in order of submission; ended ones leave */
    int n_sequences, room;
    sequence **by_slot;  /* (max_batch) */
    int32_t *freed;      /* (max_batch) slots whose tables the next step forgets */
    int n_freed, n_told; /* the first n_told of them stand in the step being built */
    uint64_t n_submitted, n_put_back;
};

static cdp_status on_home_row(void *of, const cdp_row *row, const float *logits);

static bool has_memory(const cdp_engine *e) {
    return e->free_blocks != NULL && e->by_slot != NULL && e->freed != NULL;
}

cdp_status cdp_engine_open(cdp_engine **out, cdp_pipeline *pipeline, const cdp_model_card *card,
                           const cdp_plan *plan) {
    *out = NULL;
    cdp_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the engine");
    const size_t batch = (size_t)plan->run.max_batch;
    const cdp_packet_limits limits = {.max_rows = cdp_step_rows(&plan->run),
                                      .max_slots = plan->run.max_batch,
                                      .max_commands = cdp_max_commands(&plan->run)};
    e->pipeline = pipeline;
    e->plan = plan;
    e->rope = &card->rope;
    e->free_blocks = calloc((size_t)plan->n_blocks + 1, sizeof *e->free_blocks);
    e->by_slot = calloc(batch, sizeof *e->by_slot);
    e->freed = calloc(batch, sizeof *e->freed);
    cdp_status st = has_memory(e) ? cdp_step_alloc(&e->step, &limits)
                                  : cdp_fail(CDP_SYSTEM, "no memory for the block tables");
    while (st == CDP_OK && e->n_free_blocks < plan->n_blocks) { /* block 0 lies on top */
        e->free_blocks[e->n_free_blocks] = (int32_t)(plan->n_blocks - 1 - e->n_free_blocks);
        e->n_free_blocks++;
    }
    if (st != CDP_OK) {
        cdp_engine_close(e);
        return st;
    }
    cdp_pipeline_set_sink(pipeline, on_home_row, e);
    *out = e;
    return CDP_OK;
}

static void close_sequence(sequence *s) {
    if (s == NULL)
        return;
    free(s->blocks);
    free(s->tokens);
    free(s);
}

void cdp_engine_close(cdp_engine *e) {
    if (e == NULL)
        return;
    for (int i = 0; i < e->n_sequences; i++)
        close_sequence(e->sequences[i]);
    free(e->sequences);
    free(e->freed);
    free(e->by_slot);
    free(e->free_blocks);
    cdp_step_free(&e->step);
    free(e);
}

static cdp_status make_room(cdp_engine *e) {
    if (e->n_sequences < e->room)
        return CDP_OK;
    const int room = 2 * e->room + 16;
    sequence **grown = realloc(e->sequences, (size_t)room * sizeof *grown);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d sequences", room);
    e->sequences = grown;
    e->room = room;
    return CDP_OK;
}

cdp_status cdp_engine_submit(cdp_engine *e, const cdp_request *request) {
    if (request->limit > e->plan->run.ctx || request->n_prompt < 1 || request->n_prompt > request->limit)
        return cdp_fail(CDP_BAD_DATA,
                        "a sequence of %d prompt tokens that may reach %d; the run is planned for %d (--ctx)",
                        request->n_prompt, request->limit, e->plan->run.ctx);
    CDP_TRY(make_room(e));
    const size_t n_blocks = (size_t)(request->limit + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS;
    sequence *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->tokens = calloc((size_t)request->limit + 1, sizeof *s->tokens);
        s->blocks = calloc(n_blocks + 1, sizeof *s->blocks);
    }
    if (s == NULL || s->tokens == NULL || s->blocks == NULL) {
        close_sequence(s);
        return cdp_fail(CDP_SYSTEM, "no memory for a sequence of %d tokens", request->limit);
    }
    s->request = *request;
    s->order = e->n_submitted++;
    s->slot = NO_SLOT;
    s->n_tokens = request->n_prompt;
    s->n_heard = request->wants_all ? 0 : request->n_prompt - 1;
    memcpy(s->tokens, request->prompt, (size_t)request->n_prompt * sizeof *s->tokens);
    s->rope_list = e->rope->n_lists > 1 && request->limit > e->rope->original_max ? 1 : 0;
    if (e->rope->n_lists > 1)
        cdp_note("longrope: the %s list, for a sequence of up to %d tokens (original length %d)",
                 s->rope_list == 1 ? "long" : "short", request->limit, e->rope->original_max);
    e->sequences[e->n_sequences++] = s;
    return CDP_OK;
}

/* Slot and blocks back; the stages hear of it in the next step. Steps that are on the way run before any that
 * could use the blocks anew, because every stage takes steps in order. */
static void release(cdp_engine *e, sequence *s) {
    if (s->slot == NO_SLOT)
        return;
    while (s->n_blocks > 0)
        e->free_blocks[e->n_free_blocks++] = s->blocks[--s->n_blocks];
    e->by_slot[s->slot] = NULL;
    e->freed[e->n_freed++] = s->slot;
    s->slot = NO_SLOT;
    s->n_fed = 0;
}

static void end_sequence(cdp_engine *e, sequence *s) {
    s->has_ended = true;
    release(e, s);
    if (s->request.on_end != NULL)
        s->request.on_end(s->request.of);
}

/* A row has come home: its logits go to the request, which may name the next token. */
static cdp_status on_home_row(void *of, const cdp_row *row, const float *logits) {
    cdp_engine *e = of;
    sequence *s = e->by_slot[row->slot];
    if (s == NULL || row->position != s->n_heard)
        return cdp_fail(CDP_INTERNAL, "position %d of slot %d came home, which nobody awaits", row->position,
                        row->slot);
    int32_t next = CDP_NO_TOKEN;
    s->n_awaited--;
    s->n_heard++;
    CDP_TRY(s->request.on_logits(s->request.of, row, logits, &next));
    if (row->position < s->n_tokens - 1)
        return CDP_OK; /* a row in the middle of a text that is scored */
    if (next != CDP_NO_TOKEN && s->n_tokens < s->request.limit)
        s->tokens[s->n_tokens++] = next;
    else
        next = CDP_NO_TOKEN;
    if (next == CDP_NO_TOKEN || s->n_tokens == s->request.limit)
        end_sequence(e, s);
    return CDP_OK;
}

/* Ended sequences leave the list; the others keep their order. */
static void sweep(cdp_engine *e) {
    int kept = 0;
    for (int i = 0; i < e->n_sequences; i++) {
        if (e->sequences[i]->has_ended)
            close_sequence(e->sequences[i]);
        else
            e->sequences[kept++] = e->sequences[i];
    }
    e->n_sequences = kept;
}

/* Are there blocks for all it knows, and one more for everyone who is at work? Else it would be put back
 * again before it got anywhere. Alone it may always enter: one sequence of ctx tokens fits. */
static bool is_worth_admitting(const cdp_engine *e, const sequence *s) {
    int n_active = 0;
    for (int slot = 0; slot < e->plan->run.max_batch; slot++)
        n_active += e->by_slot[slot] != NULL;
    const int n_needed = s->n_tokens / CDP_KV_BLOCK_TOKENS + 1;
    return n_active == 0 || e->n_free_blocks >= n_needed + n_active;
}

/* A slot for a waiting sequence. A slot that was freed while this step was built waits for the next one,
 * because its free command must stand before any append. */
static bool admit(cdp_engine *e, sequence *s) {
    if (!is_worth_admitting(e, s))
        return false;
    for (int slot = 0; slot < e->plan->run.max_batch; slot++) {
        bool is_free = e->by_slot[slot] == NULL;
        for (int i = e->n_told; i < e->n_freed; i++)
            is_free &= e->freed[i] != slot;
        if (is_free) {
            e->by_slot[slot] = s;
            s->slot = slot;
            return true;
        }
    }
    return false;
}

/* The youngest sequence behind `s` that holds blocks, awaits nothing and is not in the step being built. */
static sequence *victim_behind(const cdp_engine *e, const sequence *s) {
    for (int i = e->n_sequences - 1; i >= 0 && e->sequences[i]->order > s->order; i--) {
        sequence *other = e->sequences[i];
        bool is_in_step = false;
        for (int k = 0; k < e->step.n_slots; k++)
            is_in_step |= e->step.slots[k].slot == other->slot;
        if (other->slot != NO_SLOT && other->n_blocks > 0 && other->n_awaited == 0 && !is_in_step)
            return other;
    }
    return NULL;
}

/* Blocks for positions below `end`, as commands of the step; younger sequences are put back for them. */
static bool reserve(cdp_engine *e, sequence *s, int end) {
    while (s->n_blocks * CDP_KV_BLOCK_TOKENS < end) {
        sequence *victim = e->n_free_blocks == 0 ? victim_behind(e, s) : NULL;
        if (victim != NULL) {
            release(e, victim);
            e->n_put_back++;
        }
        if (e->n_free_blocks == 0)
            return false;
        const int32_t block = e->free_blocks[--e->n_free_blocks];
        e->step.commands[e->step.n_commands++] =
            (cdp_kv_command){.verb = CDP_KV_APPEND, .slot = s->slot, .index = s->n_blocks, .block = block};
        s->blocks[s->n_blocks++] = block;
    }
    return true;
}

/* Up to n rows of a sequence into the step; as many as blocks allow. */
static void add_rows(cdp_engine *e, sequence *s, int n) {
    const int left = s->n_tokens - s->n_fed;
    n = n < left ? n : left;
    while (n > 0 && !reserve(e, s, s->n_fed + n))
        n = s->n_blocks * CDP_KV_BLOCK_TOKENS - s->n_fed; /* what the blocks at hand allow */
    if (n <= 0)
        return;
    e->step.slots[e->step.n_slots++] = (cdp_step_slot){.slot = s->slot, .rope_list = s->rope_list};
    for (int i = 0; i < n; i++, s->n_fed++) {
        const bool is_newest = s->n_fed == s->n_tokens - 1;
        const bool wants_home = s->n_fed >= s->n_heard && (s->request.wants_all || is_newest);
        e->step.rows[e->step.n_rows++] = (cdp_row){.slot = s->slot,
                                                   .position = s->n_fed,
                                                   .token = s->tokens[s->n_fed],
                                                   .wants_home = wants_home ? 1 : 0};
        e->step.n_home += wants_home;
        s->n_awaited += wants_home;
    }
}

static bool is_decoding(const sequence *s) {
    return s->slot != NO_SLOT && s->n_fed > 0 && s->n_tokens - s->n_fed <= 1;
}

/* Decoding rows: this step's share of all sequences that decode, so that every stage has a step of them. */
static void add_decoding(cdp_engine *e) {
    int n_decoding = 0, n_added = 0;
    for (int i = 0; i < e->n_sequences; i++)
        n_decoding += is_decoding(e->sequences[i]);
    const int n_stages = e->plan->n_active, share = (n_decoding + n_stages - 1) / n_stages;
    for (int i = 0; i < e->n_sequences && n_added < share; i++) {
        sequence *s = e->sequences[i];
        if (!is_decoding(s) || s->n_tokens == s->n_fed)
            continue; /* its next token is on the way */
        add_rows(e, s, 1);
        n_added++;
    }
}

/* Prompts in the rows that are left, the oldest first; waiting sequences enter where a slot is free. */
static void add_prompts(cdp_engine *e) {
    for (int i = 0; i < e->n_sequences && e->step.n_rows < e->plan->run.chunk; i++) {
        sequence *s = e->sequences[i];
        if (s->has_ended || is_decoding(s) || (s->slot == NO_SLOT && !admit(e, s)))
            continue;
        add_rows(e, s, e->plan->run.chunk - e->step.n_rows);
    }
}

static void build_step(cdp_engine *e) {
    cdp_step *step = &e->step;
    step->kind = CDP_STEP_RUN;
    step->n_rows = step->n_home = step->n_slots = step->n_commands = 0;
    e->n_told = e->n_freed;
    for (int i = 0; i < e->n_told; i++)
        step->commands[step->n_commands++] = (cdp_kv_command){.verb = CDP_KV_FREE, .slot = e->freed[i]};
    add_decoding(e);
    add_prompts(e);
    if (step->n_rows == 0)
        return; /* not sent: what was freed is told by the next one */
    memmove(e->freed, e->freed + e->n_told, (size_t)(e->n_freed - e->n_told) * sizeof *e->freed);
    e->n_freed -= e->n_told;
}

cdp_status cdp_engine_turn(cdp_engine *e) {
    sweep(e);
    while (cdp_pipeline_has_room(e->pipeline)) {
        build_step(e);
        if (e->step.n_rows == 0)
            break;
        CDP_TRY(cdp_pipeline_begin(e->pipeline, &e->step));
    }
    return cdp_pipeline_turn(e->pipeline);
}

bool cdp_engine_is_idle(const cdp_engine *e) {
    for (int i = 0; i < e->n_sequences; i++)
        if (!e->sequences[i]->has_ended)
            return false;
    return cdp_pipeline_n_busy(e->pipeline) == 0;
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
    return e->n_put_back;
}
