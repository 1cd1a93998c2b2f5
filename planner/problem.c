/* The planning problem: budgets, the placement word, and one trial. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/checked.h"
#include "planner/file.h"
#include "planner/plan_parts.h"

static uint64_t budget_of(const cdp_plan_request *q, int place) {
    const double free_bytes = (double)q->places[place].free_bytes;
    if (q->n_budgets == 0)
        return (uint64_t)(free_bytes * q->memory_fraction);
    const cdp_size *size = &q->budgets[q->n_budgets == 1 ? 0 : place];
    return size->is_share ? (uint64_t)(free_bytes * size->share) : size->bytes;
}

/* --num-gpus takes the first so many that the budgets do not leave out. */
static cdp_status settle_budgets(cdp_problem *p) {
    const cdp_plan_request *q = p->request;
    int n_used = 0;
    if (q->n_budgets > 1 && q->n_budgets != q->n_places)
        return cdp_fail(CDP_USAGE, "--max-gpu-memory lists %d sizes for %d rank%s: give one, or one each",
                        q->n_budgets, q->n_places, q->n_places == 1 ? "" : "s");
    for (int i = 0; i < q->n_places; i++) {
        p->budgets[i] = q->max_ranks > 0 && n_used == q->max_ranks ? 0 : budget_of(q, i);
        n_used += p->budgets[i] > 0;
    }
    if (p->budgets[0] == 0)
        return cdp_fail(CDP_USAGE, "the budget of rank 0 is 0, but rank 0 holds the vocabulary");
    return CDP_OK;
}

/* "10,12,10": one count a rank, together all layers. */
static cdp_status read_counts(cdp_problem *p, const char *text) {
    const int n_places = p->request->n_places, n_layers = p->card->n_layers;
    int n = 0, sum = 0;
    for (const char *at = text;; at++) {
        char *end;
        const long count = strtol(at, &end, 10);
        if (end == at || count > n_layers || n == n_places)
            return cdp_fail(CDP_USAGE, "--device-map %.60s: expected %d layer counts up to %d, one a rank",
                            text, n_places, n_layers);
        p->counts[n++] = (int)count;
        sum += (int)count;
        at = end;
        if (*at == '\0')
            break;
    }
    if (n != n_places || sum != n_layers)
        return cdp_fail(CDP_USAGE,
                        "--device-map %.60s: %d counts with %d layers, expected %d counts with %d layers",
                        text, n, sum, n_places, n_layers);
    return CDP_OK;
}

static cdp_status check_cap(const cdp_problem *p) {
    int n_active = 1;
    for (int r = 1; r < p->request->n_places; r++)
        n_active += p->counts[r] > 0;
    if (p->request->max_ranks > 0 && n_active > p->request->max_ranks)
        return cdp_fail(CDP_USAGE, "--device-map uses %d ranks, --num-gpus %d allows fewer", n_active,
                        p->request->max_ranks);
    return CDP_OK;
}

static cdp_status read_map(cdp_problem *p, const char *map) {
    char shown[96];
    const size_t n = strlen(map);
    const bool is_counts = n > 0 && strspn(map, "0123456789,") == n;
    const bool is_file = n > 5 && strcmp(map + n - 5, ".json") == 0;
    if (is_counts)
        CDP_TRY(read_counts(p, map));
    else if (is_file || cdp_file_exists(map))
        CDP_TRY(cdp_device_map_read(p->counts, p->request->n_places, p->card->n_layers, map));
    else
        return cdp_fail(CDP_USAGE,
                        "--device-map is \"%s\", expected auto, balanced, balanced_low_0, sequential, "
                        "layer counts as in 10,12,10, or a .json file",
                        cdp_escape(shown, sizeof shown, map, n));
    return check_cap(p);
}

static cdp_status settle_policy(cdp_problem *p, const cdp_plan *made) {
    static const struct {
        const char *word;
        cdp_policy policy;
    } words[] = {{"auto", CDP_POLICY_AUTO},
                 {"balanced", CDP_POLICY_AUTO},
                 {"balanced_low_0", CDP_POLICY_BALANCED_LOW_0},
                 {"sequential", CDP_POLICY_SEQUENTIAL}};
    const char *map = p->request->device_map;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(map, words[i].word) == 0) {
            p->policy = words[i].policy;
            return CDP_OK;
        }
    p->policy = CDP_POLICY_MANUAL;
    if (made == NULL)
        return read_map(p, map);
    for (int r = 0; r < made->n_stages; r++)
        p->counts[r] = made->stages[r].end_layer - made->stages[r].first_layer;
    return CDP_OK;
}

