/* The split by name: published bottlenecks of real shapes, and the corners. */
#include "tests/unit/split_bench.h"

#include <math.h>

#include "tests/unit/cards.h"

/* Both ends of the vocabulary on rank 0, weights alone: the smallest equal budget, GiB. */
static void test_published_bottlenecks(void **state) {
    (void)state;
    static const struct {
        int shape, n_ranks;
        double gib, step;
        int counts[4];
    } rows[] = {
        {LLAMA_2_7B, 2, 6.41, 0.01, {15, 17}},       {LLAMA_2_7B, 3, 4.26, 0.01, {10, 11, 11}},
        {LLAMA_2_7B, 4, 3.39, 0.01, {5, 9, 9, 9}},   {LLAMA_3_8B, 2, 7.65, 0.01, {14, 18}},
        {LLAMA_3_8B, 3, 5.21, 0.01, {8, 12, 12}},    {LLAMA_3_8B, 4, 3.99, 0.01, {5, 9, 9, 9}},
        {QWEN_7B, 2, 7.24, 0.01, {12, 16}},          {QWEN_7B, 3, 4.78, 0.01, {6, 11, 11}},
        {QWEN_7B, 4, 3.77, 0.01, {4, 8, 8, 8}},      {LLAMA_2_70B, 2, 64.73, 0.01, {40, 40}},
        {LLAMA_2_70B, 3, 43.03, 0.01, {26, 27, 27}}, {LLAMA_2_70B, 4, 32.85, 0.01, {20, 20, 20, 20}},
        {TOOLGEN_8B, 2, 7.96, 0.01, {13, 19}},       {TOOLGEN_8B, 3, 5.28, 0.01, {6, 13, 13}},
        {QWEN_05B, 2, 0.472, 0.001, {7, 17}},        {QWEN_05B, 3, 0.309, 0.001, {2, 11, 11}},
        {LLAMA_32_1B, 2, 1.169, 0.001, {6, 10}},     {LLAMA_32_1B, 3, 0.793, 0.001, {2, 7, 7}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cdp_model_card card;
        const cdp_run_shape run = test_run(8192, 1);
        problem p = {.in = {.n_ranks = rows[i].n_ranks}};
        int ends[MAX_RANKS];
        test_card_fill(&card, &shapes[rows[i].shape]);
        p.in.n_layers = card.n_layers;
        p.in.vocab_bytes = cdp_vocab_weight_bytes(&card, &run);
        for (int l = 0; l < card.n_layers; l++)
            p.layers[l] = cdp_layer_weight_bytes(&card, &run, l);
        for (int r = 0; r < p.in.n_ranks; r++)
            p.budgets[r] = UINT64_C(1) << 40;
        assert_true(split(&p, CDP_POLICY_AUTO, ends));
        const uint64_t most = bottleneck(&p, ends);
        assert_true(fabs((double)most / 0x1p30 - rows[i].gib) < rows[i].step * 0.51);
        /* The published split has the same bottleneck; a budget one byte smaller has none. */
        int published[4], end = 0;
        for (int r = 0; r < p.in.n_ranks; r++)
            published[r] = end += rows[i].counts[r];
        assert_int_equal(bottleneck(&p, published), most);
        for (int r = 0; r < p.in.n_ranks; r++)
            p.budgets[r] = most;
        for (size_t k = 0; k < sizeof policies / sizeof policies[0]; k++)
            assert_true(split(&p, policies[k], ends));
        for (int r = 0; r < p.in.n_ranks; r++)
            p.budgets[r] = most - 1;
        for (size_t k = 0; k < sizeof policies / sizeof policies[0]; k++)
            assert_false(split(&p, policies[k], ends));
    }
}

typedef struct split_case {
    const char *name;
    problem p; /* layers: n_layers of 10 where the list is empty */
    cdp_policy policy;
    bool fits;
    int ends[MAX_RANKS];
} split_case;

/* clang-format off */
static const split_case cases[] = {
    {"one rank", {.in = {.n_layers = 4, .n_ranks = 1, .vocab_bytes = 5}, .budgets = {45}},
     CDP_POLICY_AUTO, true, {4}},
    {"one rank, one byte short", {.in = {.n_layers = 4, .n_ranks = 1, .vocab_bytes = 5}, .budgets = {44}},
     CDP_POLICY_AUTO, false, {4}},
    {"equal stages, the odd layers late", {.in = {.n_layers = 8, .n_ranks = 3}, .budgets = {99, 99, 99}},
     CDP_POLICY_AUTO, true, {2, 5, 8}},
    {"the vocabulary counts on rank 0", {.in = {.n_layers = 8, .n_ranks = 3, .vocab_bytes = 10}, .budgets = {99, 99, 99}},
     CDP_POLICY_AUTO, true, {2, 5, 8}},
    {"a heavy vocabulary stays alone, the others stay below it", {.in = {.n_layers = 8, .n_ranks = 3, .vocab_bytes = 60}, .budgets = {99, 99, 99}},
     CDP_POLICY_AUTO, true, {0, 2, 8}},
    {"unequal GPUs: equal totals where they fit", {.in = {.n_layers = 9, .n_ranks = 3}, .budgets = {90, 30, 45}},
     CDP_POLICY_AUTO, true, {3, 6, 9}},
    {"unequal GPUs: a small one in the middle", {.in = {.n_layers = 9, .n_ranks = 3}, .budgets = {90, 15, 60}},
     CDP_POLICY_AUTO, true, {4, 5, 9}},
    {"equal totals: the smaller share wins", {.in = {.n_layers = 3, .n_ranks = 2}, .budgets = {100, 20}},
     CDP_POLICY_AUTO, true, {2, 3}},
    {"a layer fits nowhere", {.in = {.n_layers = 3, .n_ranks = 3}, .layers = {10, 50, 10}, .budgets = {40, 40, 40}},
     CDP_POLICY_AUTO, false, {1, 2, 3}},
    {"a layer fits the last one alone", {.in = {.n_layers = 3, .n_ranks = 3}, .layers = {10, 10, 50}, .budgets = {40, 40, 55}},
     CDP_POLICY_AUTO, true, {0, 2, 3}},
    {"a GPU left out", {.in = {.n_layers = 6, .n_ranks = 3}, .budgets = {99, 0, 99}},
     CDP_POLICY_AUTO, true, {3, 3, 6}},
    {"the last GPU left out", {.in = {.n_layers = 6, .n_ranks = 3}, .budgets = {99, 99, 0}},
     CDP_POLICY_AUTO, true, {3, 6, 6}},
    {"more ranks than layers", {.in = {.n_layers = 2, .n_ranks = 5}, .budgets = {99, 99, 99, 99, 99}},
     CDP_POLICY_AUTO, true, {0, 0, 0, 1, 2}},
    {"a rank too small for anything", {.in = {.n_layers = 4, .n_ranks = 3, .fixed_bytes = 5}, .budgets = {99, 3, 99}},
     CDP_POLICY_AUTO, true, {2, 2, 4}},
    {"low_0: nothing but the vocabulary on rank 0", {.in = {.n_layers = 6, .n_ranks = 3, .vocab_bytes = 5}, .budgets = {99, 99, 99}},
     CDP_POLICY_BALANCED_LOW_0, true, {0, 3, 6}},
    {"low_0: what the others cannot hold", {.in = {.n_layers = 6, .n_ranks = 3, .vocab_bytes = 5}, .budgets = {99, 20, 20}},
     CDP_POLICY_BALANCED_LOW_0, true, {2, 4, 6}},
    {"low_0: a GPU left out in the middle", {.in = {.n_layers = 6, .n_ranks = 3}, .budgets = {100, 0, 100}},
     CDP_POLICY_BALANCED_LOW_0, true, {0, 0, 6}},
    {"low_0: the first of the others left out", {.in = {.n_layers = 6, .n_ranks = 4}, .budgets = {99, 0, 40, 40}},
     CDP_POLICY_BALANCED_LOW_0, true, {0, 0, 3, 6}},
    {"low_0: all others left out", {.in = {.n_layers = 6, .n_ranks = 3}, .budgets = {99, 0, 0}},
     CDP_POLICY_BALANCED_LOW_0, true, {6, 6, 6}},
    {"low_0: the first of the others too small", {.in = {.n_layers = 6, .n_ranks = 3, .fixed_bytes = 5}, .budgets = {99, 2, 99}},
     CDP_POLICY_BALANCED_LOW_0, true, {0, 0, 6}},
    {"low_0: alone", {.in = {.n_layers = 6, .n_ranks = 1}, .budgets = {99}},
     CDP_POLICY_BALANCED_LOW_0, true, {6}},
    {"low_0: the vocabulary does not fit", {.in = {.n_layers = 6, .n_ranks = 2, .vocab_bytes = 50}, .budgets = {40, 99}},
     CDP_POLICY_BALANCED_LOW_0, false, {0, 6}},
    {"sequential: all on rank 0", {.in = {.n_layers = 6, .n_ranks = 3}, .budgets = {60, 60, 60}},
     CDP_POLICY_SEQUENTIAL, true, {6, 6, 6}},
    {"sequential: over the brim", {.in = {.n_layers = 6, .n_ranks = 3, .vocab_bytes = 5}, .budgets = {39, 20, 60}},
     CDP_POLICY_SEQUENTIAL, true, {3, 5, 6}},
    {"sequential: past a GPU left out", {.in = {.n_layers = 6, .n_ranks = 3}, .budgets = {30, 0, 60}},
     CDP_POLICY_SEQUENTIAL, true, {3, 3, 6}},
    {"sequential: the vocabulary alone", {.in = {.n_layers = 3, .n_ranks = 2, .vocab_bytes = 15}, .budgets = {20, 60}},
     CDP_POLICY_SEQUENTIAL, true, {0, 3}},
};
/* clang-format on */

static void test_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        problem p = cases[i].p;
        int ends[MAX_RANKS];
        for (int l = 0; p.layers[0] == 0 && l < p.in.n_layers; l++)
            p.layers[p.in.n_layers - 1 - l] = 10;
        const bool fits = split(&p, cases[i].policy, ends);
        expect_ends(&p, ends, cases[i].ends, cases[i].name);
        if (fits != cases[i].fits)
            fail_msg("%s: fits is %d", cases[i].name, fits);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const uint64_t layers[] = {1, 1};
    uint64_t budgets[CDP_MAX_RANKS + 1] = {0, 10};
    int ends[CDP_MAX_RANKS + 1];
    bool fits;
    cdp_split_input in = {.n_layers = 2, .n_ranks = 2, .layer_bytes = layers, .budget_bytes = budgets};
    for (size_t k = 0; k < sizeof policies / sizeof policies[0]; k++) {
        cdp_error_clear();
        assert_int_equal(cdp_split(ends, &fits, policies[k], &in), CDP_USAGE);
        assert_non_null(strstr(cdp_error_message(), "rank 0"));
    }
    budgets[0] = 10;
    static const int wrong[] = {0, -1, CDP_MAX_RANKS + 1};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        in.n_ranks = wrong[i];
        assert_int_equal(cdp_split(ends, &fits, CDP_POLICY_AUTO, &in), CDP_USAGE);
    }
}

