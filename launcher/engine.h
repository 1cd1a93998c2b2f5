/* launcher/engine.h - rank 0: sequences in, steps out, logits back.
 *
 * A prompt goes through in chunks, one behind the other: chunk 2 is in stage 0 while chunk 1 is in stage 1.
 * Rank 0 owns the numbers of the KV blocks and tells the stages in the step header which block holds which 16
 * positions. One sequence at a time today; one sequence alone cannot use more than one stage at a time.
 */
#pragma once

#include "launcher/pipeline.h"

typedef struct cdp_engine cdp_engine;

/* The caller closes *out; the pipeline outlives it. */
cdp_status cdp_engine_open(cdp_engine **out, cdp_pipeline *pipeline, const cdp_model_card *card,
                           const cdp_plan *plan);
void cdp_engine_close(cdp_engine *engine); /* NULL is fine */

typedef enum cdp_wants { CDP_WANTS_NONE, CDP_WANTS_LAST, CDP_WANTS_ALL } cdp_wants;

/* Begin a new sequence that will reach at most `limit` tokens (prompt and answer): frees the blocks of the
 * one before and picks the rope list (longrope: the long one when limit > its original length). CDP_BAD_DATA
 * when limit is above the plan's ctx. */
cdp_status cdp_engine_start(cdp_engine *engine, int limit);

/* Append n tokens to the sequence, in chunks; the rows named by `wants` reach the sink, in order. Returns
 * when all of them have, or with CDP_STOPPED between two chunks when a stop is wanted. */
cdp_status cdp_engine_feed(cdp_engine *engine, const int32_t *tokens, int n, cdp_wants wants,
                           cdp_logits_sink sink, void *of);
