/* launcher/engine/times.h - the clocks of one rank's pipeline: the moments of each step, what they add up to,
 * and how long a pause may be. Knows neither seats nor links: launcher/engine/pipeline.c says what happens,
 * as it sees it.
 *
 *     asked -- came -- began ====== done -- sent ----- home -- head ====== head_done -- ended
 *                        |  layers_s  | send_s |                 |   head_s   |
 *       |<------------------------------ flight_s -------------------------------------->|
 *
 * The moments from home to head_done are rank 0's. Computing hides sends; what is neither is waiting. All
 * three are taken from the moments of steps: a turn that came late, because the workers had the processor,
 * says nothing about what was done meanwhile.
 *
 * No function blocks but cdp_times_pause, and none is collective. A zeroed struct is ready for use.
 */
#pragma once

#include <stdint.h>

#include "comm/world.h"
#include "kernels/step.h"

/* One step on this rank, by the monotonic clock in ns; a moment that did not come is 0. Seen by polling, so
 * good to some 50 us (200 us in steps longer than 5 ms) while the main thread has a core: two steps that
 * both end while it has none are seen at once, the second perhaps after its rows have reached the next rank.
 */
typedef struct cdp_step_span {
    uint64_t id;
    int32_t n_rows, n_home;
    int64_t asked_ns;     /* its header came; on rank 0 it was begun */
    int64_t came_ns;      /* its hidden states were here, and its work was queued */
    int64_t began_ns;     /* the device was free for it */
    int64_t done_ns;      /* the stage's work was done */
    int64_t sent_ns;      /* and with the next rank */
    int64_t home_ns;      /* rank 0: its home rows were here */
    int64_t head_ns;      /* the device was free for their head */
    int64_t head_done_ns; /* and done with it */
    int64_t ended_ns;     /* the seat was free again; on rank 0 the last logits were handed out before */
} cdp_step_span;

/* Who hears of every step that has left this rank. */
typedef void (*cdp_span_sink)(void *of, const cdp_step_span *span);

/* How this rank's time went between its first step and its last. */
typedef struct cdp_pipeline_times {
    double busy_s, send_s, wait_s; /* the device had work; else a send was waiting; the rest */
    double layers_s, head_s;       /* of busy: the stage's layers, and rank 0's head */
    double flight_s;               /* rank 0: sum over steps from their begin to their last logits */
    uint64_t n_steps, n_rows, n_sent_bytes;
} cdp_pipeline_times;

enum { CDP_MAX_MARKS = 64 };

/* What a rank can be waiting for, as far as the times of these waits differ; the first of several counts. */
typedef enum cdp_wait {
    CDP_WAIT_SEND,
    CDP_WAIT_LAYERS,
    CDP_WAIT_HEAD,
    CDP_WAIT_DATA,
    CDP_WAIT_STEP,
    CDP_N_WAITS
} cdp_wait;

typedef struct cdp_times {
    cdp_pipeline_times sums, marks[CDP_MAX_MARKS]; /* of sums, busy_s and wait_s are made when asked for */
    int n_marks;
    double total_s; /* since the first step */
    int64_t last_turn_ns;
    int64_t free_ns; /* the device was last seen to be done with something */
    cdp_span_sink span_sink;
    void *span_sink_of;
    cdp_waiter waiter;
    int64_t expected_ns[CDP_N_WAITS]; /* how long this rank waited for each, lately */
    int64_t moved_ns;                 /* something last moved */
    cdp_wait waits_for;               /* since then */
} cdp_times;

/* The moments of a step, each called when it is seen. */
void cdp_times_asked(cdp_step_span *span, const cdp_step *step); /* begins the span */
void cdp_times_came(cdp_step_span *span);
void cdp_times_queued(cdp_times *times, const cdp_step_span *span); /* the step counts from here */
void cdp_times_done(cdp_times *times, cdp_step_span *span);
void cdp_times_sent(cdp_times *times, cdp_step_span *span);
void cdp_times_home(cdp_step_span *span); /* again for every block of the head: the first one counts */
void cdp_times_head_done(cdp_times *times,
                         cdp_step_span *span);               /* again for every block: the last one counts */
void cdp_times_ended(cdp_times *times, cdp_step_span *span); /* and the sink hears of it */

/* At the beginning of every turn: the time since the last one counts, once there was a step. */
void cdp_times_turn(cdp_times *times);

/* The sums up to now; n_sent_bytes is the link's. */
cdp_pipeline_times cdp_times_now(const cdp_times *times, uint64_t n_sent_bytes);

/* Keep them as the next mark; marks beyond CDP_MAX_MARKS are not kept. */
void cdp_times_mark(cdp_times *times, uint64_t n_sent_bytes);

/* What is waited for from now on. It is expected to take as long as the last waits of its kind did, because
 * steps of one kind follow each other for a long time; a send in progress is looked after all the time. */
void cdp_times_expect(cdp_times *times, cdp_wait wait);

/* The wait is over: how long it was is learned, and the next one begins. */
void cdp_times_moved(cdp_times *times, cdp_wait wait);

/* Nothing moved: sleep as the waiter of comm/world.h does. */
void cdp_times_pause(cdp_times *times);
