#include "planner/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"

/* One planning problem: the request with its budgets and policy worked out. */
typedef struct problem {
    const cdp_model_card *card;
    const cdp_plan_request *request;
    cdp_policy policy;
    int counts[CDP_MAX_RANKS]; /* of a manual map */
    uint64_t budgets[CDP_MAX_RANKS];
    uint64_t *layer_bytes; /* (n_layers), filled for each trial */
} problem;

static cdp_status settle_budgets(problem *p) {
    const cdp_plan_request *q = p->request;
    if (q->n_budgets > 1 && q->n_budgets != q->n_places)
        return cdp_fail(CDP_USAGE, "--max-gpu-memory lists %d sizes for %d ranks: give one, or one each",
                        q->n_budgets, q->n_places);
    for (int i = 0; i < q->n_places; i++) {
        const uint64_t free_bytes = q->places[i].free_bytes;
        p->budgets[i] = (uint64_t)((double)free_bytes * q->memory_fraction);
        if (q->n_budgets > 0) {
            const cdp_size *size = &q->budgets[q->n_budgets == 1 ? 0 : i];
            p->budgets[i] = size->is_share ? (uint64_t)((double)free_bytes * size->share) : size->bytes;
        }
        if (q->max_ranks > 0 && i >= q->max_ranks)
            p->budgets[i] = 0;
    }
    return CDP_OK;
}

/* "10,12,10": one count a rank, together all layers. */
static cdp_status read_counts(problem *p, const char *text) {
    int n = 0, sum = 0;
    for (const char *at = text;; at++) {
        char *end;
        const long count = strtol(at, &end, 10);
        if (end == at || count < 0 || count > p->card->n_layers || n == p->request->n_places)
            return cdp_fail(CDP_USAGE, "--device-map %.60s: expected %d layer counts, one a rank", text,
                            p->request->n_places);
        p->counts[n++] = (int)count;
        sum += (int)count;
        at = end;
        if (*at == '\0')
            break;
        if (*at != ',')
            return cdp_fail(CDP_USAGE, "--device-map %.60s: expected layer counts as in 10,12,10", text);
    }
    if (n != p->request->n_places || sum != p->card->n_layers)
        return cdp_fail(CDP_USAGE,
                        "--device-map %.60s: %d counts with %d layers, expected %d counts with %d layers",
                        text, n, sum, p->request->n_places, p->card->n_layers);
    return CDP_OK;
}

static cdp_status settle_policy(problem *p) {
    const char *map = p->request->device_map;
    const size_t n = strlen(map);
    p->policy = CDP_POLICY_MANUAL;
    if (strcmp(map, "auto") == 0 || strcmp(map, "balanced") == 0)
        p->policy = CDP_POLICY_AUTO;
    else if (strcmp(map, "balanced_low_0") == 0)
        p->policy = CDP_POLICY_BALANCED_LOW_0;
    else if (strcmp(map, "sequential") == 0)
        p->policy = CDP_POLICY_SEQUENTIAL;
    else if (n > 5 && strcmp(map + n - 5, ".json") == 0)
        return cdp_device_map_read(p->counts, p->request->n_places, p->card->n_layers, map);
    else if (n > 0 && strspn(map, "0123456789,") == n)
        return read_counts(p, map);
    else
        return cdp_fail(CDP_USAGE,
                        "--device-map is \"%.60s\", expected auto, balanced, balanced_low_0, sequential, "
                        "layer counts as in 10,12,10, or a .json file",
                        map);
    return CDP_OK;
}

/* Layers by count, budgets only judged. */
static void split_manual(const problem *p, const cdp_split_input *in, int *ends, bool *fits) {
    *fits = true;
    for (int r = 0, end = 0; r < in->n_ranks; r++)
        ends[r] = end += p->counts[r];
    for (int r = 0; r < in->n_ranks; r++)
        *fits &= cdp_split_total(in, ends, r) <= in->budget_bytes[r];
}

static int count_active(const int *ends, int n_ranks) {
    int n = 1;
    for (int r = 1; r < n_ranks; r++)
        n += ends[r] > ends[r - 1];
    return n;
}

/* Split for a run and a number of KV blocks. run->n_ranks is settled here: buffers depend on how many ranks
 * are active, and that on the split, so it is tried with the present number until the split agrees. */
static cdp_status split_at(const problem *p, cdp_run_shape *run, int64_t n_blocks, int *ends, bool *fits) {
    const cdp_model_card *card = p->card;
    const uint64_t kv = cdp_memory_stage(card, run, 0, 1, false, n_blocks).kv;
    for (int l = 0; l < card->n_layers; l++)
        p->layer_bytes[l] = cdp_layer_weight_bytes(card, run, l) + kv;
    cdp_split_input in = {.n_layers = card->n_layers,
                          .n_ranks = p->request->n_places,
                          .layer_bytes = p->layer_bytes,
                          .budget_bytes = p->budgets};
    run->n_ranks = in.n_ranks;
    for (int tries = 0; tries < 4; tries++) {
        in.fixed_bytes = cdp_memory_stage(card, run, 0, 0, false, 0).total;
        in.vocab_bytes = cdp_memory_stage(card, run, 0, 0, true, 0).total - in.fixed_bytes;
        if (p->policy == CDP_POLICY_MANUAL)
            split_manual(p, &in, ends, fits);
        else
            CDP_TRY(cdp_split(ends, fits, p->policy, &in));
        const int n_active = count_active(ends, in.n_ranks);
        if (n_active == run->n_ranks)
            break;
        run->n_ranks = n_active;
    }
    return CDP_OK;
}

