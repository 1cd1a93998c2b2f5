/* launcher/advice.h - what the times of a run say about its split: how much of the stages' time was idle,
 * which layers to move, how many sequences would fill the pipe, which rank is slow. Pure arithmetic on
 * measured times; the report prints it.
 *
 *     stage        0              1              2           a step takes t0, t1, t2
 *     step A   |==t0==|    |====t1====|      |=t2=|          with enough steps on the way the slowest stage
 *     step B          |==t0==|        |====t1====|           sets the pace: tokens per second ~ 1 / max t,
 *                                                            and sum t / max t steps fill the pipe
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One active stage of the ring, in ring order. */
typedef struct cdp_stage_load {
    int rank, n_layers;
    int n_room;              /* layers more that its budget would hold */
    double layers_s, head_s; /* computing */
    double total_s;          /* from its first step to the end */
    uint64_t n_steps;
} cdp_stage_load;

/* Share of the stages' time in which they computed nothing: 0 to 1. */
double cdp_bubble_share(const cdp_stage_load *stages, int n);

/* The move of layers from one stage to another that would shorten the slowest stage most. Layers in between
 * stay as many as they are. Returns the gain of a full pipe (0.07: 7 % more tokens per second), 0 without
 * one. */
typedef struct cdp_move {
    int from, to, n_layers; /* indices into stages */
} cdp_move;
double cdp_best_move(cdp_move *out, const cdp_stage_load *stages, int n);

/* Steps on the way that keep the slowest stage busy all the time: sum t / max t, rounded up. */
int cdp_steps_to_fill(const cdp_stage_load *stages, int n);

/* One sentence, or "" where nothing would gain 2 %. in_flight: steps on the way, on average. */
const char *cdp_advise(char *out, size_t out_size, const cdp_stage_load *stages, int n, double in_flight);

/* The stage whose layers take more than twice as long as those of the others (the median of them) and more
 * than 2 ms a step on top; -1: none. *times_out: how many times as long. */
int cdp_straggler(const cdp_stage_load *stages, int n, double *times_out);