/* Sums beyond 64 bits are too large, not small. */
static void test_overflow(void **state) {
    (void)state;
    problem p = {.in = {.n_layers = 3, .n_ranks = 2, .vocab_bytes = 7, .fixed_bytes = 9},
                 .layers = {UINT64_MAX - 5, UINT64_MAX / 2, UINT64_MAX - 5},
                 .budgets = {UINT64_C(1) << 60, UINT64_C(1) << 60}};
    int ends[MAX_RANKS];
    for (size_t k = 0; k < sizeof policies / sizeof policies[0]; k++) {
        assert_false(split(&p, policies[k], ends));
        assert_int_equal(ends[1], 3);
    }
    assert_true(cdp_split_total(&p.in, (const int[]){3, 3}, 0) == UINT64_MAX);
}

/* The largest problem there is stays a matter of moments. */
static void test_large(void **state) {
    (void)state;
    enum { LAYERS = 1024 };
    static uint64_t layers[LAYERS], budgets[CDP_MAX_RANKS];
    static int ends[CDP_MAX_RANKS];
    bool fits;
    for (int l = 0; l < LAYERS; l++)
        layers[l] = 1000;
    for (int r = 0; r < CDP_MAX_RANKS; r++)
        budgets[r] = 5000;
    const cdp_split_input in = {.n_layers = LAYERS,
                                .n_ranks = CDP_MAX_RANKS,
                                .layer_bytes = layers,
                                .vocab_bytes = 900,
                                .fixed_bytes = 100,
                                .budget_bytes = budgets};
    assert_int_equal(cdp_split(ends, &fits, CDP_POLICY_AUTO, &in), CDP_OK);
    assert_true(fits);
    assert_int_equal(ends[CDP_MAX_RANKS - 1], LAYERS);
    assert_int_equal(cdp_split_total(&in, ends, CDP_MAX_RANKS - 1), 4100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_bottlenecks),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
