/* stage/seat.h - one step's seat in the ring: its arrays on the device at addresses that never change, and
 * the hidden states that come, are worked on and leave. There are cdp_n_slots() seats; step `id` sits in seat
 * id modulo that number. */
#pragma once

#include "kernels/ops.h"
#include "planner/memory.h"

typedef struct cdp_seat {
    cdp_device *device;
    cdp_step_view view;       /* what the operations read */
    cdp_kv_command *commands; /* device */
    int n_commands;
    void *hidden;           /* device, (rows, hidden): what travels on */
    void *home;             /* device, (rows, hidden): picked rows; on rank 0 what came home */
    int32_t *host, *memory; /* the five int arrays, host and device: one upload */
    cdp_kv_command *host_commands;
    int max_rows, max_commands;
} cdp_seat;

cdp_status cdp_seat_open(cdp_seat *out, cdp_device *device, const cdp_model_card *card,
                         const cdp_run_shape *run);
void cdp_seat_close(cdp_seat *seat); /* a zeroed seat is fine */

/* Queue the upload of the step's rows and commands, and point the view at them. The previous step of this
 * seat must be done. */
cdp_status cdp_seat_take(cdp_seat *seat, const cdp_step *step);
