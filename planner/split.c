#include "planner/split.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/checked.h"

/* What the largest stage is measured by. */
typedef enum measure { BY_TIME, BY_TOTAL, BY_RATIO } measure;

/* One search over ranks first_rank.. and layers first_layer..: all of them, or what balanced_low_0 leaves to
 * the others. Prefix sums let a range of layers cost one subtraction. */
typedef struct search {
    const cdp_split_input *in;
    int first_rank, first_layer;
    uint64_t *prefix; /* (n_layers + 1) */
    double *value;    /* (n_ranks + 1, n_layers + 1): smallest largest stage when ranks below r hold layers
                         below l */
    bool *reaches;    /* (n_ranks + 1, n_layers + 1): ranks from r on can hold layers from l on */
    bool within_budgets;
    double max_time, max_total, max_ratio; /* what the searches so far allow */
} search;

static size_t cell(const search *s, int rank, int layer) {
    return (size_t)rank * (size_t)(s->in->n_layers + 1) + (size_t)layer;
}

/* A sum that overflows is larger than any memory. */
static uint64_t add(uint64_t a, uint64_t b) {
    uint64_t r;
    return cdp_add_u64(a, b, &r) ? r : UINT64_MAX;
}

/* Grows with every layer more. */
static uint64_t total_of(const search *s, int rank, int first, int end) {
    if (rank > 0 && first == end)
        return 0; /* idle: holds nothing */
    if (s->prefix[end] == UINT64_MAX)
        return UINT64_MAX;
    const uint64_t fixed = add(s->in->fixed_bytes, rank == 0 ? s->in->vocab_bytes : 0);
    return add(s->prefix[end] - s->prefix[first], fixed);
}

/* Milliseconds of the range on this rank; 0 where nothing was measured. */
static double time_of(const search *s, int rank, int first, int end) {
    if (s->in->layer_ms == NULL || (rank > 0 && first == end))
        return 0;
    return (end - first) * s->in->layer_ms[rank] + (rank == 0 ? s->in->vocab_ms : 0);
}

/* Beyond all bounds where the budget is 0: such a rank is never a choice. */
static double measured(const search *s, int rank, int first, int end, measure by) {
    const uint64_t budget = s->in->budget_bytes[rank], total = total_of(s, rank, first, end);
    if (by == BY_TIME)
        return time_of(s, rank, first, end);
    if (total == 0 || by == BY_TOTAL)
        return (double)total;
    return budget == 0 ? INFINITY : (double)total / (double)budget;
}

static bool may_hold(const search *s, int rank, int first, int end) {
    if (s->within_budgets && total_of(s, rank, first, end) > s->in->budget_bytes[rank])
        return false;
    return measured(s, rank, first, end, BY_TIME) <= s->max_time &&
           measured(s, rank, first, end, BY_TOTAL) <= s->max_total &&
           measured(s, rank, first, end, BY_RATIO) <= s->max_ratio;
}

/* The best that ranks up to `rank` can do with the layers below `end`. A range that grows downwards only gets
 * heavier, so the walk ends at the first one that is too heavy or no better. */
static double best_at(const search *s, int rank, int end, measure by) {
    double best = INFINITY;
    for (int first = end; first >= s->first_layer; first--) {
        const double own = measured(s, rank, first, end, by);
        if (own >= best || !may_hold(s, rank, first, end))
            break;
        const double before = s->value[cell(s, rank, first)];
        best = fmin(best, fmax(before, own));
    }
    return best;
}

/* The smallest largest stage over all splits within the bounds; infinite when there is none. */
static double smallest_largest(search *s, measure by) {
    for (int l = s->first_layer; l <= s->in->n_layers; l++)
        s->value[cell(s, s->first_rank, l)] = l == s->first_layer ? 0 : INFINITY;
    for (int r = s->first_rank; r < s->in->n_ranks; r++)
        for (int end = s->first_layer; end <= s->in->n_layers; end++)
            s->value[cell(s, r + 1, end)] = best_at(s, r, end, by);
    return s->value[cell(s, s->in->n_ranks, s->in->n_layers)];
}

