/* stage/seat.h - one step's seat in the ring: its arrays on the device at addresses that never change, and
 * the hidden states that come, are worked on and leave. There are cdp_n_seats() seats; step `id` sits in seat
 * id modulo that number.
 *
 *     hidden rows | tapped rows of earlier stages | of this one | home rows, picked by the last stage
 *
 * travel in one piece. On rank 0 the rows behind the hidden ones are at home already: they lie at a place of
 * their own, and what comes round the ring is received behind them.
 */
#pragma once

#include "kernels/ops.h"
#include "planner/plan.h"
#include "stage/stage.h"

typedef struct cdp_seat {
    cdp_device *device;
    cdp_step_view view;       /* what the operations read */
    cdp_kv_command *commands; /* device */
    int n_commands;
    void *hidden;  /* device, (rows, hidden): what travels on */
    void *behind;  /* device: the tapped rows, then the home rows */
    cdp_tap *taps; /* (n_taps) what this stage picks, ascending by state */
    int n_taps;
    int n_behind_before,
        n_behind;    /* rows behind the hidden ones: of earlier stages, and with this one's taps */
    int home_layers; /* of rank 0: its states are at home already and do not travel */
    int first_layer, end_layer, n_layers;
    bool is_first;
    size_t row_bytes;
    int32_t *host, *memory; /* the five int arrays, host and device: one upload */
    cdp_kv_command *host_commands;
    int32_t *host_tapped, *tapped; /* (max_taps) rows of the step, host and device */
    int max_rows, max_commands, max_taps;
} cdp_seat;

/* A seat of `rank` of the plan. */
cdp_status cdp_seat_open(cdp_seat *out, cdp_device *device, const cdp_model_card *card, const cdp_plan *plan,
                         int rank);
void cdp_seat_close(cdp_seat *seat); /* a zeroed seat is fine */

/* The place of row n behind the hidden ones. */
void *cdp_seat_behind(const cdp_seat *seat, int n);

/* Queue the upload of the step's rows and commands, point the view at them, and say what is tapped where. The
 * previous step of this seat must be done. */
cdp_status cdp_seat_take(cdp_seat *seat, const cdp_step *step);
