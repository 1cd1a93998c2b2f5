/* launcher/engine/engine.h - rank 0: sequences in, steps out, logits back; keeps every stage busy.
 *
 *     submit --> schedule --steps--> pipeline --> ... round the ring ... --> home rows --> schedule
 *
 * As many steps are in flight as the pipeline has seats. What stands in them is the schedule's decision
 * (schedule.h); the engine joins it to the pipeline and has no opinion of its own.
 */
#pragma once

#include "launcher/engine/pipeline.h"
#include "launcher/engine/schedule.h"

typedef struct cdp_engine cdp_engine;

/* The caller closes *out; the pipeline outlives it. The engine becomes the pipeline's sink. */
cdp_status cdp_engine_open(cdp_engine **out, cdp_pipeline *pipeline, const cdp_model_card *card,
                           const cdp_plan *plan);
void cdp_engine_close(cdp_engine *engine); /* NULL is fine */

/* Queue a sequence: cdp_schedule_submit. */
cdp_status cdp_engine_submit(cdp_engine *engine, const cdp_request *request);

/* End a sequence before its time: cdp_schedule_cancel. Answers wait: cdp_schedule_hold. Prompt tokens taken
 * from the one before: cdp_schedule_n_reused. */
void cdp_engine_cancel(cdp_engine *engine, const void *of);
void cdp_engine_hold(cdp_engine *engine, bool holds);
uint64_t cdp_engine_n_reused(const cdp_engine *engine);

/* A step has left rank 0: its time says how long chunks beside decoding sequences may be. */
void cdp_engine_took(cdp_engine *engine, const cdp_step_span *span);

/* One turn of the pipeline, then put as many steps in flight as there is work and room for. */
cdp_status cdp_engine_turn(cdp_engine *engine);

/* True when every sequence has ended and nothing is in flight. */
bool cdp_engine_is_idle(const cdp_engine *engine);

/* Turn until idle; CDP_STOPPED when a signal asks for a stop. */
cdp_status cdp_engine_run(cdp_engine *engine);

/* Times a sequence was put back for want of KV blocks. */
uint64_t cdp_engine_n_put_back(const cdp_engine *engine);