static cdp_status check_request(const cdp_plan_request *q) {
    if (q->n_places < 1 || q->n_places > CDP_MAX_RANKS)
        return cdp_fail(CDP_USAGE, "%d places, expected 1 to %d", q->n_places, CDP_MAX_RANKS);
    if (!(q->memory_fraction > 0 && q->memory_fraction <= 1))
        return cdp_fail(CDP_USAGE, "--gpu-memory-fraction is %g, expected a number above 0 and at most 1",
                        q->memory_fraction);
    return CDP_OK;
}

cdp_status cdp_problem_open(cdp_problem *out, const cdp_model_card *card, const cdp_plan_request *request,
                            const cdp_plan *made) {
    *out = (cdp_problem){.card = card, .request = request};
    CDP_TRY(check_request(request));
    CDP_TRY(settle_budgets(out));
    CDP_TRY(settle_policy(out, made));
    out->layer_bytes = calloc((size_t)card->n_layers + 1, sizeof *out->layer_bytes);
    return out->layer_bytes != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the plan");
}

void cdp_problem_close(cdp_problem *problem) {
    free(problem->layer_bytes);
}

cdp_run_shape cdp_problem_run(const cdp_problem *problem, int ctx, int max_batch) {
    const cdp_plan_request *q = problem->request;
    cdp_run_shape run = q->run;
    run.ctx = ctx;
    run.max_batch = max_batch;
    run.n_ranks = q->max_ranks > 0 && q->max_ranks < q->n_places ? q->max_ranks : q->n_places;
    return run;
}

int64_t cdp_problem_blocks(const cdp_run_shape *run, int n_sequences) {
    const int64_t n = n_sequences * cdp_blocks_per_sequence(run);
    return n < INT32_MAX ? n : INT32_MAX; /* block numbers travel as int32 */
}

/* Layers by count: budgets are only judged. */
static bool split_manual(const cdp_problem *p, const cdp_split_input *in, int *end_layer) {
    bool fits = true;
    for (int r = 0, end = 0; r < in->n_ranks; r++)
        end_layer[r] = end += p->counts[r];
    for (int r = 0; r < in->n_ranks; r++)
        fits = fits && cdp_split_total(in, end_layer, r) <= in->budget_bytes[r];
    return fits;
}

cdp_status cdp_problem_split(const cdp_problem *p, const cdp_run_shape *run, int64_t n_blocks, int *end_layer,
                             bool *fits_out) {
    const cdp_stage_bytes bare = cdp_memory_stage(p->card, run, 0, 0, false, 0);
    const cdp_stage_bytes vocab = cdp_memory_stage(p->card, run, 0, 0, true, 0);
    const cdp_stage_bytes layer = cdp_memory_stage(p->card, run, 0, 1, false, n_blocks);
    for (int l = 0; l < p->card->n_layers; l++)
        if (!cdp_add_u64(cdp_layer_weight_bytes(p->card, run, l), layer.kv, &p->layer_bytes[l]))
            p->layer_bytes[l] = UINT64_MAX; /* larger than any memory */
    const cdp_split_input in = {.n_layers = p->card->n_layers,
                                .n_ranks = p->request->n_places,
                                .layer_bytes = p->layer_bytes,
                                .vocab_bytes = vocab.total - bare.total,
                                .fixed_bytes = bare.total,
                                .budget_bytes = p->budgets,
                                .layer_ms =
                                    p->request->costs.n_stages > 0 ? p->request->costs.layer_ms : NULL,
                                .vocab_ms = p->request->costs.vocab_ms};
    if (p->policy != CDP_POLICY_MANUAL)
        return cdp_split(end_layer, fits_out, p->policy, &in);
    *fits_out = split_manual(p, &in, end_layer);
    return CDP_OK;
}

static cdp_status try_one(const cdp_problem *p, cdp_trial trial, int value, bool *fits) {
    int end_layer[CDP_MAX_RANKS];
    const cdp_run_shape run =
        cdp_problem_run(p, trial.ctx > 0 ? trial.ctx : value, trial.max_batch > 0 ? trial.max_batch : value);
    return cdp_problem_split(p, &run, cdp_problem_blocks(&run, trial.in_full ? run.max_batch : 1), end_layer,
                             fits);
}

cdp_status cdp_problem_largest(int *out, const cdp_problem *problem, cdp_trial trial, int high) {
    int low = 0;
    bool fits = false;
    CDP_TRY(try_one(problem, trial, high, &fits));
    while (!fits && high - low > 1) { /* low fits (or is 0), high does not */
        bool fits_middle;
        const int middle = low + (high - low) / 2;
        CDP_TRY(try_one(problem, trial, middle, &fits_middle));
        *(fits_middle ? &low : &high) = middle;
    }
    *out = fits ? high : low;
    return CDP_OK;
}
