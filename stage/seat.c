#include "stage/seat.h"

#include <stdlib.h>

/* planner/ knows nothing of kernels/step.h and ops.h, and counts by the same numbers. */
_Static_assert(sizeof(cdp_kv_command) == CDP_KV_COMMAND_BYTES, "a seat has room for its commands");
_Static_assert(CDP_BLOCK_TOKENS == (int)CDP_KV_BLOCK_TOKENS, "a block holds as many positions as planned");
_Static_assert(CDP_MAX_STATES == (int)CDP_MAX_LAYERS, "a state enters each layer");

/* Room for what is tapped; none where the run taps nothing. */
static cdp_status open_taps(cdp_seat *seat, cdp_device *device) {
    if (seat->max_taps == 0)
        return CDP_OK;
    const size_t n = (size_t)seat->max_taps;
    CDP_TRY(cdp_device_alloc(device, (void **)&seat->tapped, n * sizeof *seat->tapped));
    CDP_TRY(cdp_device_host_alloc(device, (void **)&seat->host_tapped, n * sizeof *seat->host_tapped));
    seat->taps = calloc((size_t)(seat->end_layer - seat->first_layer) + 1, sizeof *seat->taps);
    return seat->taps != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the taps of a step");
}

cdp_status cdp_seat_open(cdp_seat *out, cdp_device *device, const cdp_model_card *card, const cdp_plan *plan,
                         int rank) {
    const cdp_run_shape *run = &plan->run;
    *out = (cdp_seat){.device = device,
                      .home_layers = plan->stages[0].end_layer,
                      .first_layer = plan->stages[rank].first_layer,
                      .end_layer = plan->stages[rank].end_layer,
                      .n_layers = card->n_layers,
                      .is_first = rank == 0,
                      .row_bytes = (size_t)card->hidden * cdp_dtype_bytes(cdp_hidden_dtype(run)),
                      .max_rows = cdp_step_rows(run),
                      .max_commands = cdp_max_commands(run),
                      .max_taps = cdp_tap_rows(run)};
    const uint64_t row_bytes = (uint64_t)out->max_rows * CDP_STEP_ROW_INTS * sizeof(int32_t);
    const uint64_t command_bytes = (uint64_t)out->max_commands * sizeof(cdp_kv_command);
    cdp_status st = CDP_OK;
    CDP_TRY_GOTO(cdp_device_alloc(device, (void **)&out->memory, row_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, (void **)&out->commands, command_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, &out->hidden, cdp_seat_bytes(card, run)), st, done);
    CDP_TRY_GOTO(open_taps(out, device), st, done);
    CDP_TRY_GOTO(cdp_device_host_alloc(device, (void **)&out->host, row_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_host_alloc(device, (void **)&out->host_commands, command_bytes), st, done);
    return CDP_OK;
done:
    cdp_seat_close(out);
    return st;
}

void cdp_seat_close(cdp_seat *seat) {
    free(seat->taps);
    if (seat->device != NULL) {
        cdp_device_host_free(seat->device, seat->host_tapped);
        cdp_device_host_free(seat->device, seat->host_commands);
        cdp_device_host_free(seat->device, seat->host);
        cdp_device_free(seat->device, seat->tapped);
        cdp_device_free(seat->device, seat->hidden);
        cdp_device_free(seat->device, seat->commands);
        cdp_device_free(seat->device, seat->memory);
    }
    *seat = (cdp_seat){0};
}

void *cdp_seat_behind(const cdp_seat *seat, int n) {
    return (char *)seat->behind + (size_t)n * seat->row_bytes;
}

/* This stage's picks: for each of its states the rows that tap it, at the end of what comes along. */
static void list_taps(cdp_seat *seat, const cdp_step *step) {
    int n_listed = 0;
    for (int state = seat->first_layer; state < seat->end_layer; state++) {
        const int first = n_listed;
        for (int i = 0; i < step->n_rows; i++) {
            const cdp_tap_set *set = cdp_step_taps_of(step, i);
            if (set != NULL && cdp_taps_has(set, state))
                seat->host_tapped[n_listed++] = i;
        }
        if (n_listed > first)
            seat->taps[seat->n_taps++] =
                (cdp_tap){.state = state,
                          .n_rows = n_listed - first,
                          .rows = seat->tapped + first,
                          .to = cdp_seat_behind(seat, seat->n_behind_before + first)};
    }
    seat->n_behind += n_listed;
}

/* Where the rows behind the hidden ones lie, and which of them this stage adds. Without taps home rows have a
 * fixed address on every rank, so that a device may record the step. */
static cdp_status take_taps(cdp_seat *seat, const cdp_step *step) {
    const bool travels = step->n_tap_words > 0 && !seat->is_first;
    const int at = travels ? step->n_rows : seat->max_rows;
    seat->behind = (char *)seat->hidden + (size_t)at * seat->row_bytes;
    seat->n_taps = seat->n_behind_before = seat->n_behind = 0;
    if (step->n_tap_words == 0)
        return CDP_OK;
    const int n = cdp_step_count_taps(step, 0, seat->n_layers);
    if (n > seat->max_taps)
        return cdp_fail(CDP_INTERNAL, "step %llu taps %d rows, room for %d", (unsigned long long)step->id, n,
                        seat->max_taps);
    seat->n_behind_before = seat->n_behind = cdp_step_count_taps(step, seat->home_layers, seat->first_layer);
    list_taps(seat, step);
    return cdp_device_copy_in(seat->device, seat->tapped, seat->host_tapped,
                              (uint64_t)(seat->n_behind - seat->n_behind_before) * sizeof *seat->tapped);
}

/* Rows the operations see: a device that records its steps wants few different numbers of them. Taps may lie
 * right behind the hidden states, where padding rows would be. */
static int padded_rows(const cdp_seat *seat, const cdp_step *step) {
    const cdp_ops *ops = cdp_device_ops(seat->device);
    if (ops->bucket == NULL || step->n_rows == 0 || step->n_tap_words > 0)
        return step->n_rows;
    const int n = ops->bucket(step->n_rows);
    return n < seat->max_rows ? n : seat->max_rows;
}

cdp_status cdp_seat_take(cdp_seat *seat, const cdp_step *step) {
    if (step->n_rows > seat->max_rows || step->n_commands > seat->max_commands)
        return cdp_fail(CDP_INTERNAL, "step %llu has %d rows and %d commands, room for %d and %d",
                        (unsigned long long)step->id, step->n_rows, step->n_commands, seat->max_rows,
                        seat->max_commands);
    const size_t n = (size_t)seat->max_rows;
    int32_t *slot = seat->host, *position = slot + n, *token = position + n, *list = token + n,
            *home = list + n;
    int n_home = 0;
    for (int i = 0; i < step->n_rows; i++) {
        slot[i] = step->rows[i].slot;
        position[i] = step->rows[i].position;
        token[i] = step->rows[i].token;
        const cdp_step_slot *of = cdp_step_slot_of(step, slot[i]);
        list[i] = of != NULL ? of->rope_list : 0;
        if (step->rows[i].wants_home)
            home[n_home++] = i;
    }
    const int n_rows = padded_rows(seat, step);
    for (int i = step->n_rows; i < n_rows; i++) {
        slot[i] = -1;
        position[i] = token[i] = list[i] = 0;
    }
    for (int i = 0; i < step->n_commands; i++)
        seat->host_commands[i] = step->commands[i];
    seat->n_commands = step->n_commands;
    int32_t *dev = seat->memory;
    seat->view = (cdp_step_view){.n_rows = n_rows,
                                 .n_home = n_home,
                                 .slot = dev,
                                 .position = dev + n,
                                 .token = dev + 2 * n,
                                 .rope_list = dev + 3 * n,
                                 .home = dev + 4 * n,
                                 .hidden = seat->hidden};
    CDP_TRY(take_taps(seat, step));
    CDP_TRY(cdp_device_copy_in(seat->device, dev, seat->host, n * CDP_STEP_ROW_INTS * sizeof(int32_t)));
    return cdp_device_copy_in(seat->device, seat->commands, seat->host_commands,
                              (uint64_t)step->n_commands * sizeof(cdp_kv_command));
}