static int64_t wanted_blocks(const cdp_run_shape *run) {
    return run->max_batch * cdp_blocks_per_sequence(run);
}

/* The split at the wanted KV; if none fits, at the largest block count (one ctx at least) for which one does.
 */
static cdp_status split_best(const problem *p, cdp_run_shape *run, int *ends, int64_t *n_blocks, bool *fits) {
    int64_t high = wanted_blocks(run), low = cdp_blocks_per_sequence(run);
    *n_blocks = high;
    CDP_TRY(split_at(p, run, high, ends, fits));
    if (*fits || high == low)
        return CDP_OK;
    *n_blocks = low;
    CDP_TRY(split_at(p, run, low, ends, fits));
    if (!*fits)
        return CDP_OK;
    while (high - low > 1) { /* low fits, high does not */
        const int64_t middle = low + (high - low) / 2;
        CDP_TRY(split_at(p, run, middle, ends, fits));
        *(*fits ? &low : &high) = middle;
    }
    *n_blocks = low;
    return split_at(p, run, low, ends, fits);
}

/* Do all max_batch sequences of ctx tokens fit in full? */
static cdp_status fits_in_full(const problem *p, int ctx, int max_batch, bool *fits) {
    int ends[CDP_MAX_RANKS];
    cdp_run_shape run = p->request->run;
    run.ctx = ctx;
    run.max_batch = max_batch;
    return split_at(p, &run, wanted_blocks(&run), ends, fits);
}

/* The largest value up to `high` for which it fits, 0 when not even 1 does. */
static cdp_status largest(const problem *p, bool of_ctx, int other, int high, int *out) {
    int low = 0;
    bool fits;
    CDP_TRY(fits_in_full(p, of_ctx ? high : other, of_ctx ? other : high, &fits));
    if (fits) {
        *out = high;
        return CDP_OK;
    }
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        CDP_TRY(fits_in_full(p, of_ctx ? middle : other, of_ctx ? other : middle, &fits));
        *(fits ? &low : &high) = middle;
    }
    *out = low;
    return CDP_OK;
}

/* ctx and max_batch: what was asked, or the largest that fits. */
static cdp_status settle_run(const problem *p, cdp_run_shape *run) {
    enum { LARGEST_BATCH = 65536 };
    *run = p->request->run;
    if (run->ctx == 0) {
        CDP_TRY(largest(p, true, run->max_batch > 0 ? run->max_batch : 1, p->card->max_positions, &run->ctx));
    } else if (p->request->ctx_is_limit) {
        int ctx = run->ctx;
        CDP_TRY(largest(p, true, 1, run->ctx, &ctx));
        if (ctx > 0 && ctx < run->ctx) {
            cdp_note("ctx %d does not fit, planned for %d", run->ctx, ctx);
            run->ctx = ctx;
        }
    }
    if (run->ctx < 1)
        run->ctx = 1; /* the plan is shown as not fitting */
    if (run->max_batch == 0)
        CDP_TRY(largest(p, false, run->ctx, LARGEST_BATCH, &run->max_batch));
    if (run->max_batch < 1)
        run->max_batch = 1;
    return CDP_OK;
}

static void fill_stages(cdp_plan *plan, const problem *p, const int *ends) {
    for (int r = 0; r < plan->n_stages; r++) {
        cdp_stage_plan *stage = &plan->stages[r];
        stage->place = p->request->places[r];
        stage->budget_bytes = p->budgets[r];
        stage->first_layer = r > 0 ? ends[r - 1] : 0;
        stage->end_layer = ends[r];
        stage->has_vocab = r == 0;
        stage->is_idle = r > 0 && stage->first_layer == stage->end_layer;
        if (stage->is_idle)
            continue;
        plan->n_active++;
        stage->bytes = cdp_memory_stage(p->card, &plan->run, stage->first_layer, stage->end_layer,
                                        stage->has_vocab, plan->n_blocks);
        if (stage->bytes.total > plan->bottleneck_bytes)
            plan->bottleneck_bytes = stage->bytes.total;
    }
}

static cdp_status check_request(const cdp_plan_request *q) {
    if (q->n_places < 1 || q->n_places > CDP_MAX_RANKS)
        return cdp_fail(CDP_USAGE, "%d places, expected 1 to %d", q->n_places, CDP_MAX_RANKS);
    if (!(q->memory_fraction > 0 && q->memory_fraction <= 1))
        return cdp_fail(CDP_USAGE, "--gpu-memory-fraction is %g, expected a number above 0 and at most 1",
                        q->memory_fraction);
    return CDP_OK;
}

