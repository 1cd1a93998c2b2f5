/* launcher/engine/pipeline.h - one step on every rank: stage/ computes it, comm/ moves it, and nobody else
 * joins the two.
 *
 *  rank 0                                      rank 1                      rank 2 (last)
 *  text -> tokens: int32 (n_tokens)
 *    | cdp_vocab_embed
 *    v
 *  layers [0,8)  -- hidden (n_rows, dim) --> layers [8,20)  -- hidden --> layers [20,32)
 *                                                                           | cdp_stage_pick
 *    +<-------------- hidden, only the rows that want logits (n_home, dim) -+
 *    | cdp_vocab_logits (final norm, head): f32 (n_home, vocab)
 *    v
 *  sampler -> tokens -> text on stdout, and the next step
 *
 * The step header (kernels/step.h: rows of {slot, position, token, wants_home}) goes by MPI a little ahead of
 * the data; tapped rows of earlier layers ride along behind the hidden ones.
 *
 * The same code runs on every rank, for one rank or sixteen; with one the ring closes on itself. Nothing here
 * blocks or computes: a turn looks at every seat, moves what can move, and returns.
 */
#pragma once

#include "comm/link.h"
#include "kernels/step.h"
#include "launcher/engine/home.h"
#include "launcher/engine/times.h"
#include "planner/plan.h"
#include "stage/stage.h"
#include "stage/vocab.h"

typedef struct cdp_pipeline cdp_pipeline;

/* What a rank brings; all outlive the pipeline. */
typedef struct cdp_pipeline_options {
    cdp_world *world;
    cdp_device *device;
    const cdp_model_card *card;
    const cdp_plan *plan;
    int stage_number; /* in the ring of active ranks, from 0 */
    int rank;         /* index into plan->stages */
    cdp_stage *stage;
    cdp_vocab *vocab; /* rank 0, else NULL */
    cdp_link *link;   /* opened with cdp_pipeline_link */
} cdp_pipeline_options;

/* What the link of this plan's ring must carry; active (CDP_MAX_RANKS) is filled and out->active points to
 * it. Road, device and time are the caller's. */
void cdp_pipeline_link(cdp_link_options *out, int *active, const cdp_plan *plan, const cdp_model_card *card);

/* The logits of one state of a home row. */
typedef struct cdp_home_logits {
    const cdp_row *row;
    int state;           /* n_layers: the model's own logits */
    const float *logits; /* (vocab) f32, for the call */
    const float *hidden; /* (hidden) f32, for the call; NULL where no row beside it has CDP_HEAD_HIDDEN */
    bool is_last;        /* nothing more of this row comes, unless it is asked for */
} cdp_home_logits;

/* Where home rows end up: called on rank 0, in the order of steps and rows, a row's states from the last to
 * the shallowest. *ask_out, CDP_ASK_NOTHING before the call, may name a state of this row that is to come
 * (again): so a lazy row goes on (CDP_HEAD_LAZY), or a row that was not kept comes back. Lazy rows, and rows
 * whose head differs, may let later rows pass. */
typedef cdp_status (*cdp_logits_sink)(void *of, const cdp_home_logits *home, int *ask_out);

/* Open the seats. The caller closes *out. */
cdp_status cdp_pipeline_open(cdp_pipeline **out, const cdp_pipeline_options *options);
void cdp_pipeline_close(cdp_pipeline *pipeline); /* NULL is fine */

/* Rank 0: true when one more step may begin: a seat is free, and the step would not stand in the way of home
 * rows. These gate everything, so while any are on the way the device is not given a second step to do before
 * their head; without any, one step waits in the queue behind the one that is computed. */
bool cdp_pipeline_has_room(const cdp_pipeline *pipeline);

/* Rank 0: send a step round the ring. Its arrays are copied; its id is set here. Needs room. Where the device
 * may have to load something for it, home rows are waited for and handed out first. */
cdp_status cdp_pipeline_begin(cdp_pipeline *pipeline, cdp_step *step);

/* Rank 0: who gets the logits from here on. */
void cdp_pipeline_set_sink(cdp_pipeline *pipeline, cdp_logits_sink sink, void *of);

/* One turn on any rank; pauses by itself when nothing moved. */
cdp_status cdp_pipeline_turn(cdp_pipeline *pipeline);

/* True once a step could not be begun, computed or moved: what is on the way will not come home, and nobody
 * else knows. A sink that failed does not break it. */
bool cdp_pipeline_is_broken(const cdp_pipeline *pipeline);

/* Rank 0: steps that are still on the way. */
int cdp_pipeline_n_busy(const cdp_pipeline *pipeline);

/* Ranks > 0: take part in steps until rank 0 says stop. */
cdp_status cdp_pipeline_serve(cdp_pipeline *pipeline);

/* Rank 0: finish what is on the way and send the others home. */
cdp_status cdp_pipeline_stop(cdp_pipeline *pipeline);

/* Who hears of every step that has left this rank; before the first step. */
void cdp_pipeline_set_span_sink(cdp_pipeline *pipeline, cdp_span_sink sink, void *of);

/* How this rank's time went so far. */
cdp_pipeline_times cdp_pipeline_times_of(const cdp_pipeline *pipeline);

/* Rank 0, with nothing on the way: every rank notes its times. What lies between two marks is one
 * measurement; marks beyond CDP_MAX_MARKS are not kept. */
cdp_status cdp_pipeline_mark(cdp_pipeline *pipeline);

/* The marks of this rank so far: at most CDP_MAX_MARKS into out; returns how many. */
int cdp_pipeline_marks_of(const cdp_pipeline *pipeline, cdp_pipeline_times *out);
