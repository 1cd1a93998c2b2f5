/* kernels/cuda/graphs.h - a step's launches recorded once and replayed: one launch instead of hundreds.
 *
 *     step 1 of a key    queued plainly (libraries and modules load what they need)
 *     step 2             queued while the stream records, then launched as a graph
 *     step 3, 4, ...     launched as that graph: positions, slots and block tables lie in device memory
 *
 * Where a step cannot be recorded (no memory, a launch that the driver takes plainly alone), steps of its key
 * stay plain: slower, the same bits.
 *
 * A key is who records (a stage), where its step arrays lie (a seat) and how many rows there are (a bucket).
 */
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/ops.h"

typedef struct cuda_graphs cuda_graphs;

cdp_status cuda_graphs_open(cuda_graphs **out);
void cuda_graphs_close(cuda_graphs *graphs); /* NULL is fine; the stream must be idle */

/* *is_replayed_out true: the step is queued, nothing is left to do. Else the caller queues it now, plainly or
 * while it is recorded, and calls end after the last launch, with what the launches said. *is_queued_out
 * false: the recorded launches are lost, and the caller queues them again (not recorded, no end). */
cdp_status cuda_graphs_begin(cuda_graphs *graphs, cdp_device *device, const void *owner,
                             const cdp_step_view *step, bool *is_replayed_out);
cdp_status cuda_graphs_end(cuda_graphs *graphs, cdp_device *device, cdp_status launched, bool *is_queued_out);