static cdp_status open_problem(problem *p, const cdp_model_card *card, const cdp_plan_request *request) {
    *p = (problem){.card = card, .request = request};
    CDP_TRY(check_request(request));
    CDP_TRY(settle_budgets(p));
    if (p->budgets[0] == 0)
        return cdp_fail(CDP_USAGE, "the budget of rank 0 is 0, but rank 0 holds the vocabulary");
    CDP_TRY(settle_policy(p));
    p->layer_bytes = calloc((size_t)card->n_layers, sizeof *p->layer_bytes);
    return p->layer_bytes != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the plan");
}

cdp_status cdp_plan_make(cdp_plan *out, const cdp_model_card *card, const cdp_plan_request *request) {
    problem p;
    int ends[CDP_MAX_RANKS];
    *out = (cdp_plan){.n_stages = request->n_places};
    snprintf(out->policy, sizeof out->policy, "%s", request->device_map);
    cdp_status st = open_problem(&p, card, request);
    if (st == CDP_OK)
        st = settle_run(&p, &out->run);
    if (st == CDP_OK)
        st = split_best(&p, &out->run, ends, &out->n_blocks, &out->fits);
    if (st == CDP_OK)
        fill_stages(out, &p, ends);
    free(p.layer_bytes);
    return st;
}

/* "--ctx 1024", "a budget of 5.21 GiB each", "one more GPU": what would help, found by trying. */
static void advise(char *out, size_t out_size, const problem *p, const cdp_plan *plan) {
    int value = 0, ends[CDP_MAX_RANKS];
    size_t used = 0;
    bool fits = false;
    if (largest(p, true, 1, plan->run.ctx, &value) == CDP_OK && value > 0)
        used += (size_t)snprintf(out + used, out_size - used, "--ctx %d (now %d), ", value, plan->run.ctx);
    /* The smallest equal budget is the bottleneck of a split that no budget holds back. */
    problem open = *p;
    cdp_run_shape run = plan->run;
    uint64_t need = 0;
    for (int r = 0; r < p->request->n_places; r++)
        open.budgets[r] = p->budgets[r] > 0 ? UINT64_MAX / 4 : 0;
    if (split_at(&open, &run, cdp_blocks_per_sequence(&run), ends, &fits) == CDP_OK)
        for (int r = 0, first = 0; r < p->request->n_places; first = ends[r++]) {
            const uint64_t total =
                r > 0 && first == ends[r]
                    ? 0
                    : cdp_memory_stage(p->card, &run, first, ends[r], r == 0, cdp_blocks_per_sequence(&run))
                          .total;
            need = total > need ? total : need;
        }
    used += (size_t)snprintf(out + used, out_size - used, "a budget of %.2f GiB each", (double)need / 0x1p30);
    if (p->policy == CDP_POLICY_MANUAL || p->request->n_places == CDP_MAX_RANKS)
        return;
    cdp_plan_request *more = malloc(sizeof *more);
    if (more == NULL)
        return;
    *more = *p->request;
    more->places[more->n_places] = more->places[more->n_places - 1];
    open = *p;
    open.budgets[more->n_places] = p->budgets[more->n_places - 1];
    more->n_places++;
    open.request = more;
    run = plan->run;
    if (split_at(&open, &run, cdp_blocks_per_sequence(&run), ends, &fits) == CDP_OK && fits)
        snprintf(out + used, out_size - used, ", one more device like the last: %d ranks", more->n_places);
    free(more);
}

cdp_status cdp_plan_demand_fit(const cdp_plan *plan, const cdp_model_card *card,
                               const cdp_plan_request *request) {
    if (plan->fits)
        return CDP_OK;
    char missing[600] = "", advice[300] = "";
    size_t used = 0;
    for (int r = 0; r < plan->n_stages && used < sizeof missing - 100; r++) {
        const cdp_stage_plan *s = &plan->stages[r];
        if (!s->is_idle && s->bytes.total > s->budget_bytes)
            used += (size_t)snprintf(
                missing + used, sizeof missing - used,
                "%srank %d (layers %d-%d) needs %.2f GiB (weights %.2f, KV %.2f, rest %.2f), budget %.2f",
                used > 0 ? "; " : "", r, s->first_layer, s->end_layer - 1, (double)s->bytes.total / 0x1p30,
                (double)s->bytes.weights / 0x1p30, (double)s->bytes.kv / 0x1p30,
                (double)(s->bytes.total - s->bytes.weights - s->bytes.kv) / 0x1p30,
                (double)s->budget_bytes / 0x1p30);
    }
    problem p;
    cdp_status st = open_problem(&p, card, request);
    if (st == CDP_OK)
        advise(advice, sizeof advice, &p, plan);
    free(p.layer_bytes);
    return st != CDP_OK ? st
                        : cdp_fail(CDP_UNAVAILABLE, "the model does not fit: %s; try: %s", missing, advice);
}
