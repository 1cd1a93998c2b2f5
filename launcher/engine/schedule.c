#include "launcher/engine/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/engine/schedule_parts.h"

cdp_status cdp_schedule_open(cdp_schedule **out, const cdp_plan *plan, const cdp_rope_card *rope) {
    *out = NULL;
    const size_t batch = (size_t)plan->run.max_batch;
    cdp_schedule *all = calloc(1, sizeof *all);
    if (all != NULL) {
        all->free_blocks = calloc((size_t)plan->n_blocks + 1, sizeof *all->free_blocks);
        all->by_slot = calloc(batch, sizeof *all->by_slot);
    }
    if (all == NULL || all->free_blocks == NULL || all->by_slot == NULL) {
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
void cdp_schedule_drop_kept(cdp_schedule *all) {
    kept_cache *kept = &all->kept;
    if (kept->tokens == NULL)
        return;
    while (kept->n_blocks > 0)
        all->free_blocks[all->n_free_blocks++] = kept->blocks[--kept->n_blocks];
    free(kept->tokens);
    free(kept->blocks);
    *kept = (kept_cache){0};
}

/* An ended sequence leaves its cache. Rows that are still on the way are computed before any that follow. */
static void keep(cdp_schedule *all, sequence *s) {
    cdp_schedule_drop_kept(all);
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
        cdp_schedule_drop_kept(all);
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
    if (all->rope->n_lists > 1 && !all->has_said_rope[s->rope_list])
        cdp_note("longrope: the %s list, for sequences of %s %d tokens, as one of up to %d",
                 s->rope_list == 1 ? "long" : "short", s->rope_list == 1 ? "more than" : "at most",
                 all->rope->original_max, request->limit);
    all->has_said_rope[s->rope_list] = true;
    const cdp_status st = request->keeps ? take_kept(all, s) : CDP_OK;
    if (st != CDP_OK) {
        close_sequence(s);
        return st;
    }
    all->sequences[all->n_sequences++] = s;
    return CDP_OK;
}

/* Slot and blocks back. Steps that are on the way run before any that could use them anew, because every
 * stage takes steps in order; the next sequence in the slot writes its table from the beginning. */
void cdp_schedule_release(cdp_schedule *all, sequence *s) {
    if (s->slot == NO_SLOT)
        return;
    while (s->n_blocks > 0)
        all->free_blocks[all->n_free_blocks++] = s->blocks[--s->n_blocks];
    all->by_slot[s->slot] = NULL;
    s->slot = NO_SLOT;
    s->n_fed = 0;
}

static void end_sequence(cdp_schedule *all, sequence *s) {
    s->has_ended = true;
    if (s->request.keeps && s->slot != NO_SLOT)
        keep(all, s);
    else
        cdp_schedule_release(all, s);
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

void cdp_schedule_hold(cdp_schedule *all, bool holds) {
    all->holds = holds;
}

/* Ended sequences leave the list; the others keep their order. */
void cdp_schedule_sweep(cdp_schedule *all) {
    int kept = 0;
    for (int i = 0; i < all->n_sequences; i++) {
        if (all->sequences[i]->has_ended)
            close_sequence(all->sequences[i]);
        else
            all->sequences[kept++] = all->sequences[i];
    }
    all->n_sequences = kept;
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