/* From the last rank back: which layers can the ranks from r on take over within the bounds? */
static void find_reaches(search *s) {
    const int n_layers = s->in->n_layers;
    for (int l = 0; l <= n_layers; l++)
        s->reaches[cell(s, s->in->n_ranks, l)] = l == n_layers;
    for (int r = s->in->n_ranks - 1; r >= 0; r--)
        for (int first = 0; first <= n_layers; first++) {
            bool can = false;
            for (int end = first; end <= n_layers && !can; end++) {
                if (!may_hold(s, r, first, end))
                    break;
                can = s->reaches[cell(s, r + 1, end)];
            }
            s->reaches[cell(s, r, first)] = can;
        }
}

/* Among the splits within the bounds, the one with the fewest layers on the first rank, then on the next:
 * more layers on later ranks. */
static void take_latest(search *s, int *end_layer) {
    find_reaches(s);
    int first = s->first_layer;
    for (int r = s->first_rank; r < s->in->n_ranks; r++) {
        int end = first;
        while (end < s->in->n_layers && !s->reaches[cell(s, r + 1, end)])
            end++;
        end_layer[r] = first = end;
    }
}

/* Exact min-max; without a split within the budgets, the one nearest to them. */
static bool split_auto(search *s, int *end_layer) {
    s->within_budgets = true;
    s->max_time = s->max_total = s->max_ratio = INFINITY;
    if (s->in->layer_ms != NULL) {
        const double time = smallest_largest(s, BY_TIME);
        if (isfinite(time))
            s->max_time = time;
    }
    const double total = smallest_largest(s, BY_TOTAL);
    s->within_budgets = isfinite(total);
    if (s->within_budgets)
        s->max_total = total;
    s->max_ratio = smallest_largest(s, BY_RATIO);
    take_latest(s, end_layer);
    return s->within_budgets;
}

/* Fill rank after rank up to its budget. */
static bool split_sequential(search *s, int *end_layer) {
    s->within_budgets = true;
    s->max_time = s->max_total = s->max_ratio = INFINITY;
    int first = 0;
    bool fits = may_hold(s, 0, 0, 0);
    for (int r = 0; r < s->in->n_ranks; r++) {
        int end = first;
        while (end < s->in->n_layers && may_hold(s, r, first, end + 1))
            end++;
        end_layer[r] = first = end;
    }
    fits = fits && first == s->in->n_layers;
    return fits || split_auto(s, end_layer);
}

/* Rank 0 takes the fewest layers that let the others fit; these split as auto. More layers on rank 0 only
 * make it easier for the others, so the first number that works is the smallest. */
static bool split_low_0(search *s, int *end_layer) {
    s->within_budgets = true;
    s->max_time = s->max_total = s->max_ratio = INFINITY;
    find_reaches(s);
    int n = 0;
    while (n < s->in->n_layers && !s->reaches[cell(s, 1, n)])
        n++;
    if (!may_hold(s, 0, 0, n) || !s->reaches[cell(s, 1, n)])
        return split_auto(s, end_layer); /* nobody fits: show the nearest split of all */
    end_layer[0] = n;
    s->first_rank = 1;
    s->first_layer = n;
    return split_auto(s, end_layer);
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
    const size_t n_cells = (size_t)(input->n_ranks + 1) * (size_t)(input->n_layers + 1);
    search s = {.in = input,
                .prefix = calloc((size_t)input->n_layers + 1, sizeof *s.prefix),
                .value = calloc(n_cells, sizeof *s.value),
                .reaches = calloc(n_cells, sizeof *s.reaches)};
    cdp_status st = CDP_OK;
    if (s.prefix == NULL || s.value == NULL || s.reaches == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory to split %d layers", input->n_layers);
        goto done;
    }
    for (int l = 0; l < input->n_layers; l++)
        s.prefix[l + 1] = add(s.prefix[l], input->layer_bytes[l]);
    *fits_out = policy == CDP_POLICY_SEQUENTIAL       ? split_sequential(&s, end_layer)
                : policy == CDP_POLICY_BALANCED_LOW_0 ? split_low_0(&s, end_layer)
                                                      : split_auto(&s, end_layer);
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
    uint64_t sum = add(input->fixed_bytes, rank == 0 ? input->vocab_bytes : 0);
    for (int l = first; l < end_layer[rank]; l++)
        sum = add(sum, input->layer_bytes[l]);
    return sum;
}
