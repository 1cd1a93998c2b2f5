/* What stands in the next step: decoding rows, chunks of prompts, and the blocks for both. */
#include "launcher/engine/chunk.h"
#include "launcher/engine/schedule_parts.h"

/* Are there blocks for all it knows, and one more for everyone who is at work? Else it would be put back
 * again before it got anywhere. Alone it may always enter: one sequence of ctx tokens fits. */
static bool is_worth_admitting(const cdp_schedule *all, const sequence *s) {
    int n_active = 0;
    for (int slot = 0; slot < all->plan->run.max_batch; slot++)
        n_active += all->by_slot[slot] != NULL;
    const int n_needed = s->n_tokens / CDP_KV_BLOCK_TOKENS + 1;
    return n_active == 0 || all->n_free_blocks + all->kept.n_blocks >= n_needed + n_active;
}

/* A slot that nobody has, NO_SLOT when there is none. */
static int free_slot(const cdp_schedule *all) {
    for (int slot = 0; slot < all->plan->run.max_batch; slot++)
        if (all->by_slot[slot] == NULL && (all->kept.tokens == NULL || all->kept.slot != slot))
            return slot;
    return NO_SLOT;
}

/* A slot for a waiting sequence. */
static bool admit(cdp_schedule *all, sequence *s) {
    if (!is_worth_admitting(all, s))
        return false;
    int slot = free_slot(all);
    if (slot == NO_SLOT) {
        cdp_schedule_drop_kept(all);
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
            cdp_schedule_drop_kept(all);
        sequence *victim = all->n_free_blocks == 0 ? victim_behind(all, s) : NULL;
        if (victim != NULL) {
            cdp_schedule_release(all, victim);
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

/* The last token of a prompt may be a row of its own; what is held are answers. */
static bool is_held(const cdp_schedule *all, const sequence *s) {
    return all->holds && s->n_tokens > s->request.n_prompt;
}

static int share_of_decoding(const cdp_schedule *all) {
    int n_decoding = 0;
    for (int i = 0; i < all->n_sequences; i++)
        n_decoding += is_decoding(all->sequences[i]) && !is_held(all, all->sequences[i]);
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
        if (all->n_decoding_steps >= all->plan->n_active || !is_decoding(s) || is_held(all, s) ||
            s->n_tokens == s->n_fed || s->is_cancelled)
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
    cdp_schedule_sweep(all);
    all->step = step;
    step->kind = CDP_STEP_RUN;
    step->n_rows = step->n_home = step->n_slots = step->n_commands = step->n_tap_words = 0;
    all->n_tapped = 0;
    const int share = share_of_decoding(all);
    add_decoding(all, share);
    add_prompts(all, rows_with_prompts(all, share));
}
