#include "planner/split.h"

#include <math.h>
#include <stdlib.h>

/* The search's view: prefix sums, so that a range of layers costs one subtraction. */
typedef struct search {
    const cdp_split_input *in;
    uint64_t *prefix; /* (n_layers + 1) */
    double *value;    /* (n_ranks + 1, n_layers + 1): best objective of the first r ranks over l layers */
    bool *reaches;    /* (n_ranks + 1, n_layers + 1): ranks r.. can take layers l.. within the bounds */
    uint64_t max_total;
    double max_ratio;
    bool within_budgets;
} search;

static size_t cell(const search *s, int rank, int layer) {
    return (size_t)rank * (size_t)(s->in->n_layers + 1) + (size_t)layer;
}

static uint64_t total_of(const search *s, int rank, int first, int end) {
    if (rank > 0 && first == end)
        return 0; /* idle: holds nothing */
    return s->prefix[end] - s->prefix[first] + s->in->fixed_bytes + (rank == 0 ? s->in->vocab_bytes : 0);
}

static double ratio_of(const search *s, int rank, uint64_t total) {
    const uint64_t budget = s->in->budget_bytes[rank];
    return total == 0 ? 0 : budget == 0 ? INFINITY : (double)total / (double)budget;
}

/* May this rank hold this range under the bounds found so far? */
static bool allowed(const search *s, int rank, int first, int end) {
    const uint64_t total = total_of(s, rank, first, end), budget = s->in->budget_bytes[rank];
    if (total > 0 && (budget == 0 || (s->within_budgets && total > budget)))
        return false;
    return total <= s->max_total && ratio_of(s, rank, total) <= s->max_ratio;
}

/* The smallest largest objective over all splits that are allowed; infinite when there is none. */
static double smallest_largest(search *s, bool by_ratio) {
    const int L = s->in->n_layers, P = s->in->n_ranks;
    for (int l = 0; l <= L; l++)
        s->value[cell(s, 0, l)] = l == 0 ? 0 : INFINITY;
    for (int r = 0; r < P; r++)
        for (int end = 0; end <= L; end++) {
            double best = INFINITY;
            for (int first = 0; first <= end; first++) {
                const double before = s->value[cell(s, r, first)];
                if (before >= best || !allowed(s, r, first, end))
                    continue;
                const uint64_t total = total_of(s, r, first, end);
                const double own = by_ratio ? ratio_of(s, r, total) : (double)total;
                best = fmin(best, fmax(before, own));
            }
            s->value[cell(s, r + 1, end)] = best;
        }
    return s->value[cell(s, P, L)];
}

/* Among the splits within the bounds, the one with the fewest layers on rank 0, then on rank 1, ... */
static void take_latest(search *s, int *end_layer) {
    const int L = s->in->n_layers, P = s->in->n_ranks;
    for (int l = 0; l <= L; l++)
        s->reaches[cell(s, P, l)] = l == L;
    for (int r = P - 1; r >= 0; r--)
        for (int first = 0; first <= L; first++) {
            bool can = false;
            for (int end = first; end <= L && !can; end++)
                can = s->reaches[cell(s, r + 1, end)] && allowed(s, r, first, end);
            s->reaches[cell(s, r, first)] = can;
        }
    for (int r = 0, first = 0; r < P; first = end_layer[r++]) {
        int end = first;
        while (end < L && !(s->reaches[cell(s, r + 1, end)] && allowed(s, r, first, end)))
            end++;
        end_layer[r] = end;
    }
}

/* Exact min-max; without budgets that fit, the split nearest to them. */
static void split_auto(search *s, int *end_layer, bool *fits) {
    s->within_budgets = true;
    s->max_total = UINT64_MAX;
    s->max_ratio = INFINITY;
    const double total = smallest_largest(s, false);
    *fits = isfinite(total);
    s->within_budgets = *fits;
    if (*fits)
        s->max_total = (uint64_t)total;
    s->max_ratio = smallest_largest(s, true);
    take_latest(s, end_layer);
}

