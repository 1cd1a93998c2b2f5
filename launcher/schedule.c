#include "launcher/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/chunk.h"

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
    bool closes_step; /* its row is the last decoding one of a step that is on the way */
    cdp_tap_set taps;
    int n_taps;
    bool is_cancelled, has_ended;
} sequence;

/* What an ended sequence left behind: it still has its slot, and the stages its block table. */
typedef struct kept_cache {
    int32_t *tokens; /* (n) whose keys and values are there; NULL: nothing is kept */
    int n;
    int32_t *blocks; /* (n_blocks) */
    int n_blocks, slot, rope_list;
} kept_cache;

struct cdp_schedule {
    const cdp_plan *plan;
    const cdp_rope_card *rope;
    cdp_step *step; /* the one being built, the caller's */
    int32_t *free_blocks;
    int64_t n_free_blocks;
    sequence **sequences; /* in order of submission; ended ones leave */
    int n_sequences, room;
    sequence **by_slot;  /* (max_batch) */
    int32_t *freed;      /* (max_batch) slots whose tables the next step forgets */
    int n_freed, n_told; /* the first n_told of them stand in the step being built */
    int n_tapped;        /* tapped home rows of the step being built */
    int n_layers;
    int n_decoding_steps; /* on the way, with decoding rows */
    cdp_step_cost cost;
    kept_cache kept;
    uint64_t n_submitted, n_put_back, n_reused;
};

cdp_status cdp_schedule_open(cdp_schedule **out, const cdp_plan *plan, const cdp_rope_card *rope) {
    *out = NULL;
    const size_t batch = (size_t)plan->run.max_batch;
    cdp_schedule *all = calloc(1, sizeof *all);
    if (all != NULL) {
        all->free_blocks = calloc((size_t)plan->n_blocks + 1, sizeof *all->free_blocks);
        all->by_slot = calloc(batch, sizeof *all->by_slot);
        all->freed = calloc(batch, sizeof *all->freed);
    }
    if (all == NULL || all->free_blocks == NULL || all->by_slot == NULL || all->freed == NULL) {
        cdp_schedule_close(all);
        return cdp_fail(CDP_SYSTEM, "no memory for the block tables");
    }
    all->plan = plan;
    all->rope = rope;
    for (int r = 0; r < plan->n_stages; r++)
        all->n_layers = plan->stages[r].end_layer > all->n_layers ? plan->stages[r].end_layer : all->n_layers;
    while (all->n_free_blocks < plan->n_blocks) { /* block 0 lies on top */
        all->free_blocks[all->n_free_blocks] = (int32_t)(plan->n_blocks - 1 - all->n_free_blocks);
        all->n_free_blocks++;
    }
    *out = all;
    return CDP_OK;
}

static void close_sequence(sequence *s) {
    if (s == NULL)
        return;
    free(s->blocks);
    free(s->tokens);
    free(s);
}

void cdp_schedule_close(cdp_schedule *all) {
    if (all == NULL)
        return;
    for (int i = 0; i < all->n_sequences; i++)
        close_sequence(all->sequences[i]);
    free(all->kept.tokens);
    free(all->kept.blocks);
    free(all->sequences);
    free(all->freed);
    free(all->by_slot);
    free(all->free_blocks);
    free(all);
}

static cdp_status make_room(cdp_schedule *all) {
    if (all->n_sequences < all->room)
        return CDP_OK;
    const int room = 2 * all->room + 16;
    sequence **grown = realloc(all->sequences, (size_t)room * sizeof *grown);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d sequences", room);
    all->sequences = grown;
    all->room = room;
    return CDP_OK;
}

/* Slot and blocks of what was kept, back. */
static void drop_kept(cdp_schedule *all) {
    kept_cache *kept = &all->kept;
    if (kept->tokens == NULL)
        return;
    while (kept->n_blocks > 0)
        all->free_blocks[all->n_free_blocks++] = kept->blocks[--kept->n_blocks];
    all->freed[all->n_freed++] = kept->slot;
    free(kept->tokens);
    free(kept->blocks);
    *kept = (kept_cache){0};
}

