/* planner/plan_parts.h - one planning problem and the trials on it: shared by plan.c (decides) and plan_fit.c
 * (finds out what would help). */
#pragma once

#include "planner/plan.h"

/* The request with its budgets and its policy worked out. */
typedef struct cdp_problem {
    const cdp_model_card *card;
    const cdp_plan_request *request;
    cdp_policy policy;
    int counts[CDP_MAX_RANKS];       /* of a manual map */
    uint64_t budgets[CDP_MAX_RANKS]; /* 0: left out */
    uint64_t *layer_bytes;           /* (n_layers), filled by each trial */
} cdp_problem;

/* Check the request and work it out; `made` is a plan of the same request (its map is not read again), or
 * NULL. The caller gives *out back with cdp_problem_close, also after a failure. */
cdp_status cdp_problem_open(cdp_problem *out, const cdp_model_card *card, const cdp_plan_request *request,
                            const cdp_plan *made);
void cdp_problem_close(cdp_problem *problem);

/* The request's run for these two numbers. Its n_ranks are those that may take part, whether the split uses
 * them or not: so the fixed bytes of a stage do not depend on the split, and the split is exact. */
cdp_run_shape cdp_problem_run(const cdp_problem *problem, int ctx, int max_batch);

/* KV blocks of n sequences in full. */
int64_t cdp_problem_blocks(const cdp_run_shape *run, int n_sequences);

/* Split for a run and a number of KV blocks; end_layer (n_places). */
cdp_status cdp_problem_split(const cdp_problem *problem, const cdp_run_shape *run, int64_t n_blocks,
                             int *end_layer, bool *fits_out);

/* What a search for the largest ctx or max_batch holds fast: the number that is 0 is searched for. */
typedef struct cdp_trial {
    int ctx, max_batch;
    bool in_full; /* room for max_batch sequences of ctx tokens, else for one */
} cdp_trial;

/* The largest value up to `high` for which a split fits, 0 when not even 1 does. */
cdp_status cdp_problem_largest(int *out, const cdp_problem *problem, cdp_trial trial, int high);