/* Fill rank after rank up to its budget; what is left over stands on the last one that may hold anything. */
static void split_sequential(search *s, int *end_layer, bool *fits) {
    const int L = s->in->n_layers, P = s->in->n_ranks;
    int first = 0, last_open = 0;
    for (int r = 0; r < P; r++) {
        int end = first;
        while (end < L && s->in->budget_bytes[r] > 0 &&
               total_of(s, r, first, end + 1) <= s->in->budget_bytes[r])
            end++;
        end_layer[r] = end;
        first = end;
        if (s->in->budget_bytes[r] > 0)
            last_open = r;
    }
    *fits = first == L && total_of(s, 0, 0, end_layer[0]) <= s->in->budget_bytes[0];
    for (int r = last_open; first < L && r < P; r++)
        end_layer[r] = L;
}

/* Rank 0 takes the fewest layers that let the others fit; these split as auto. */
static cdp_status split_low_0(search *s, int *end_layer, bool *fits) {
    const cdp_split_input *in = s->in;
    for (int n = 0; n <= in->n_layers && in->n_ranks > 1; n++) {
        if (total_of(s, 0, 0, n) > in->budget_bytes[0])
            break;
        /* The same problem for the others, without a vocabulary. */
        cdp_split_input rest = *in;
        rest.n_layers = in->n_layers - n;
        rest.n_ranks = in->n_ranks - 1;
        rest.layer_bytes = in->layer_bytes + n;
        rest.vocab_bytes = 0;
        rest.budget_bytes = in->budget_bytes + 1;
        int ends[CDP_MAX_RANKS];
        /* Rank 0 of the rest counts as active even without layers; a budget of 0 leaves it out instead. */
        int skip = 0;
        while (skip < rest.n_ranks - 1 && rest.budget_bytes[skip] == 0)
            skip++;
        rest.n_ranks -= skip;
        rest.budget_bytes += skip;
        if (rest.n_layers > 0 && rest.budget_bytes[0] == 0)
            continue; /* nobody else may hold anything */
        if (rest.n_layers > 0)
            CDP_TRY(cdp_split(ends, fits, CDP_POLICY_AUTO, &rest));
        else
            *fits = true;
        if (!*fits)
            continue;
        end_layer[0] = n;
        for (int r = 1; r < in->n_ranks; r++)
            end_layer[r] = r - 1 < skip || rest.n_layers == 0 ? n : n + ends[r - 1 - skip];
        return CDP_OK;
    }
    split_auto(s, end_layer, fits);
    return CDP_OK;
}

static cdp_status check(const cdp_split_input *in) {
    if (in->n_ranks < 1 || in->n_ranks > CDP_MAX_RANKS)
        return cdp_fail(CDP_USAGE, "%d ranks, expected 1 to %d", in->n_ranks, CDP_MAX_RANKS);
    if (in->budget_bytes[0] == 0)
        return cdp_fail(CDP_USAGE, "the budget of rank 0 is 0, but rank 0 holds the vocabulary");
    return CDP_OK;
}

cdp_status cdp_split(int *end_layer, bool *fits_out, cdp_policy policy, const cdp_split_input *input) {
    CDP_TRY(check(input));
    const size_t cells = (size_t)(input->n_ranks + 1) * (size_t)(input->n_layers + 1);
    search s = {.in = input,
                .prefix = calloc((size_t)input->n_layers + 1, sizeof *s.prefix),
                .value = calloc(cells, sizeof *s.value),
                .reaches = calloc(cells, sizeof *s.reaches)};
    cdp_status st = CDP_OK;
    if (s.prefix == NULL || s.value == NULL || s.reaches == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory to split %d layers", input->n_layers);
        goto done;
    }
    for (int l = 0; l < input->n_layers; l++)
        s.prefix[l + 1] = s.prefix[l] + input->layer_bytes[l];
    if (policy == CDP_POLICY_SEQUENTIAL)
        split_sequential(&s, end_layer, fits_out);
    else if (policy == CDP_POLICY_BALANCED_LOW_0)
        st = split_low_0(&s, end_layer, fits_out);
    else
        split_auto(&s, end_layer, fits_out);
done:
    free(s.reaches);
    free(s.value);
    free(s.prefix);
    return st;
}

uint64_t cdp_split_total(const cdp_split_input *input, const int *end_layer, int rank) {
    const int first = rank > 0 ? end_layer[rank - 1] : 0;
    if (rank > 0 && first == end_layer[rank])
        return 0;
    uint64_t sum = input->fixed_bytes + (rank == 0 ? input->vocab_bytes : 0);
    for (int l = first; l < end_layer[rank]; l++)
        sum += input->layer_bytes[l];
    return sum;
}
