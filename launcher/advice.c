#include "launcher/advice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MIN_STEPS = 4 }; /* fewer say nothing about a stage */
static const double WORTH_SAYING = 0.02;

double cdp_bubble_share(const cdp_stage_load *stages, int n) {
    double busy = 0, total = 0;
    for (int i = 0; i < n; i++) {
        busy += stages[i].layers_s + stages[i].head_s;
        total += stages[i].total_s;
    }
    return total > 0 && busy < total ? 1 - busy / total : 0;
}

static double step_s(const cdp_stage_load *stage) {
    return stage->n_steps > 0 ? (stage->layers_s + stage->head_s) / (double)stage->n_steps : 0;
}

static double layer_s(const cdp_stage_load *stage) {
    return stage->n_steps > 0 && stage->n_layers > 0
               ? stage->layers_s / (double)stage->n_steps / stage->n_layers
               : 0;
}

static double slowest(const cdp_stage_load *stages, int n) {
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, step_s(&stages[i]));
    return most;
}

/* The slowest stage once `move` is made: every stage's layers cost what they cost there now. */
static double slowest_after(const cdp_stage_load *stages, int n, const cdp_move *move) {
    double most = 0;
    for (int i = 0; i < n; i++) {
        const int added = i == move->from ? -move->n_layers : i == move->to ? move->n_layers : 0;
        most = fmax(most, step_s(&stages[i]) + added * layer_s(&stages[i]));
    }
    return most;
}

double cdp_best_move(cdp_move *out, const cdp_stage_load *stages, int n) {
    const double now = slowest(stages, n);
    double best = now;
    *out = (cdp_move){0};
    for (int from = 0; from < n; from++)
        for (int to = 0; to < n; to++) {
            /* A stage that holds no layers shows no cost; all but rank 0 keep one, or they would idle. */
            const int least = from == 0 ? 0 : 1;
            if (to == from || stages[to].n_layers == 0)
                continue;
            for (int k = 1; k <= stages[from].n_layers - least && k <= stages[to].n_room; k++) {
                const cdp_move move = {from, to, k};
                const double after = slowest_after(stages, n, &move);
                if (after < best) {
                    best = after;
                    *out = move;
                }
            }
        }
    return best > 0 ? now / best - 1 : 0;
}

int cdp_steps_to_fill(const cdp_stage_load *stages, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += step_s(&stages[i]);
    const double most = slowest(stages, n);
    return most > 0 ? (int)ceil(sum / most - 1e-9) : 1;
}

static bool has_steps(const cdp_stage_load *stages, int n) {
    for (int i = 0; i < n; i++)
        if (stages[i].n_steps < MIN_STEPS)
            return false;
    return n > 1;
}

/* "10,12,8" after the move. */
static size_t write_map(char *out, size_t out_size, const cdp_stage_load *stages, int n,
                        const cdp_move *move) {
    size_t used = 0;
    for (int i = 0; i < n && used < out_size; i++) {
        const int added = i == move->from ? -move->n_layers : i == move->to ? move->n_layers : 0;
        used += (size_t)snprintf(out + used, out_size - used, "%s%d", i > 0 ? "," : "",
                                 stages[i].n_layers + added);
    }
    return used;
}

const char *cdp_advise(char *out, size_t out_size, const cdp_stage_load *stages, int n, double in_flight) {
    out[0] = '\0';
    if (!has_steps(stages, n))
        return out;
    size_t used = 0;
    cdp_move move;
    const double gain = cdp_best_move(&move, stages, n);
    char map[96];
    if (gain >= WORTH_SAYING) {
        write_map(map, sizeof map, stages, n, &move);
        used = (size_t)snprintf(out, out_size,
                                "move %d layer%s from stage %d to stage %d: +%.0f %% when the pipe is full "
                                "(--device-map %s)",
                                move.n_layers, move.n_layers == 1 ? "" : "s", move.from, move.to, 100 * gain,
                                map);
    }
    const int fill = cdp_steps_to_fill(stages, n);
    if (in_flight < fill - 0.5 && used < out_size)
        snprintf(out + used, out_size - used, "%s%d sequences in flight would fill the pipe (%.1f were)",
                 used > 0 ? "; " : "", fill, in_flight);
    return out;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median time of a layer on the stages other than `but`; 0 when there are none. */
static double median_of_others(const cdp_stage_load *stages, int n, int but) {
    double *times = calloc((size_t)n + 1, sizeof *times);
    int n_times = 0;
    for (int i = 0; times != NULL && i < n; i++)
        if (i != but && layer_s(&stages[i]) > 0)
            times[n_times++] = layer_s(&stages[i]);
    if (n_times > 0)
        qsort(times, (size_t)n_times, sizeof *times, ascending);
    const double median = n_times > 0 ? times[n_times / 2] : 0;
    free(times);
    return median;
}

int cdp_straggler(const cdp_stage_load *stages, int n, double *times_out) {
    int worst = -1;
    *times_out = 0;
    for (int i = 0; has_steps(stages, n) && i < n; i++) {
        const double own = layer_s(&stages[i]), others = median_of_others(stages, n, i);
        if (others <= 0 || own <= 2 * others || (own - others) * stages[i].n_layers < 2e-3 ||
            own / others <= *times_out)
            continue;
        *times_out = own / others;
        worst = i;
    }
    return worst;
}
