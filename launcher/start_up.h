/* launcher/start_up.h - from options to a ring that is ready: one start-up phase, one verdict.
 *
 *     files -> devices -> text -> plan -> links -> memory -> weights -> ring
 *
 * Each phase ends in an agreement of all ranks (comm/world.h), so one rank never goes on alone: a fault that
 * one rank finds ends every rank with the same code after one line of rank 0. Rank 0 reads text and plans;
 * the others take the plan from it. Idle ranks hold nothing and only agree.
 */
#pragma once

#include "launcher/run.h"

/* Open what `run` owns, phase by phase, from its options and its world. What is open when a phase fails stays
 * so, for cdp_run_close(). Collective; the same status on every rank. */
cdp_status cdp_start_up(cdp_run *run, const cdp_job_spec *job);
