#include "planner/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/log.h"
#include "planner/plan_parts.h"

enum { LARGEST_BATCH = 65536 }; /* the limit of --max-batch too */

/* ctx and max_batch: what was asked, or the largest that fits. */
static cdp_status settle_run(const cdp_problem *p, cdp_run_shape *out) {
    const cdp_run_shape *asked = &p->request->run;
    int ctx = asked->ctx, max_batch = asked->max_batch;
    if (ctx == 0) {
        const cdp_trial full = {.max_batch = max_batch > 0 ? max_batch : 1, .in_full = true};
        CDP_TRY(cdp_problem_largest(&ctx, p, full, p->card->max_positions));
    } else if (p->request->ctx_is_limit) {
        const cdp_trial one = {.max_batch = max_batch > 0 ? max_batch : 1};
        CDP_TRY(cdp_problem_largest(&ctx, p, one, asked->ctx));
        if (ctx > 0 && ctx < asked->ctx)
            cdp_note("ctx %d does not fit, planned for %d", asked->ctx, ctx);
        else
            ctx = asked->ctx;
    }
    if (ctx < 1)
        ctx = 1; /* shown as not fitting */
    if (max_batch == 0) {
        const cdp_trial full = {.ctx = ctx, .in_full = true};
        CDP_TRY(cdp_problem_largest(&max_batch, p, full, LARGEST_BATCH));
    }
    *out = cdp_problem_run(p, ctx, max_batch < 1 ? 1 : max_batch);
    return CDP_OK;
}

/* MPI counts a message's bytes in int: the hidden rows of a step with what is tapped of them. */
static cdp_status check_messages(const cdp_model_card *card, const cdp_run_shape *run) {
    const uint64_t row = (uint64_t)card->hidden * cdp_dtype_bytes(cdp_hidden_dtype(run));
    const uint64_t rows = (uint64_t)cdp_step_rows(run) + (uint64_t)cdp_tap_rows(run);
    if (rows <= INT32_MAX / row)
        return CDP_OK;
    return cdp_fail(
        CDP_USAGE,
        "a step of %d tokens is a message of %.2f GiB, and less than 2 are possible: try a smaller "
        "--chunk or --max-batch",
        cdp_step_rows(run), (double)(rows * row) / 0x1p30);
}

/* The split at the wanted KV; if none fits, at the largest block count (one ctx at least) for which one
 * does. So the blocks are what the tightest stage can hold. */
static cdp_status split_best(const cdp_problem *p, const cdp_run_shape *run, int *end_layer,
                             int64_t *n_blocks_out, bool *fits) {
    int64_t high = cdp_problem_blocks(run, run->max_batch), low = cdp_problem_blocks(run, 1);
    *n_blocks_out = high;
    CDP_TRY(cdp_problem_split(p, run, high, end_layer, fits));
    if (*fits)
        return CDP_OK;
    *n_blocks_out = low;
    CDP_TRY(cdp_problem_split(p, run, low, end_layer, fits));
    if (!*fits)
        return CDP_OK;
    while (high - low > 1) { /* low fits, high does not */
        const int64_t middle = low + (high - low) / 2;
        CDP_TRY(cdp_problem_split(p, run, middle, end_layer, fits));
        *(*fits ? &low : &high) = middle;
    }
    *n_blocks_out = low;
    return cdp_problem_split(p, run, low, end_layer, fits);
}

static void fill_stages(cdp_plan *plan, const cdp_problem *p, const int *end_layer) {
    for (int r = 0; r < plan->n_stages; r++) {
        cdp_stage_plan *stage = &plan->stages[r];
        stage->place = p->request->places[r];
        stage->budget_bytes = p->budgets[r];
        stage->first_layer = r > 0 ? end_layer[r - 1] : 0;
        stage->end_layer = end_layer[r];
        stage->has_vocab = r == 0;
        stage->is_idle = r > 0 && stage->first_layer == stage->end_layer;
        if (stage->is_idle)
            continue;
        plan->n_active++;
        stage->bytes = cdp_memory_stage(p->card, &plan->run, stage->first_layer, stage->end_layer,
                                        stage->has_vocab, plan->n_blocks);
        if (stage->bytes.total > plan->bottleneck_bytes)
            plan->bottleneck_bytes = stage->bytes.total;
        if (p->request->costs.n_stages == 0)
            continue;
        stage->step_ms = cdp_costs_stage_ms(&p->request->costs, r, stage->end_layer - stage->first_layer);
        plan->bottleneck_ms = fmax(plan->bottleneck_ms, stage->step_ms);
    }
}

/* A map file is called by its own name: the folder would not fit. */
static void name_policy(cdp_plan *plan, const char *device_map) {
    const char *slash = strrchr(device_map, '/');
    const char *name = slash != NULL ? slash + 1 : device_map;
    cdp_escape(plan->policy, sizeof plan->policy, name, strlen(name));
}

cdp_status cdp_plan_make(cdp_plan *out, const cdp_model_card *card, const cdp_plan_request *request) {
    cdp_problem p;
    int end_layer[CDP_MAX_RANKS];
    cdp_status st = CDP_OK;
    *out = (cdp_plan){.n_stages = request->n_places};
    name_policy(out, request->device_map);
    CDP_TRY_GOTO(cdp_problem_open(&p, card, request, NULL), st, done);
    CDP_TRY_GOTO(settle_run(&p, &out->run), st, done);
    CDP_TRY_GOTO(check_messages(card, &out->run), st, done);
    CDP_TRY_GOTO(split_best(&p, &out->run, end_layer, &out->n_blocks, &out->fits), st, done);
    fill_stages(out, &p, end_layer);
done:
    cdp_problem_close(&p);
    return st;
}
