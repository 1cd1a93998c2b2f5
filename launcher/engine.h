/* launcher/engine.h - rank 0: sequences in, steps out, logits back; keeps every stage busy.
 *
 *     waiting --a slot and blocks are free--> prompt, chunk by chunk --> one row a step --> ended
 *        ^                                                                     |
 *        +---- put back and computed again when the KV blocks run out ---------+   (the youngest first)
 *
 * As many steps are in flight as the pipeline has seats. A step holds decoding rows of its share of the
 * sequences (all of them divided by the stages, so that each stage has one such step) and, in the rows that
 * are left, chunks of prompts, one behind the other. A sequence enters and leaves between two steps. Rank 0
 * owns the numbers of the KV blocks and tells the stages in the step header which block holds which 16
 * positions. What a sequence gets to see does not depend on its company: the kernels see to the bits, the
 * engine to the order.
 */
#pragma once

#include "launcher/pipeline.h"

typedef struct cdp_engine cdp_engine;

/* The caller closes *out; the pipeline outlives it. The engine becomes the pipeline's sink. */
cdp_status cdp_engine_open(cdp_engine **out, cdp_pipeline *pipeline, const cdp_model_card *card,
                           const cdp_plan *plan);
void cdp_engine_close(cdp_engine *engine); /* NULL is fine */

enum { CDP_NO_TOKEN = -1 };

typedef struct cdp_request {
    const int32_t *prompt; /* copied */
    int n_prompt;          /* at least 1 */
    int limit;             /* tokens it may reach, prompt and answer; at most the plan's ctx */
    bool wants_all;        /* logits of every row (score); else of the prompt's last and of each answer row */
    /* A row's logits, (vocab) f32, in the order of positions. Of the newest row: the token that comes next in
     * *next_out, or leave CDP_NO_TOKEN there to end the sequence. */
    cdp_status (*on_logits)(void *of, const cdp_row *row, const float *logits, int32_t *next_out);
    void (*on_end)(void *of); /* the sequence has ended, also at its limit; may be NULL */
    void *of;
} cdp_request;

/* Queue a sequence. Picks the rope list by its limit (longrope: the long one when limit > its original
 * length). CDP_BAD_DATA when the limit is above the plan's ctx or below the prompt. */
cdp_status cdp_engine_submit(cdp_engine *engine, const cdp_request *request);

/* One turn: put as many steps in flight as there is work and room for, then one turn of the pipeline. */
cdp_status cdp_engine_turn(cdp_engine *engine);

/* True when every sequence has ended and nothing is in flight. */
bool cdp_engine_is_idle(const cdp_engine *engine);

/* Turn until idle; CDP_STOPPED when a signal asks for a stop. */
cdp_status cdp_engine_run(cdp_engine *engine);

/* Times a sequence was put back for want of KV blocks. */
uint64_t cdp_engine_n_put_back(const cdp_engine *engine);
