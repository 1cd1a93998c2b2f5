/* planner/split.h - cut the stack of layers into contiguous stages.
 *
 *     layers   0 1 2 | 3 4 5 6 7 | 8 9 10 11        end_layer = {3, 8, 12}
 *     rank         0           1            2
 *
 * The two ends of the vocabulary sit on rank 0, so rank 0 usually gets fewer layers. `auto` is the exact
 * min-max by dynamic programming, O(layers^2 * ranks): the smallest largest total with every stage within
 * its budget; ties: the smallest largest total/budget, then more layers on later ranks. A rank with budget 0
 * gets nothing (rank 0 must have one). Pure functions of numbers: no MPI, no files, no clock.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

enum { CDP_MAX_RANKS = 256 };

typedef enum cdp_policy {
    CDP_POLICY_AUTO,
    CDP_POLICY_BALANCED_LOW_0,
    CDP_POLICY_SEQUENTIAL,
    CDP_POLICY_MANUAL
} cdp_policy;

typedef struct cdp_split_input {
    int n_layers, n_ranks;
    const uint64_t *layer_bytes;  /* (n_layers): weights and KV of each layer */
    uint64_t vocab_bytes;         /* on top, rank 0: both ends, logits */
    uint64_t fixed_bytes;         /* on top, every rank that is active: scratch, links, context */
    const uint64_t *budget_bytes; /* (n_ranks); 0: this rank is left out */
    const double *layer_ms;       /* (n_ranks) measured time of a layer on each rank; NULL: not measured */
    double vocab_ms;              /* on top, rank 0 */
} cdp_split_input;

/* Fill end_layer (n_ranks), ascending, the last one n_layers; a rank without layers repeats its predecessor's
 * end. *fits_out false: no split of this policy keeps every stage within its budget, and end_layer holds the
 * split that comes nearest (smallest largest total/budget), so that a refusal can show what is missing.
 *
 *     auto              as above (balanced is the same); where times were measured the smallest largest time
 *                       within the budgets comes first, and bytes decide between equals
 *     balanced_low_0    rank 0 takes the fewest layers that let the others fit; these split as auto
 *     sequential        rank 0 takes the vocabulary and layers up to its budget, then rank 1, ...
 *
 * All three fit or none does: they differ in where the layers go, not in what they can hold. */
cdp_status cdp_split(int *end_layer, bool *fits_out, cdp_policy policy, const cdp_split_input *input);

/* Total bytes of a rank under a split; 0 for an idle rank (rank 0 is never idle). */
uint64_t cdp_split_total(const cdp_split_input *input, const int *end_layer, int rank);
