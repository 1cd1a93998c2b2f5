/* The split against brute force, and its properties on random problems. */
#include "tests/unit/split_bench.h"

#include <math.h>

#include "tests/support/random.h"

/* What a split is judged by: within budget or not, largest total, largest share, then the layers. */
typedef struct score {
    bool fits;
    uint64_t total;
    double ratio;
} score;

static score score_of(const problem *p, const int *ends, int from_rank) {
    score s = {.fits = true};
    for (int r = 0; r < p->in.n_ranks; r++) {
        const uint64_t total = cdp_split_total(&p->in, ends, r);
        const uint64_t budget = p->budgets[r];
        const double ratio = total == 0 ? 0 : budget == 0 ? INFINITY : (double)total / (double)budget;
        s.fits = s.fits && total <= budget;
        if (r < from_rank)
            continue;
        s.total = total > s.total ? total : s.total;
        s.ratio = fmax(s.ratio, ratio);
    }
    return s;
}

/* Is `a` the better split? Equal in all else: fewer layers on the earlier ranks. */
static bool is_better(const problem *p, const int *a, const int *b, int from_rank) {
    const score x = score_of(p, a, from_rank), y = score_of(p, b, from_rank);
    if (x.fits != y.fits)
        return x.fits;
    if (x.fits && x.total != y.total)
        return x.total < y.total;
    if (x.ratio != y.ratio)
        return x.ratio < y.ratio;
    for (int r = 0; r < p->in.n_ranks; r++)
        if (a[r] != b[r])
            return a[r] < b[r];
    return false;
}

/* Every split there is, the best kept: the truth that auto is compared with. */
static void try_all(const problem *p, int rank, int first, int *ends, int *best, bool *has_best) {
    if (rank == p->in.n_ranks - 1) {
        ends[rank] = p->in.n_layers;
        if (!*has_best || is_better(p, ends, best, 0))
            memcpy(best, ends, (size_t)p->in.n_ranks * sizeof *best);
        *has_best = true;
        return;
    }
    for (ends[rank] = first; ends[rank] <= p->in.n_layers; ends[rank]++) {
        const int end = ends[rank];
        try_all(p, rank + 1, end, ends, best, has_best);
        ends[rank] = end;
    }
}

/* balanced_low_0 by its sentence: the fewest layers on rank 0 that let the rest fit, the rest as auto. */
static void try_low_0(const problem *p, int rank, int first, int *ends, int *best, bool *has_best) {
    if (rank == p->in.n_ranks - 1) {
        ends[rank] = p->in.n_layers;
        if (!score_of(p, ends, 0).fits)
            return;
        if (!*has_best || ends[0] < best[0] || (ends[0] == best[0] && is_better(p, ends, best, 1)))
            memcpy(best, ends, (size_t)p->in.n_ranks * sizeof *best);
        *has_best = true;
        return;
    }
    for (ends[rank] = first; ends[rank] <= p->in.n_layers; ends[rank]++) {
        const int end = ends[rank];
        try_low_0(p, rank + 1, end, ends, best, has_best);
        ends[rank] = end;
    }
}

static problem random_problem(test_random *rng, int most_layers, int most_ranks) {
    problem p = {.in = {.n_layers = 1 + test_random_below(rng, most_layers),
                        .n_ranks = 1 + test_random_below(rng, most_ranks),
                        .vocab_bytes = (uint64_t)test_random_below(rng, 30),
                        .fixed_bytes = (uint64_t)test_random_below(rng, 6)}};
    const bool all_alike = test_random_below(rng, 2) == 0;
    const int wide = 20 + test_random_below(rng, 24 * p.in.n_layers);
    for (int l = 0; l < p.in.n_layers; l++)
        p.layers[l] = all_alike && l > 0 ? p.layers[0] : 1 + (uint64_t)test_random_below(rng, 20);
    for (int r = 0; r < p.in.n_ranks; r++)
        p.budgets[r] =
            r > 0 && test_random_below(rng, 5) == 0 ? 0 : 1 + (uint64_t)test_random_below(rng, wide);
    return p;
}

