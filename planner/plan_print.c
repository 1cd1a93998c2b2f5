/* The plan for people: a line a stage, then who holds what in the words of hf_device_map. */
#include <stdio.h>

#include "kernels/log.h"
#include "planner/plan.h"

/* Layer ranges are inclusive here, as people count. */
const char *cdp_stage_holds(char *out, size_t out_size, const cdp_stage_plan *s) {
    if (s->is_idle)
        snprintf(out, out_size, "idle");
    else if (s->first_layer == s->end_layer)
        snprintf(out, out_size, "vocab");
    else
        snprintf(out, out_size, "%slayers %d-%d", s->has_vocab ? "vocab, " : "", s->first_layer,
                 s->end_layer - 1);
    return out;
}

/* `number` counts the stages that compute. Scratch shows the links' buffers too, so that the parts add up. */
static void print_stage(const cdp_stage_plan *s, int number, int rank) {
    char stage[12] = "-", holds[48], weights[32], kv[32], scratch[32], context[32], total[32], budget[32];
    if (!s->is_idle)
        snprintf(stage, sizeof stage, "%d", number);
    cdp_note(
        "%5s  %4d  %-28.28s  %-19s  %11s  %11s  %11s  %11s  %11s  %11s", stage, rank,
        s->place.label[0] != '\0' ? s->place.label : s->place.name, cdp_stage_holds(holds, sizeof holds, s),
        cdp_size_text(weights, sizeof weights, s->bytes.weights), cdp_size_text(kv, sizeof kv, s->bytes.kv),
        cdp_size_text(scratch, sizeof scratch, s->bytes.scratch + s->bytes.links),
        cdp_size_text(context, sizeof context, s->bytes.context),
        cdp_size_text(total, sizeof total, s->bytes.total),
        cdp_size_text(budget, sizeof budget, s->budget_bytes));
}

static void print_map(const cdp_stage_plan *s, int rank) {
    char layers[64] = "";
    const int last = s->end_layer - 1;
    if (last == s->first_layer)
        snprintf(layers, sizeof layers, "model.layers.%d", last);
    else if (last > s->first_layer)
        snprintf(layers, sizeof layers, "model.layers.%d-%d", s->first_layer, last);
    if (s->has_vocab)
        cdp_note("device_map rank %d, %s: model.embed_tokens, %s%smodel.norm, lm_head", rank, s->place.name,
                 layers, layers[0] != '\0' ? ", " : "");
    else
        cdp_note("device_map rank %d, %s: %s", rank, s->place.name, s->is_idle ? "nothing, idle" : layers);
}

/* Where costs were given. */
static void print_times(const cdp_plan *plan) {
    for (int r = 0; r < plan->n_stages && plan->bottleneck_ms > 0; r++)
        if (!plan->stages[r].is_idle)
            cdp_note("costs: rank %d %.3f ms a step, %.0f %% of the slowest", r, plan->stages[r].step_ms,
                     100 * plan->stages[r].step_ms / plan->bottleneck_ms);
}

void cdp_plan_print(const cdp_plan *plan, const cdp_model_card *card) {
    char weights[32];
    if (!cdp_log_speaks())
        return;
    cdp_note("%5s  %4s  %-28s  %-19s  %11s  %11s  %11s  %11s  %11s  %11s", "stage", "rank", "device", "holds",
             "weights", "kv cache", "scratch", "context", "total", "budget");
    for (int r = 0, number = 0; r < plan->n_stages; r++) {
        print_stage(&plan->stages[r], number, r);
        number += plan->stages[r].is_idle ? 0 : 1;
    }
    for (int r = 0; r < plan->n_stages; r++)
        print_map(&plan->stages[r], r);
    cdp_note("%s: device_map %s, %s weights %s, ctx %d, max_batch %d, %lld KV blocks of %d tokens",
             plan->fits ? "fits" : "DOES NOT FIT", plan->policy, cdp_dtype_name(plan->run.dtype),
             cdp_size_text(weights, sizeof weights, cdp_model_weight_bytes(card, &plan->run)), plan->run.ctx,
             plan->run.max_batch, (long long)plan->n_blocks, CDP_KV_BLOCK_TOKENS);
    print_times(plan);
    if (plan->run.n_taps > 0)
        cdp_note(
            "taps: the states that enter %d layers ride along with each row that goes home, %d rows a step",
            plan->run.n_taps, cdp_tap_rows(&plan->run));
}
