/* A plan that does not fit: what is missing, and the nearest values that do fit, each found by trying. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "planner/plan_parts.h"

enum {
    MORE_DEVICES = 16, /* try so many more like the last one */
    MISSING_CHARS = 640,
    ADVICE_CHARS = 320,
};

/* A line that grows; what does not fit any more is left out as a whole. */
typedef struct line {
    char *text;
    size_t size, used;
} line;

static bool say(line *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool say(line *to, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(to->text + to->used, to->size - to->used, format, args);
    va_end(args);
    const bool is_whole = n >= 0 && (size_t)n < to->size - to->used;
    if (is_whole)
        to->used += (size_t)n;
    to->text[to->used] = '\0';
    return is_whole;
}

static bool say_missing(line *to, const cdp_stage_plan *s, int rank) {
    char holds[48], need[32], weights[32], kv[32], rest[32], budget[32], short_of[32];
    const uint64_t total = s->bytes.total;
    return say(to, "%srank %d (%s; %s) needs %s (weights %s, KV %s, rest %s), budget %s, %s short",
               to->used > 0 ? "; " : "", rank, s->place.name, cdp_stage_holds(holds, sizeof holds, s),
               cdp_size_text(need, sizeof need, total),
               cdp_size_text(weights, sizeof weights, s->bytes.weights),
               cdp_size_text(kv, sizeof kv, s->bytes.kv),
               cdp_size_text(rest, sizeof rest, total - s->bytes.weights - s->bytes.kv),
               cdp_size_text(budget, sizeof budget, s->budget_bytes),
               cdp_size_text(short_of, sizeof short_of, total - s->budget_bytes));
}

static void list_missing(line *to, const cdp_plan *plan) {
    enum { ROOM_FOR_MORE = 24 };
    int n_left = 0;
    to->size -= ROOM_FOR_MORE;
    for (int r = 0; r < plan->n_stages; r++) {
        const cdp_stage_plan *s = &plan->stages[r];
        if (!s->is_idle && s->bytes.total > s->budget_bytes)
            n_left += n_left > 0 || !say_missing(to, s, r);
    }
    to->size += ROOM_FOR_MORE;
    if (n_left > 0)
        say(to, "; and %d more", n_left);
}

/* Does one sequence of the plan's ctx fit? */
static bool fits_one(const cdp_problem *p, const cdp_plan *plan) {
    int end_layer[CDP_MAX_RANKS];
    bool fits = false;
    const cdp_run_shape run = cdp_problem_run(p, plan->run.ctx, plan->run.max_batch);
    return cdp_problem_split(p, &run, cdp_problem_blocks(&run, 1), end_layer, &fits) == CDP_OK && fits;
}

static void try_run(line *to, const cdp_problem *p, const cdp_plan *plan) {
    const cdp_trial of_ctx = {.max_batch = plan->run.max_batch}, of_batch = {.ctx = plan->run.ctx};
    int ctx = 0, batch = 0;
    if (cdp_problem_largest(&ctx, p, of_ctx, plan->run.ctx) == CDP_OK && ctx > 0)
        say(to, "--ctx %d (now %d), ", ctx, plan->run.ctx);
    if (plan->run.max_batch > 1 && cdp_problem_largest(&batch, p, of_batch, plan->run.max_batch) == CDP_OK &&
        batch > 0)
        say(to, "--max-batch %d (now %d), ", batch, plan->run.max_batch);
}

/* "5.21GiB", up to the next hundredth, so that the value named does fit. */
static void budget_text(char *out, size_t out_size, uint64_t bytes) {
    const bool is_gib = bytes >= UINT64_C(1) << 30;
    const double unit = is_gib ? 0x1p30 : 0x1p20;
    snprintf(out, out_size, "%.2f%s", ceil((double)bytes / unit * 100) / 100, is_gib ? "GiB" : "MiB");
}

/* Has every device that is used so many bytes free? */
static bool is_free(const cdp_problem *p, uint64_t bytes) {
    for (int r = 0; r < p->request->n_places; r++)
        if (p->budgets[r] > 0 && p->request->places[r].free_bytes < bytes)
            return false;
    return true;
}

/* The smallest equal budget is the largest stage of the best split that no budget holds back. */
static void try_budget(line *to, const cdp_problem *p, const cdp_plan *plan) {
    char text[32];
    int end_layer[CDP_MAX_RANKS];
    bool fits;
    uint64_t need = 0;
    cdp_problem open = *p;
    const cdp_run_shape run = cdp_problem_run(p, plan->run.ctx, plan->run.max_batch);
    const int64_t n_blocks = cdp_problem_blocks(&run, 1);
    if (open.policy != CDP_POLICY_MANUAL)
        open.policy = CDP_POLICY_AUTO;
    for (int r = 0; r < p->request->n_places; r++)
        open.budgets[r] = p->budgets[r] > 0 ? UINT64_MAX : 0;
    if (cdp_problem_split(&open, &run, n_blocks, end_layer, &fits) != CDP_OK || !fits)
        return;
    for (int r = 0, first = 0; r < p->request->n_places; first = end_layer[r++]) {
        const bool is_idle = r > 0 && first == end_layer[r];
        const cdp_stage_bytes bytes = cdp_memory_stage(p->card, &run, first, end_layer[r], r == 0, n_blocks);
        if (!is_idle && bytes.total > need)
            need = bytes.total;
    }
    budget_text(text, sizeof text, need);
    say(to, "--max-gpu-memory %s%s, ", text, is_free(p, need) ? "" : " (more than is free)");
}

static void try_fraction(line *to, const cdp_problem *p, const cdp_plan *plan) {
    static const double most = 0.95;
    cdp_problem more = *p;
    if (p->request->n_budgets > 0 || p->request->memory_fraction >= most)
        return;
    for (int r = 0; r < p->request->n_places; r++)
        if (p->budgets[r] > 0)
            more.budgets[r] = (uint64_t)((double)p->request->places[r].free_bytes * most);
    if (fits_one(&more, plan))
        say(to, "--gpu-memory-fraction %.2f, ", most);
}

/* One more device, or a few, like the last one in use. */
static void try_devices(line *to, const cdp_problem *p, const cdp_plan *plan) {
    const int n_places = p->request->n_places;
    uint64_t last = 0;
    for (int r = 0; r < n_places; r++)
        last = p->budgets[r] > 0 ? p->budgets[r] : last;
    cdp_plan_request *request = malloc(sizeof *request);
    if (request == NULL)
        return;
    cdp_problem wider = *p;
    wider.request = request;
    *request = *p->request;
    request->max_ranks = 0;
    for (int n = 1; n <= MORE_DEVICES && n_places + n <= CDP_MAX_RANKS; n++) {
        wider.budgets[n_places + n - 1] = last;
        request->n_places = n_places + n;
        if (fits_one(&wider, plan)) {
            say(to, "%d more %s with a budget like the last one's, ", n,
                plan->run.on_gpu ? n == 1 ? "GPU" : "GPUs"
                : n == 1         ? "rank"
                                 : "ranks");
            break;
        }
    }
    free(request);
}

static void advise(line *to, const cdp_problem *p, const cdp_plan *plan) {
    try_run(to, p, plan);
    try_budget(to, p, plan);
    try_fraction(to, p, plan);
    cdp_problem free_hand = *p;
    free_hand.policy = CDP_POLICY_AUTO;
    if (p->policy == CDP_POLICY_MANUAL && fits_one(&free_hand, plan))
        say(to, "--device-map auto, ");
    if (p->policy != CDP_POLICY_MANUAL)
        try_devices(to, p, plan);
    if (to->used > 2)
        to->text[to->used - 2] = '\0'; /* the last comma */
}

cdp_status cdp_plan_demand_fit(const cdp_plan *plan, const cdp_model_card *card,
                               const cdp_plan_request *request) {
    if (plan->fits)
        return CDP_OK;
    char missing_text[MISSING_CHARS] = "", advice_text[ADVICE_CHARS] = "";
    line missing = {missing_text, sizeof missing_text, 0}, advice = {advice_text, sizeof advice_text, 0};
    cdp_problem p;
    cdp_status st = CDP_OK;
    list_missing(&missing, plan);
    CDP_TRY_GOTO(cdp_problem_open(&p, card, request, plan), st, done);
    advise(&advice, &p, plan);
    st = cdp_fail(CDP_UNAVAILABLE, "the model does not fit: %s; try: %s", missing_text, advice_text);
done:
    cdp_problem_close(&p);
    return st;
}
