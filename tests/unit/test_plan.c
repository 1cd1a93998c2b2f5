/* The plan's decisions: budgets, ranks left out, layer counts, and auto against every map there is. */
#include "tests/unit/plan_bench.h"

#include <math.h>

#include "tests/support/random.h"

static void expect_layers(const bench *b, const int *counts) {
    for (int r = 0; r < b->plan.n_stages; r++)
        if (b->plan.stages[r].end_layer - b->plan.stages[r].first_layer != counts[r])
            fail_msg("rank %d holds layers %d to %d, expected %d of them", r, b->plan.stages[r].first_layer,
                     b->plan.stages[r].end_layer - 1, counts[r]);
}

static void test_three_gpus(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 3, 24 * GiB);
    assert_true(fits(b));
    check_plan(b);
    assert_int_equal(b->plan.n_active, 3);
    assert_int_equal(b->plan.n_blocks, 512);
    assert_int_equal(b->plan.stages[0].budget_bytes, (uint64_t)(0.85 * 24 * 0x1p30));
    assert_true(b->plan.stages[0].end_layer < 11); /* the vocabulary counts */
    assert_int_equal(cdp_plan_demand_fit(&b->plan, &b->card, &b->request), CDP_OK);
    assert_string_equal(cdp_error_message(), "");
    free(b);
}

static void test_same_question_same_plan(void **state) {
    (void)state;
    bench *a = bench_open(QWEN_7B, 4, 9 * GiB), *b = bench_open(QWEN_7B, 4, 9 * GiB);
    a->request.run.max_batch = b->request.run.max_batch = 64;
    assert_true(fits(a) && fits(b));
    assert_memory_equal(&a->plan, &b->plan, sizeof a->plan);
    free(a);
    free(b);
}

static void test_budgets(void **state) {
    (void)state;
    static const struct {
        const char *sizes;
        int max_ranks;
        uint64_t budgets[4];
    } rows[] = {
        {NULL, 0, {8000, 8000, 8000, 8000}}, /* 80% of 10000 */
        {"50%", 0, {5000, 5000, 5000, 5000}},
        {"7000", 0, {7000, 7000, 7000, 7000}},
        {"20000", 0, {20000, 20000, 20000, 20000}}, /* exact: not cut to what is free */
        {"1,50%,0,4", 0, {1, 5000, 0, 4}},
        {"2x10%,2x3", 0, {1000, 1000, 3, 3}},
        {NULL, 2, {8000, 8000, 0, 0}},
        {NULL, 9, {8000, 8000, 8000, 8000}},
        {"7,0,5,4", 2, {7, 0, 5, 0}}, /* the first two that are not left out */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bench *b = bench_open(LLAMA_32_1B, 4, 10000);
        b->request.memory_fraction = 0.8;
        b->request.max_ranks = rows[i].max_ranks;
        if (rows[i].sizes != NULL)
            set_budgets(b, rows[i].sizes);
        assert_false(fits(b));
        check_plan(b);
        for (int r = 0; r < 4; r++)
            assert_int_equal(b->plan.stages[r].budget_bytes, rows[i].budgets[r]);
        free(b);
    }
}

static void test_ranks_left_out(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 4, 24 * GiB);
    b->request.max_ranks = 2;
    assert_true(fits(b));
    check_plan(b);
    assert_int_equal(b->plan.n_active, 2);
    assert_true(b->plan.stages[2].is_idle && b->plan.stages[3].is_idle);
    b->request.max_ranks = 0;
    set_budgets(b, "20GiB,0,20GiB,0");
    assert_true(fits(b));
    check_plan(b);
    assert_true(b->plan.stages[1].is_idle && !b->plan.stages[2].is_idle && b->plan.stages[3].is_idle);
    b->request.device_map = "balanced_low_0"; /* the ends of the vocabulary alone, the rest past the gap */
    assert_true(fits(b));
    check_plan(b);
    expect_layers(b, (const int[]){0, 0, 32, 0});
    b->request.device_map = "sequential";
    assert_true(fits(b));
    expect_layers(b, (const int[]){32, 0, 0, 0});
    free(b);
}

static void test_more_ranks_than_layers(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_32_1B, 40, 24 * GiB);
    assert_true(fits(b));
    check_plan(b);
    assert_true(b->plan.n_active <= 17);
    free(b);
}

