#include "stage/seat.h"

enum { ROW_ARRAYS = 5 }; /* slot, position, token, rope list, home */

cdp_status cdp_seat_open(cdp_seat *out, cdp_device *device, const cdp_model_card *card,
                         const cdp_run_shape *run) {
    *out =
        (cdp_seat){.device = device, .max_rows = cdp_step_rows(run), .max_commands = cdp_max_commands(run)};
    const uint64_t row_bytes = (uint64_t)out->max_rows * ROW_ARRAYS * sizeof(int32_t);
    const uint64_t command_bytes = (uint64_t)out->max_commands * sizeof(cdp_kv_command);
    const uint64_t hidden_bytes =
        (uint64_t)out->max_rows * (uint64_t)card->hidden * cdp_dtype_bytes(cdp_hidden_dtype(run));
    cdp_status st = CDP_OK;
    CDP_TRY_GOTO(cdp_device_alloc(device, (void **)&out->memory, row_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, (void **)&out->commands, command_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, &out->hidden, hidden_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, &out->home, hidden_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_host_alloc(device, (void **)&out->host, row_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_host_alloc(device, (void **)&out->host_commands, command_bytes), st, done);
    return CDP_OK;
done:
    cdp_seat_close(out);
    return st;
}

void cdp_seat_close(cdp_seat *seat) {
    if (seat->device != NULL) {
        cdp_device_host_free(seat->device, seat->host_commands);
        cdp_device_host_free(seat->device, seat->host);
        cdp_device_free(seat->device, seat->home);
        cdp_device_free(seat->device, seat->hidden);
        cdp_device_free(seat->device, seat->commands);
        cdp_device_free(seat->device, seat->memory);
    }
    *seat = (cdp_seat){0};
}

static int32_t rope_list_of(const cdp_step *step, int32_t slot) {
    for (int i = 0; i < step->n_slots; i++)
        if (step->slots[i].slot == slot)
            return step->slots[i].rope_list;
    return 0;
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
        list[i] = i > 0 && slot[i] == slot[i - 1] ? list[i - 1] : rope_list_of(step, slot[i]);
        if (step->rows[i].wants_home)
            home[n_home++] = i;
    }
    for (int i = 0; i < step->n_commands; i++)
        seat->host_commands[i] = step->commands[i];
    seat->n_commands = step->n_commands;
    int32_t *dev = seat->memory;
    seat->view = (cdp_step_view){.n_rows = step->n_rows,
                                 .n_home = n_home,
                                 .slot = dev,
                                 .position = dev + n,
                                 .token = dev + 2 * n,
                                 .rope_list = dev + 3 * n,
                                 .home = dev + 4 * n,
                                 .hidden = seat->hidden};
    CDP_TRY(cdp_device_copy_in(seat->device, dev, seat->host, n * ROW_ARRAYS * sizeof(int32_t)));
    return cdp_device_copy_in(seat->device, seat->commands, seat->host_commands,
                              (uint64_t)step->n_commands * sizeof(cdp_kv_command));
}
