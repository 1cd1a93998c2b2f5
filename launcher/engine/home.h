/* launcher/engine/home.h - what a step brings home, and in which order the head takes it. Rank 0 only; no
 * device and no message here, so that it can be tested alone.
 *
 *     behind the hidden rows:   state 0 | state 1 | ... | last state        rows as in the step, tapped ones
 *     to the head:              row by row, each from its last state up to the shallowest
 *
 * A block is up to CDP_HOME_ROWS rows that the head takes in one product; what a row's later blocks hold may
 * hang on what its reader says to the earlier ones (CDP_HEAD_LAZY, or a state that is asked for again).
 */
#pragma once

#include "launcher/engine/schedule.h"

/* One state of one home row, somewhere behind the hidden rows. */
typedef struct cdp_home_item {
    int32_t at;    /* place among the rows behind the hidden ones */
    int32_t state; /* n_layers: the last one */
} cdp_home_item;

typedef struct cdp_home_row {
    int row;            /* of the step */
    int first, n_items; /* its items, deepest state first */
    int n_unplaced;     /* items that the walk over the states has not come to yet */
    int next, granted;  /* items handed to the head, and that may be */
    int asked;          /* an item that was asked for by name, or -1 */
    int head;           /* CDP_HEAD_ bits of its tapped states, but CDP_HEAD_LAZY */
} cdp_home_row;

typedef struct cdp_home {
    int n_layers, max_rows, max_items;
    int n_rows, n_done; /* home rows, and those at the front that are done with */
    cdp_home_row *rows; /* (max_rows) */
    cdp_home_item *items;
    int n_block, head; /* the block in work: its size, and the bits it is computed with; CDP_HEAD_HIDDEN where
                        * any of its rows wants that */
    int block_row[CDP_HOME_ROWS], block_item[CDP_HOME_ROWS];
    int32_t at[CDP_HOME_ROWS]; /* where its rows lie */
} cdp_home;

cdp_status cdp_home_open(cdp_home *out, const cdp_run_shape *run, int n_layers);
void cdp_home_close(cdp_home *home); /* a zeroed one is fine */

/* Begin with a step, whose taps are within what the run was planned for. */
void cdp_home_begin(cdp_home *home, const cdp_step *step);

/* Fill the next block; false when every row is done with. */
bool cdp_home_next(cdp_home *home);

/* Item i of the block in work: row of the step and state; is_last: nothing more of this row will come unless
 * it is asked for now. */
void cdp_home_item_of(const cdp_home *home, int i, int *row_out, int *state_out, bool *is_last_out);

/* What the reader of item i asks for: a state of this row, tapped or the last, or CDP_ASK_NOTHING.
 * CDP_INTERNAL for a state that did not come. */
cdp_status cdp_home_ask(cdp_home *home, int i, int state);

/* True when every row is done with (also without any). */
bool cdp_home_is_done(const cdp_home *home);