static void test_wrong_requests(void **state) {
    (void)state;
    static const struct {
        const char *map, *sizes;
        double fraction;
        int n_places, max_ranks;
        const char *holds;
    } rows[] = {
        {"auto", "1GiB,2GiB", 0.85, 3, 0, "lists 2 sizes for 3 ranks"},
        {"auto", "0", 0.85, 3, 0, "rank 0"},
        {"auto", "0%", 0.85, 3, 0, "rank 0"},
        {"auto", "0,1GiB,1GiB", 0.85, 3, 0, "rank 0"},
        {"auto", NULL, 0, 3, 0, "--gpu-memory-fraction"},
        {"auto", NULL, 1.5, 3, 0, "--gpu-memory-fraction"},
        {"auto", NULL, NAN, 3, 0, "--gpu-memory-fraction"},
        {"auto", NULL, 0.85, 0, 0, "0 places"},
        {"auto", NULL, 0.85, CDP_MAX_RANKS + 1, 0, "257 places"},
        {"best", NULL, 0.85, 3, 0, "\"best\", expected auto"},
        {"", NULL, 0.85, 3, 0, "expected auto"},
        {"a\nb", NULL, 0.85, 3, 0, "a\\x0Ab"},
        {"10,12", NULL, 0.85, 3, 0, "2 counts with 22 layers, expected 3 counts with 32"},
        {"10,12,9", NULL, 0.85, 3, 0, "3 counts with 31 layers"},
        {"10,12,10,0", NULL, 0.85, 3, 0, "expected 3 layer counts"},
        {"33,0,0", NULL, 0.85, 3, 0, "up to 32"},
        {"99999999999999999999,0,0", NULL, 0.85, 3, 0, "up to 32"},
        {"10,12,10,", NULL, 0.85, 3, 0, "expected 3 layer counts"},
        {"10,,22", NULL, 0.85, 3, 0, "expected 3 layer counts"},
        {",16,16", NULL, 0.85, 3, 0, "expected 3 layer counts"},
        {"10,12,-10", NULL, 0.85, 3, 0, "expected auto"},
        {"10,12,10", NULL, 0.85, 3, 2, "uses 3 ranks, --num-gpus 2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bench *b = bench_open(LLAMA_3_8B, 3, 24 * GiB);
        b->request.n_places = rows[i].n_places;
        b->request.device_map = rows[i].map;
        b->request.memory_fraction = rows[i].fraction;
        b->request.max_ranks = rows[i].max_ranks;
        if (rows[i].sizes != NULL)
            set_budgets(b, rows[i].sizes);
        if (make(b) != CDP_USAGE || strstr(cdp_error_message(), rows[i].holds) == NULL)
            fail_msg("row %zu said \"%s\", expected \"%s\"", i, cdp_error_message(), rows[i].holds);
        free(b);
    }
}

/* One row less than MPI's int holds, and one more: of the chunk, of the batch, of what is tapped. */
static void test_message_limit(void **state) {
    (void)state;
    static const struct {
        int chunk, max_batch, n_taps;
        bool is_refused;
    } rows[] = {{32767, 1, 0, false},  {32768, 1, 0, true}, {128, 32767, 0, false},
                {128, 32768, 0, true}, {8, 4096, 6, false}, {8, 4096, 7, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bench *b = bench_open(LLAMA_3_8B, 2, 8192 * GiB);
        b->card.hidden = 16384;
        b->request.run = test_run(64, rows[i].max_batch);
        b->request.run.dtype = CDP_F32;
        b->request.run.chunk = rows[i].chunk;
        b->request.run.n_taps = rows[i].n_taps;
        const cdp_status st = make(b);
        if (st != (rows[i].is_refused ? CDP_USAGE : CDP_OK) ||
            (rows[i].is_refused && strstr(cdp_error_message(), "a message of 2.00 GiB") == NULL))
            fail_msg("row %zu: %d, %s", i, (int)st, cdp_error_message());
        free(b);
    }
}

static void test_layer_counts(void **state) {
    (void)state;
    static const struct {
        const char *map;
        int counts[3];
    } rows[] = {
        {"10,12,10", {10, 12, 10}}, {"0,16,16", {0, 16, 16}}, {"32,0,0", {32, 0, 0}},
        {"1,0,31", {1, 0, 31}},     {"0,0,32", {0, 0, 32}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bench *b = bench_open(LLAMA_3_8B, 3, 30 * GiB);
        b->request.device_map = rows[i].map;
        assert_true(fits(b));
        check_plan(b);
        expect_layers(b, rows[i].counts);
        assert_string_equal(b->plan.policy, rows[i].map);
        free(b);
    }
    bench *b = bench_open(LLAMA_3_8B, 3, 10 * GiB);
    b->request.device_map = "30,1,1";
    assert_false(fits(b));
    check_plan(b);
    expect_layers(b, (const int[]){30, 1, 1}); /* shown as asked, refused by demand_fit */
    assert_int_equal(cdp_plan_demand_fit(&b->plan, &b->card, &b->request), CDP_UNAVAILABLE);
    assert_non_null(strstr(cdp_error_message(), "--device-map auto"));
    free(b);
}

/* auto's largest stage against every map there is, idle ranks included. */
static void test_auto_beats_every_map(void **state) {
    (void)state;
    static const uint64_t chances[][3] = {{4, 4, 4}, {4, 2, 3}, {2, 4, 3}, {3, 0, 3}};
    for (size_t i = 0; i < sizeof chances / sizeof chances[0]; i++) {
        bench *b = bench_open(LLAMA_32_1B, 3, 0);
        b->request.run.chunk = 64;
        for (int r = 0; r < 3; r++)
            b->request.places[r].free_bytes = chances[i][r] * GiB;
        assert_true(fits(b));
        const uint64_t best = b->plan.bottleneck_bytes;
        for (int first = 0; first <= 16; first++)
            for (int second = 0; first + second <= 16; second++) {
                char map[48];
                snprintf(map, sizeof map, "%d,%d,%d", first, second, 16 - first - second);
                b->request.device_map = map;
                if (fits(b))
                    assert_true(b->plan.bottleneck_bytes >= best);
            }
        static const char *const words[] = {"balanced", "balanced_low_0", "sequential"};
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            b->request.device_map = words[k];
            assert_true(fits(b));
            check_plan(b);
            assert_true(b->plan.bottleneck_bytes >= best);
        }
        free(b);
    }
}

/* More of anything never breaks a plan that fits; all policies fit or none. */
static void test_more_budget_breaks_nothing(void **state) {
    (void)state;
    test_random rng = {5};
    int n_fitting = 0;
    for (int i = 0; i < 400; i++) {
        bench *b = bench_open(LLAMA_32_1B, 1 + test_random_below(&rng, 5), 0);
        b->request.memory_fraction = 1;
        b->request.run = test_run(16 << test_random_below(&rng, 12), 1 + test_random_below(&rng, 20));
        for (int r = 0; r < b->request.n_places; r++)
            b->request.places[r].free_bytes =
                r > 0 && test_random_below(&rng, 4) == 0 ? 0 : test_random_u64(&rng) % (4 * GiB) + 1;
        const bool before = fits(b);
        const int64_t blocks = b->plan.n_blocks;
        check_plan(b);
        static const char *const words[] = {"balanced", "balanced_low_0", "sequential", "auto"};
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            b->request.device_map = words[k];
            assert_int_equal(fits(b), before);
            assert_int_equal(b->plan.n_blocks, blocks);
        }
        b->request.places[test_random_below(&rng, b->request.n_places)].free_bytes +=
            test_random_u64(&rng) % (GiB / 4);
        const bool after = fits(b);
        assert_true(after || !before);
        assert_true(!before || b->plan.n_blocks >= blocks);
        n_fitting += before;
        free(b);
    }
    assert_true(n_fitting > 80 && n_fitting < 320);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_gpus),
        cmocka_unit_test(test_same_question_same_plan),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_ranks_left_out),
        cmocka_unit_test(test_more_ranks_than_layers),
        cmocka_unit_test(test_message_limit),
        cmocka_unit_test(test_wrong_requests),
        cmocka_unit_test(test_layer_counts),
        cmocka_unit_test(test_auto_beats_every_map),
        cmocka_unit_test(test_more_budget_breaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
