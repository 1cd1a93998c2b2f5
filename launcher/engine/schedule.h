/* launcher/engine/schedule.h - the decisions of rank 0: which sequences are at work, which KV blocks they
 * hold, what stands in the next step.
 *
 *     waiting --a slot and blocks are free--> prompt, chunk by chunk --> one row a step --> ended
 *        ^                                                                     |
 *        +---- put back and computed again when the KV blocks run out ---------+   (the youngest first)
 *
 * A step holds decoding rows of its share of the sequences (all of them divided by the stages, so that each
 * stage has one such step) and, in the rows that are left, chunks of prompts, one behind the other. A
 * sequence enters and leaves between two steps. Rank 0 owns the numbers of the KV blocks and tells the stages
 * in the step header which block holds which 16 positions. What a sequence gets to see does not depend on its
 * company: the kernels see to the bits, the schedule to the order.
 *
 * Nothing here knows MPI, a device or a clock: steps go out by cdp_schedule_next, rows come back by
 * cdp_schedule_home, and who carries them is the engine's business, or a simulation's.
 */
#pragma once

#include "kernels/step.h"
#include "planner/plan.h"

typedef struct cdp_schedule cdp_schedule;

enum { CDP_NO_TOKEN = -1, CDP_ASK_NOTHING = -1 };

typedef struct cdp_request {
    const int32_t *prompt; /* copied */
    int n_prompt;          /* at least 1 */
    int limit;             /* tokens it may reach, prompt and answer; at most the plan's ctx */
    bool wants_all;        /* logits of every row (score); else of the prompt's last and of each answer row */
    /* When it has ended its keys and values stay for the next request that says so too, which starts behind
     * the tokens that both begin with. One is kept at a time; it gives way where blocks or slots are short.
     */
    bool keeps;
    const cdp_tap_set *taps; /* states that home rows bring along (kernels/step.h); copied; NULL: none */
    int head;                /* CDP_HEAD_ bits of how they are turned into logits */
    /* The logits of a state of a home row, from the last one to the shallowest; before on_logits of this row.
     * hidden: the state itself, (hidden) f32, where CDP_HEAD_HIDDEN asks for it. *ask_out may name a state
     * that is to come, or to come again. NULL: nobody looks. */
    cdp_status (*on_state)(void *of, const cdp_row *row, int state, const float *logits, const float *hidden,
                           int *ask_out);
    /* A row's logits, (vocab) f32, in the order of positions: the last ones that came of it, which where
     * states are tapped need not be the model's. Of the newest row: the token that comes next in *next_out,
     * or leave CDP_NO_TOKEN there to end the sequence. */
    cdp_status (*on_logits)(void *of, const cdp_row *row, const float *logits, int32_t *next_out);
    void (*on_end)(void *of); /* the sequence has ended, also at its limit; may be NULL */
    void *of;
} cdp_request;

/* An empty schedule over the plan's KV blocks, slots and active stages. The caller closes *out; plan and rope
 * card outlive it. */
cdp_status cdp_schedule_open(cdp_schedule **out, const cdp_plan *plan, const cdp_rope_card *rope);
void cdp_schedule_close(cdp_schedule *schedule); /* NULL is fine */

/* Queue a sequence. Picks the rope list by its limit (longrope: the long one when limit > its original
 * length). CDP_BAD_DATA when the limit is above the plan's ctx or below the prompt, or when it taps more
 * states than the run was planned for. */
cdp_status cdp_schedule_submit(cdp_schedule *schedule, const cdp_request *request);

/* End the sequence that was submitted with this `of`: at once, or when its row that is on the way is home;
 * on_end is called, on_logits no more. Nothing happens where there is none. */
void cdp_schedule_cancel(cdp_schedule *schedule, const void *of);

/* While it holds no sequence goes on behind its prompt, so that many can begin their answers at one moment (a
 * benchmark's clock). There must be slots and blocks for all that are to begin so. */
void cdp_schedule_hold(cdp_schedule *schedule, bool holds);

/* Prompt tokens that were not computed, because the sequence before had kept them. */
uint64_t cdp_schedule_n_reused(const cdp_schedule *schedule);

/* Fill the next step: rows, slots, commands, n_home; its arrays have room for the plan's rows, slots and
 * commands (cdp_max_commands). n_rows 0: there is nothing to do until a row comes home, and the step must not
 * be sent. A step that is filled counts as sent: every stage takes steps in this order. */
void cdp_schedule_next(cdp_schedule *schedule, cdp_step *step);

/* A state of a home row: its logits go to the request, which may ask for more. */
cdp_status cdp_schedule_state(cdp_schedule *schedule, const cdp_row *row, int state, const float *logits,
                              const float *hidden, int *ask_out);

/* A row has come home: its logits go to the request, which may name the next token. Rows come in the order
 * of steps and, within a step, of rows. CDP_INTERNAL for a row that nobody awaits. */
cdp_status cdp_schedule_home(cdp_schedule *schedule, const cdp_row *row, const float *logits);

/* A step of n_rows took so many seconds of the first stage: what chunks beside decoding rows are measured by.
 */
void cdp_schedule_took(cdp_schedule *schedule, int n_rows, double seconds);

/* True when every sequence has ended. Rows nobody reads may still be on the way. */
bool cdp_schedule_is_idle(const cdp_schedule *schedule);

/* Times a sequence was put back for want of KV blocks. */
uint64_t cdp_schedule_n_put_back(const cdp_schedule *schedule);
