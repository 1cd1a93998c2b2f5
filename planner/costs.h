/* planner/costs.h - measured times, for a split that evens out time and not only bytes.
 *
 *     {"layers": 30, "vocab_ms": 3.2, "stages": [{"rank": 0, "layer_ms": 0.41}, {"rank": 1, ...}]}
 *
 * A layer costs layer_ms on that rank's device; rank 0 also computes the vocabulary's ends, vocab_ms. All
 * layers of a model are alike, so one number a rank is enough; a file with one stage counts for every rank.
 * Written by `bench --save-costs`.
 */
#pragma once

#include "planner/split.h"

typedef struct cdp_costs {
    int n_layers, n_stages; /* n_stages 0: no costs */
    double vocab_ms;
    double layer_ms[CDP_MAX_RANKS]; /* by rank */
} cdp_costs;

/* Read the file for a model of n_layers and a plan of n_ranks. CDP_NO_INPUT; CDP_BAD_MODEL for another number
 * of layers, fewer stages than ranks (but one), times that are not positive. */
cdp_status cdp_costs_read(cdp_costs *out, const char *path, int n_layers, int n_ranks);

/* Write it (temporary file and rename). CDP_IO. */
cdp_status cdp_costs_save(const cdp_costs *costs, const char *path);

/* Milliseconds of a rank that holds n layers; 0 for none (rank 0 always has the vocabulary). */
double cdp_costs_stage_ms(const cdp_costs *costs, int rank, int n_layers);
