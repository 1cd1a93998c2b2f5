/* launcher/engine/chunk.h - how many prompt rows may share a step with decoding rows.
 *
 *     t(x) = c + b * x        seconds of a step of x rows: c reads the weights, b is one row's arithmetic
 *
 * A chunk beside d decoding rows may take as long as these take without it: b * x = c + b * d. So a prompt
 * slows those who decode by a factor of two at most, and the stages have steps of about the same length. c
 * and b come from the steps seen so far, by least squares, old ones forgotten: a machine under other load, or
 * longer contexts, are followed. Pure arithmetic, no clock.
 */
#pragma once

/* Sums of the steps seen; start with {0}. */
typedef struct cdp_step_cost {
    double weight, rows, seconds, rows_rows, rows_seconds;
} cdp_step_cost;

/* A step of n_rows took so many seconds of a stage. */
void cdp_step_cost_add(cdp_step_cost *cost, int n_rows, double seconds);

/* Prompt rows beside n_decoding rows: from one KV block to max_rows (less where that is less). As long as
 * steps of one size only were seen, a quarter of max_rows. */
int cdp_chunk_beside(const cdp_step_cost *cost, int n_decoding, int max_rows);
