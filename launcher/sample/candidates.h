/* launcher/sample/candidates.h - the tokens a draw may take, sorted no further than it looks.
 *
 *     weight   1 ........ 0.5 ........ 0.25 ........ 0.125 ....
 *     bucket   0 1 2 .. 7  8 9 .. 15    16 ..                     8 an octave, largest first
 *                          |                  |
 *                     the draw falls here   the cut falls here: only these two are sorted
 *
 * Weights are e^(z - largest z), so the largest is exactly 1. Sorting 128k tokens for one top-p draw would
 * take longer than the model's step on a GPU; the two buckets hold some hundred.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

typedef struct cdp_candidates cdp_candidates;

/* Room for n candidates. The caller owns *out. */
cdp_status cdp_candidates_open(cdp_candidates **out, int n);
void cdp_candidates_close(cdp_candidates *candidates); /* NULL is fine */

/* Forget all; then add each by ascending id, weight in (0, 1], at least one of them 1; then arrange. */
void cdp_candidates_clear(cdp_candidates *candidates);
void cdp_candidates_add(cdp_candidates *candidates, int32_t id, double weight);
void cdp_candidates_arrange(cdp_candidates *candidates);

/* Top-p, 0 < p < 1: from the smallest up candidates go while the sum of their probabilities is at most 1 - p;
 * the largest always stays. Once, before min-p. */
void cdp_candidates_cut_top_p(cdp_candidates *candidates, double p);

/* Min-p: candidates less likely than min_p times the likeliest go. */
void cdp_candidates_cut_min_p(cdp_candidates *candidates, double min_p);

/* The candidate at u in [0, 1) of the sum of what stays, counted from the largest; ties by id. */
int32_t cdp_candidates_pick(cdp_candidates *candidates, double u);

/* All that stay: ids and probabilities, largest first, ties by id. Returns how many are not 0. */
int cdp_candidates_list(cdp_candidates *candidates, int32_t *ids_out, double *probs_out);
