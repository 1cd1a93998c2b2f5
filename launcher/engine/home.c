#include "launcher/engine/home.h"

#include <stdlib.h>

enum { LAZY_AT_ONCE = 2 }; /* to keep the last layer takes the one above it, too: never fewer */

cdp_status cdp_home_open(cdp_home *out, const cdp_run_shape *run, int n_layers) {
    *out = (cdp_home){.n_layers = n_layers,
                      .max_rows = cdp_step_rows(run),
                      .max_items = cdp_step_rows(run) + cdp_tap_rows(run)};
    out->rows = calloc((size_t)out->max_rows + 1, sizeof *out->rows);
    out->items = calloc((size_t)out->max_items + 1, sizeof *out->items);
    if (out->rows != NULL && out->items != NULL)
        return CDP_OK;
    cdp_home_close(out);
    return cdp_fail(CDP_SYSTEM, "no memory for the home rows of a step");
}

void cdp_home_close(cdp_home *home) {
    free(home->items);
    free(home->rows);
    *home = (cdp_home){0};
}

/* Home rows and how many items each has. */
static int list_rows(cdp_home *home, const cdp_step *step) {
    int n_items = 0;
    for (int i = 0; i < step->n_rows; i++) {
        if (!step->rows[i].wants_home)
            continue;
        const cdp_tap_set *taps = cdp_step_taps_of(step, i);
        const int n_taps = taps != NULL ? cdp_taps_count(taps, 0, home->n_layers) : 0;
        const int head = taps != NULL ? cdp_step_slot_of(step, step->rows[i].slot)->head : 0;
        const bool is_lazy = (head & CDP_HEAD_LAZY) != 0 && n_taps + 1 > LAZY_AT_ONCE;
        home->rows[home->n_rows++] = (cdp_home_row){.row = i,
                                                    .first = n_items,
                                                    .n_items = n_taps + 1,
                                                    .n_unplaced = n_taps + 1,
                                                    .granted = is_lazy ? LAZY_AT_ONCE : n_taps + 1,
                                                    .asked = -1,
                                                    .head = head & ~CDP_HEAD_LAZY};
        n_items += n_taps + 1;
    }
    return n_items;
}

/* Rows came home sorted by state; each row's items are filled from its shallowest state, the last in its
 * list, up. */
static void place_items(cdp_home *home, const cdp_step *step) {
    int32_t at = 0;
    for (int state = step->n_tap_words > 0 ? 0 : home->n_layers; state <= home->n_layers; state++) {
        for (int h = 0; h < home->n_rows; h++) {
            cdp_home_row *row = &home->rows[h];
            const cdp_tap_set *taps = state < home->n_layers ? cdp_step_taps_of(step, row->row) : NULL;
            if (state < home->n_layers && (taps == NULL || !cdp_taps_has(taps, state)))
                continue;
            home->items[row->first + --row->n_unplaced] = (cdp_home_item){at++, state};
        }
    }
}

void cdp_home_begin(cdp_home *home, const cdp_step *step) {
    home->n_rows = home->n_done = home->n_block = 0;
    list_rows(home, step);
    place_items(home, step);
}

/* The item a row may hand to the head next, or -1. */
static int next_item(const cdp_home_row *row) {
    return row->asked >= 0 ? row->asked : row->next < row->granted ? row->next : -1;
}

static int head_of(const cdp_home *home, const cdp_home_row *row, int item) {
    return home->items[row->first + item].state == home->n_layers ? row->head & CDP_HEAD_HIDDEN : row->head;
}

/* Items of one row into the block, as many as go through the head in one way. */
static void take_items(cdp_home *home, int h) {
    cdp_home_row *row = &home->rows[h];
    for (int item; home->n_block < CDP_HOME_ROWS && (item = next_item(row)) >= 0;) {
        const int head = head_of(home, row, item);
        if (home->n_block == 0)
            home->head = head;
        else if (((head ^ home->head) & ~CDP_HEAD_HIDDEN) != 0)
            return; /* in a block of its own, after this one */
        home->head |= head;
        home->block_row[home->n_block] = h;
        home->block_item[home->n_block] = item;
        home->at[home->n_block++] = home->items[row->first + item].at;
        if (item == row->asked)
            row->asked = -1;
        else
            row->next++;
    }
}

bool cdp_home_next(cdp_home *home) {
    home->n_block = 0;
    while (home->n_done < home->n_rows && next_item(&home->rows[home->n_done]) < 0)
        home->n_done++;
    for (int h = home->n_done; h < home->n_rows && home->n_block < CDP_HOME_ROWS; h++)
        take_items(home, h);
    return home->n_block > 0;
}

void cdp_home_item_of(const cdp_home *home, int i, int *row_out, int *state_out, bool *is_last_out) {
    const cdp_home_row *row = &home->rows[home->block_row[i]];
    *row_out = row->row;
    *state_out = home->items[row->first + home->block_item[i]].state;
    bool is_last = next_item(row) < 0;
    for (int later = i + 1; later < home->n_block; later++)
        is_last &= home->block_row[later] != home->block_row[i];
    *is_last_out = is_last;
}

cdp_status cdp_home_ask(cdp_home *home, int i, int state) {
    cdp_home_row *row = &home->rows[home->block_row[i]];
    if (state == CDP_ASK_NOTHING)
        return CDP_OK;
    for (int item = 0; item < row->n_items; item++)
        if (home->items[row->first + item].state == state) {
            row->asked = item;
            return CDP_OK;
        }
    return cdp_fail(CDP_INTERNAL, "state %d of row %d is asked for, which did not come home", state,
                    row->row);
}

bool cdp_home_is_done(const cdp_home *home) {
    for (int h = home->n_done; h < home->n_rows; h++)
        if (next_item(&home->rows[h]) >= 0)
            return false;
    return home->n_block == 0; /* else the readers of the block in work may still ask */
}