static void test_auto_is_the_best_of_all(void **state) {
    (void)state;
    test_random rng = {1};
    int n_fitting = 0;
    for (int i = 0; i < 4000; i++) {
        problem p = random_problem(&rng, 7, 4);
        int found[MAX_RANKS], ends[MAX_RANKS], best[MAX_RANKS];
        bool has_best = false;
        const bool fits = split(&p, CDP_POLICY_AUTO, found);
        try_all(&p, 0, 0, ends, best, &has_best);
        assert_int_equal(fits, score_of(&p, best, 0).fits);
        expect_ends(&p, found, best, "auto");
        n_fitting += fits;
    }
    assert_true(n_fitting > 800 && n_fitting < 3200); /* both halves are tried */
}

static void test_low_0_is_the_best_of_all(void **state) {
    (void)state;
    test_random rng = {2};
    for (int i = 0; i < 4000; i++) {
        problem p = random_problem(&rng, 7, 4);
        int found[MAX_RANKS], ends[MAX_RANKS], best[MAX_RANKS];
        bool has_best = false;
        const bool fits = split(&p, CDP_POLICY_BALANCED_LOW_0, found);
        try_low_0(&p, 0, 0, ends, best, &has_best);
        assert_int_equal(fits, has_best);
        if (fits)
            expect_ends(&p, found, best, "balanced_low_0");
    }
}

/* No rank takes a layer while the one before it has room for it. */
static void test_sequential_fills_in_order(void **state) {
    (void)state;
    test_random rng = {3};
    for (int i = 0; i < 4000; i++) {
        problem p = random_problem(&rng, 12, 5);
        int ends[MAX_RANKS];
        if (!split(&p, CDP_POLICY_SEQUENTIAL, ends))
            continue;
        for (int r = 0; r + 1 < p.in.n_ranks; r++) {
            int more[MAX_RANKS];
            memcpy(more, ends, sizeof more);
            more[r]++;
            for (int k = r + 1; k < p.in.n_ranks; k++)
                more[k] = more[k] < more[r] ? more[r] : more[k];
            if (ends[r] < p.in.n_layers && cdp_split_total(&p.in, more, r) <= p.budgets[r])
                expect_ends(&p, ends, more, "sequential leaves room");
        }
    }
}

static void check_is_split(const problem *p, const int *ends, bool fits) {
    int first = 0;
    for (int r = 0; r < p->in.n_ranks; r++) {
        assert_true(ends[r] >= first && ends[r] <= p->in.n_layers);
        if (fits)
            assert_true(cdp_split_total(&p->in, ends, r) <= p->budgets[r]);
        if (p->budgets[r] == 0)
            assert_int_equal(ends[r], first);
        first = ends[r];
    }
    assert_int_equal(first, p->in.n_layers); /* every layer once, in order */
}

static void test_properties(void **state) {
    (void)state;
    test_random rng = {4};
    for (int i = 0; i < 3000; i++) {
        problem p = random_problem(&rng, 40, MAX_RANKS);
        int ends[MAX_RANKS], others[MAX_RANKS], again[MAX_RANKS];
        const bool fits = split(&p, CDP_POLICY_AUTO, ends);
        check_is_split(&p, ends, fits);
        assert_int_equal(split(&p, CDP_POLICY_AUTO, again), fits);
        expect_ends(&p, again, ends, "the same question again");
        for (size_t k = 1; k < sizeof policies / sizeof policies[0]; k++) {
            assert_int_equal(split(&p, policies[k], others), fits); /* all fit or none */
            check_is_split(&p, others, fits);
            if (fits)
                assert_true(bottleneck(&p, ends) <= bottleneck(&p, others));
            else
                expect_ends(&p, others, ends, "all four are alike where none fits");
        }
        p.budgets[test_random_below(&rng, p.in.n_ranks)] += (uint64_t)test_random_below(&rng, 9);
        for (size_t k = 0; fits && k < sizeof policies / sizeof policies[0]; k++)
            assert_true(split(&p, policies[k], ends)); /* more budget breaks nothing */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_is_the_best_of_all),
        cmocka_unit_test(test_low_0_is_the_best_of_all),
        cmocka_unit_test(test_sequential_fills_in_order),
        cmocka_unit_test(test_properties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