/* An ended sequence leaves its cache. Rows that are still on the way are computed before any that follow. */
static void keep(cdp_schedule *all, sequence *s) {
    drop_kept(all);
    all->kept = (kept_cache){.tokens = s->tokens,
                             .n = s->n_fed,
                             .blocks = s->blocks,
                             .n_blocks = s->n_blocks,
                             .slot = s->slot,
                             .rope_list = s->rope_list};
    all->by_slot[s->slot] = NULL;
    s->slot = NO_SLOT;
    s->tokens = s->blocks = NULL;
}

/* Start where the kept tokens and the new ones part. Positions behind it are written anew in the same blocks.
 * The last token of the prompt is always computed: its logits are wanted. */
static cdp_status take_kept(cdp_schedule *all, sequence *s) {
    kept_cache *kept = &all->kept;
    if (kept->tokens == NULL || kept->rope_list != s->rope_list || s->request.wants_all) {
        drop_kept(all);
        return CDP_OK;
    }
    const size_t room = (size_t)(s->request.limit + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS + 1;
    if ((size_t)kept->n_blocks > room) {
        int32_t *more = realloc(s->blocks, (size_t)kept->n_blocks * sizeof *more);
        if (more == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for a block table");
        s->blocks = more;
    }
    memcpy(s->blocks, kept->blocks, (size_t)kept->n_blocks * sizeof *s->blocks);
    while (s->n_fed < kept->n && s->n_fed < s->n_tokens - 1 && s->tokens[s->n_fed] == kept->tokens[s->n_fed])
        s->n_fed++;
    s->n_blocks = kept->n_blocks;
    s->slot = kept->slot;
    all->by_slot[s->slot] = s;
    all->n_reused += (uint64_t)s->n_fed;
    free(kept->tokens);
    free(kept->blocks);
    *kept = (kept_cache){0};
    return CDP_OK;
}

cdp_status cdp_schedule_submit(cdp_schedule *all, const cdp_request *request) {
    if (request->limit > all->plan->run.ctx || request->n_prompt < 1 || request->n_prompt > request->limit)
        return cdp_fail(CDP_BAD_DATA,
                        "a sequence of %d prompt tokens that may reach %d; the run is planned for %d (--ctx)",
                        request->n_prompt, request->limit, all->plan->run.ctx);
    const int n_taps = request->taps != NULL ? cdp_taps_count(request->taps, 0, CDP_MAX_STATES) : 0;
    if (n_taps > all->plan->run.n_taps)
        return cdp_fail(CDP_BAD_DATA, "a sequence that looks at %d layers; the run is planned for %d", n_taps,
                        all->plan->run.n_taps);
    CDP_TRY(make_room(all));
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
    if (n_taps > 0)
        s->taps = *request->taps;
    s->n_taps = n_taps;
    s->order = all->n_submitted++;
    s->slot = NO_SLOT;
    s->n_tokens = request->n_prompt;
    s->n_heard = request->wants_all ? 0 : request->n_prompt - 1;
    memcpy(s->tokens, request->prompt, (size_t)request->n_prompt * sizeof *s->tokens);
    s->rope_list = all->rope->n_lists > 1 && request->limit > all->rope->original_max ? 1 : 0;
    if (all->rope->n_lists > 1)
        cdp_note("longrope: the %s list, for a sequence of up to %d tokens (original length %d)",
                 s->rope_list == 1 ? "long" : "short", request->limit, all->rope->original_max);
    const cdp_status st = request->keeps ? take_kept(all, s) : CDP_OK;
    if (st != CDP_OK) {
        close_sequence(s);
        return st;
    }
    all->sequences[all->n_sequences++] = s;
    return CDP_OK;
}

/* Slot and blocks back; the stages hear of it in the next step. Steps that are on the way run before any that
 * could use the blocks anew, because every stage takes steps in order. */
static void release(cdp_schedule *all, sequence *s) {
    if (s->slot == NO_SLOT)
        return;
    while (s->n_blocks > 0)
        all->free_blocks[all->n_free_blocks++] = s->blocks[--s->n_blocks];
    all->by_slot[s->slot] = NULL;
    all->freed[all->n_freed++] = s->slot;
    s->slot = NO_SLOT;
    s->n_fed = 0;
}

static void end_sequence(cdp_schedule *all, sequence *s) {
    s->has_ended = true;
    if (s->request.keeps && s->slot != NO_SLOT)
        keep(all, s);
    else
        release(all, s);
    if (s->request.on_end != NULL)
        s->request.on_end(s->request.of);
}

static cdp_status nobody_awaits(const cdp_row *row) {
    return cdp_fail(CDP_INTERNAL, "position %d of slot %d came home, which nobody awaits", row->position,
                    row->slot);
}

cdp_status cdp_schedule_state(cdp_schedule *all, const cdp_row *row, int state, const float *logits,
                              const float *hidden, int *ask_out) {
    sequence *s = all->by_slot[row->slot];
    *ask_out = CDP_ASK_NOTHING;
    /* States of a later row may come before the earlier one is done. */
    if (s == NULL || row->position < s->n_heard || row->position >= s->n_fed)
        return nobody_awaits(row);
    if (s->request.on_state == NULL || s->is_cancelled)
        return CDP_OK;
    return s->request.on_state(s->request.of, row, state, logits, hidden, ask_out);
}

cdp_status cdp_schedule_home(cdp_schedule *all, const cdp_row *row, const float *logits) {
    sequence *s = all->by_slot[row->slot];
    if (s == NULL || row->position != s->n_heard)
        return nobody_awaits(row);
    int32_t next = CDP_NO_TOKEN;
    s->n_awaited--;
    s->n_heard++;
    all->n_decoding_steps -= s->closes_step;
    s->closes_step = false;
    if (s->is_cancelled) {
        if (s->n_awaited == 0)
            end_sequence(all, s);
        return CDP_OK;
    }
    CDP_TRY(s->request.on_logits(s->request.of, row, logits, &next));
    if (row->position < s->n_tokens - 1)
        return CDP_OK; /* a row in the middle of a text that is scored */
    if (next != CDP_NO_TOKEN && s->n_tokens < s->request.limit)
        s->tokens[s->n_tokens++] = next;
    else
        next = CDP_NO_TOKEN;
    if (next == CDP_NO_TOKEN || s->n_tokens == s->request.limit)
        end_sequence(all, s);
    return CDP_OK;
}

void cdp_schedule_cancel(cdp_schedule *all, const void *of) {
    for (int i = 0; i < all->n_sequences; i++) {
        sequence *s = all->sequences[i];
        if (s->request.of != of || s->has_ended)
            continue;
        s->is_cancelled = true;
        if (s->n_awaited == 0)
            end_sequence(all, s);
    }
}

/* Ended sequences leave the list; the others keep their order. */
static void sweep(cdp_schedule *all) {
    int kept = 0;
    for (int i = 0; i < all->n_sequences; i++) {
        if (all->sequences[i]->has_ended)
            close_sequence(all->sequences[i]);
        else
            all->sequences[kept++] = all->sequences[i];
    }
    all->n_sequences = kept;
}

/* Are there blocks for all it knows, and one more for everyone who is at work? Else it would be put back
 * again before it got anywhere. Alone it may always enter: one sequence of ctx tokens fits. */
static bool is_worth_admitting(const cdp_schedule *all, const sequence *s) {
    int n_active = 0;
    for (int slot = 0; slot < all->plan->run.max_batch; slot++)
        n_active += all->by_slot[slot] != NULL;
    const int n_needed = s->n_tokens / CDP_KV_BLOCK_TOKENS + 1;
    return n_active == 0 || all->n_free_blocks + all->kept.n_blocks >= n_needed + n_active;
}

/* A slot that nobody has, NO_SLOT when there is none. One that was freed while this step was built waits
 * for the next one, because its free command must stand before any append. */
static int free_slot(const cdp_schedule *all) {
    for (int slot = 0; slot < all->plan->run.max_batch; slot++) {
        bool is_free = all->by_slot[slot] == NULL && (all->kept.tokens == NULL || all->kept.slot != slot);
        for (int i = all->n_told; i < all->n_freed; i++)
            is_free &= all->freed[i] != slot;
        if (is_free)
            return slot;
    }
    return NO_SLOT;
}

/* What was kept gives way while a step is built, which tells of it: its slot can be taken at once. */
static void give_way(cdp_schedule *all) {
    if (all->kept.tokens == NULL)
        return;
    const int slot = all->kept.slot;
    drop_kept(all);
    all->freed[all->n_freed - 1] = all->freed[all->n_told];
    all->freed[all->n_told++] = slot;
    all->step->commands[all->step->n_commands++] = (cdp_kv_command){.verb = CDP_KV_FREE, .slot = slot};
}

/* A slot for a waiting sequence. */
static bool admit(cdp_schedule *all, sequence *s) {
    if (!is_worth_admitting(all, s))
        return false;
    int slot = free_slot(all);
    if (slot == NO_SLOT) {
        give_way(all);
        slot = free_slot(all);
    }
    if (slot == NO_SLOT)
        return false;
    all->by_slot[slot] = s;
    s->slot = slot;
    return true;
}

/* The youngest sequence behind `s` that holds blocks, awaits nothing and is not in the step being built. */
static sequence *victim_behind(const cdp_schedule *all, const sequence *s) {
    for (int i = all->n_sequences - 1; i >= 0 && all->sequences[i]->order > s->order; i--) {
        sequence *other = all->sequences[i];
        bool is_in_step = false;
        for (int k = 0; k < all->step->n_slots; k++)
            is_in_step |= all->step->slots[k].slot == other->slot;
        if (other->slot != NO_SLOT && other->n_blocks > 0 && other->n_awaited == 0 && !is_in_step)
            return other;
    }
    return NULL;
}

/* Blocks for positions below `end`, as commands of the step; younger sequences are put back for them. */
static bool reserve(cdp_schedule *all, sequence *s, int end) {
    while (s->n_blocks * CDP_KV_BLOCK_TOKENS < end) {
        if (all->n_free_blocks == 0)
            give_way(all);
        sequence *victim = all->n_free_blocks == 0 ? victim_behind(all, s) : NULL;
        if (victim != NULL) {
            release(all, victim);
            all->n_put_back++;
        }
        if (all->n_free_blocks == 0)
            return false;
        const int32_t block = all->free_blocks[--all->n_free_blocks];
        all->step->commands[all->step->n_commands++] =
            (cdp_kv_command){.verb = CDP_KV_APPEND, .slot = s->slot, .index = s->n_blocks, .block = block};
        s->blocks[s->n_blocks++] = block;
    }
    return true;
}

/* Rows of a sequence that may go into the step for all that they bring home: tapped rows have a room of their
 * own. */
static int taps_allow(const cdp_schedule *all, const sequence *s) {
    const int left = s->n_tokens - s->n_fed;
    if (s->n_taps == 0)
        return left;
    const int room = cdp_tapped_home_rows(&all->plan->run) - all->n_tapped;
    /* Only the newest row of an answer goes home: without room for it the others may still go. */
    return s->request.wants_all ? room : room > 0 ? left : left - 1;
}

static void add_row(cdp_schedule *all, sequence *s) {
    const bool is_newest = s->n_fed == s->n_tokens - 1;
    const bool wants_home = s->n_fed >= s->n_heard && (s->request.wants_all || is_newest);
    all->step->rows[all->step->n_rows++] = (cdp_row){.slot = s->slot,
                                                     .position = s->n_fed,
                                                     .token = s->tokens[s->n_fed],
                                                     .wants_home = wants_home ? 1 : 0};
    all->step->n_home += wants_home;
    s->n_awaited += wants_home;
    s->n_fed++;
    if (!wants_home || s->n_taps == 0)
        return;
    all->n_tapped++;
    all->step->n_tap_words = cdp_tap_words(all->n_layers);
}

/* Up to n rows of a sequence into the step; as many as blocks allow. */
static void add_rows(cdp_schedule *all, sequence *s, int n) {
    const int left = s->n_tokens - s->n_fed, allowed = taps_allow(all, s);
    n = n < left ? n : left;
    n = n < allowed ? n : allowed;
    while (n > 0 && !reserve(all, s, s->n_fed + n))
        n = s->n_blocks * CDP_KV_BLOCK_TOKENS - s->n_fed; /* what the blocks at hand allow */
    if (n <= 0)
        return;
    all->step->slots[all->step->n_slots++] =
        (cdp_step_slot){.slot = s->slot, .rope_list = s->rope_list, .taps = s->taps, .head = s->request.head};
    for (int i = 0; i < n; i++)
        add_row(all, s);
}

/* A row a step from now on. A prompt whose last row is on the way is not yet: it may end with it, and chunks
 * need not be short for its sake. */
static bool is_decoding(const sequence *s) {
    const int left = s->n_tokens - s->n_fed;
    return s->slot != NO_SLOT && s->n_fed > 0 &&
           (left == 1 || (left == 0 && s->n_tokens > s->request.n_prompt));
}

static int share_of_decoding(const cdp_schedule *all) {
    int n_decoding = 0;
    for (int i = 0; i < all->n_sequences; i++)
        n_decoding += is_decoding(all->sequences[i]);
    return (n_decoding + all->plan->n_active - 1) / all->plan->n_active;
}

/* Decoding rows: this step's share of all sequences that decode, so that every stage has a step of them.
 * No more such steps than stages are on the way: sequences that fell out of step would else go round one by
 * one for ever, each reading all weights for itself; so they wait for the next step and meet again. */
static void add_decoding(cdp_schedule *all, int share) {
    sequence *last = NULL;
    int n_added = 0;
    for (int i = 0; i < all->n_sequences && n_added < share; i++) {
        sequence *s = all->sequences[i];
        if (all->n_decoding_steps >= all->plan->n_active || !is_decoding(s) || s->n_tokens == s->n_fed ||
            s->is_cancelled)
            continue; /* its next token is on the way */
        add_rows(all, s, 1);
        if (s->n_tokens > s->n_fed)
            continue; /* no block for it */
        last = s;
        n_added++;
    }
    if (last != NULL) {
        last->closes_step = true;
        all->n_decoding_steps++;
    }
}

/* Rows of the step when prompts fill it: all there are, but few beside sequences that decode. */
static int rows_with_prompts(const cdp_schedule *all, int share) {
    const cdp_run_shape *run = &all->plan->run;
    if (share == 0)
        return run->chunk;
    const int rows = all->step->n_rows + cdp_chunk_beside(&all->cost, share, run->chunk);
    return rows < cdp_step_rows(run) ? rows : cdp_step_rows(run);
}

/* Prompts in the rows that are left, the oldest first; waiting sequences enter where a slot is free, and none
 * before an older one: a long prompt would else never find enough blocks. */
static void add_prompts(cdp_schedule *all, int n_rows) {
    bool may_enter = true;
    for (int i = 0; i < all->n_sequences && all->step->n_rows < n_rows; i++) {
        sequence *s = all->sequences[i];
        if (s->has_ended || s->is_cancelled || is_decoding(s))
            continue;
        if (s->slot == NO_SLOT)
            may_enter = may_enter && admit(all, s);
        if (s->slot != NO_SLOT)
            add_rows(all, s, n_rows - all->step->n_rows);
    }
}

void cdp_schedule_next(cdp_schedule *all, cdp_step *step) {
    sweep(all);
    all->step = step;
    step->kind = CDP_STEP_RUN;
    step->n_rows = step->n_home = step->n_slots = step->n_commands = step->n_tap_words = 0;
    all->n_tapped = 0;
    all->n_told = all->n_freed;
    for (int i = 0; i < all->n_told; i++)
        step->commands[step->n_commands++] = (cdp_kv_command){.verb = CDP_KV_FREE, .slot = all->freed[i]};
    const int share = share_of_decoding(all);
    add_decoding(all, share);
    add_prompts(all, rows_with_prompts(all, share));
    if (step->n_rows == 0)
        return; /* not sent: what was freed is told by the next one */
    memmove(all->freed, all->freed + all->n_told, (size_t)(all->n_freed - all->n_told) * sizeof *all->freed);
    all->n_freed -= all->n_told;
}

bool cdp_schedule_is_idle(const cdp_schedule *all) {
    for (int i = 0; i < all->n_sequences; i++)
        if (!all->sequences[i]->has_ended)
            return false;
    return true;
}

void cdp_schedule_took(cdp_schedule *all, int n_rows, double seconds) {
    cdp_step_cost_add(&all->cost, n_rows, seconds);
}

uint64_t cdp_schedule_n_put_back(const cdp_schedule *all) {
    return all->n_put_back;
}

uint64_t cdp_schedule_n_reused(const cdp_schedule *all) {
    return all->n_reused;
}
