/* kernels/fault.h - faults on demand, to see that every rank ends as promised.
 *
 *     CDPIPE_FAULT=RANK:POINT:KIND[:N]          at the N-th passage of POINT (default 1) on RANK
 *     CDPIPE_FAULT=RANK:POINT:slow:MS[:N]       from the N-th passage on, sleep MS each time
 *     CDPIPE_FAULT=0:load:stop,2:load:slow:500  several: a rank commits the last of its own
 *
 * Points: init (before MPI starts), watchdog (it starts), args, config, plan, alloc, load (a block of weights
 * read), comm-init, step (a step begins), compute (a worker of the CPU device begins a job), send, recv,
 * write, sync (of an output file), report (all ranks tell how they fared), finalize. Kinds: kill9, segv,
 * exit0, exit3, stop (SIGSTOP) happen to the process; hang (asleep), loop (at work for ever) and slow to the
 * thread that passes; enomem, eio, cuda-sticky and nccl-error are what the call at that point returns. Always
 * compiled in; unset costs one comparison.
 */
#pragma once

#include "kernels/status.h"

/* Read the variable for this rank. CDP_USAGE when it is malformed. */
cdp_status cdp_fault_open(int rank);

/* Pass a point: any thread, any number of times. CDP_OK, or the status of the fault: CDP_SYSTEM (enomem),
 * CDP_IO (eio), CDP_INTERNAL (cuda-sticky), CDP_UNAVAILABLE (nccl-error). Does not return when the fault ends
 * or hangs the process. */
cdp_status cdp_fault_pass(const char *point) __attribute__((warn_unused_result));
