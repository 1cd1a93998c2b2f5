/* launcher/engine/trace.h - --trace FILE: every step of every rank on one time line, in the Chrome trace
 * format (chrome://tracing, ui.perfetto.dev).
 *
 *     process "rank 1: layers 8-19"
 *       layers    |==step 4==|==step 5==|                  what the device computes, in its order
 *       head      (rank 0)        |step 3|
 *       seat 0    |step 4 [recv][queue][layers][send]      |   a step's whole stay on this rank
 *       seat 1         |step 5 [recv][queue  ][layers][send]   |
 *
 * An arrow goes from a step's layers to those of the next rank. Each rank keeps its spans in memory until the
 * end (80 bytes a step; beyond a million they are counted, not kept); then rank 0 writes them, moments
 * brought to its own clock by what was measured at the start and at the end of the run.
 */
#pragma once

#include "comm/world.h"
#include "launcher/engine/pipeline.h"

typedef struct cdp_trace cdp_trace;

/* Rank 0 opens `path` (as a temporary file beside it, so that a run that fails leaves an older one alone):
 * CDP_IO when it cannot be written. Every rank measures its clock. Collective but for that failure, which the
 * caller must agree on. The caller closes *out. */
cdp_status cdp_trace_open(cdp_trace **out, cdp_world *world, const char *path);

/* A step has left this rank. */
void cdp_trace_add(cdp_trace *trace, const cdp_step_span *span);

/* Gather all spans and write the file. Collective. CDP_IO. */
cdp_status cdp_trace_write(cdp_trace *trace, const cdp_plan *plan);

/* Removes an unfinished file. NULL is fine. */
void cdp_trace_close(cdp_trace *trace);
