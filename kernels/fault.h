/* kernels/fault.h - faults on demand, to see that every rank ends as promised.
 *
 *     CDPIPE_FAULT=RANK:POINT:KIND[:N]          at the N-th passage of POINT (default 1) on RANK
 *     CDPIPE_FAULT=RANK:POINT:slow:MS[:N]       from the N-th passage on, sleep MS each time
 *
 * Points: load (a block of weights read), step (a step begins). Kinds: kill9, stop (SIGSTOP), hang, slow.
 * Always compiled in; unset costs one comparison.
 */
#pragma once

#include "kernels/status.h"

/* Read the variable for this rank. CDP_USAGE when it is malformed. */
cdp_status cdp_fault_open(int rank);

/* Pass a point: any thread, any number of times. Does not return when the fault is a hang. */
void cdp_fault_pass(const char *point);
