/* The plan's decisions: budgets, maps, KV blocks, the largest ctx and batch, and what a refusal advises. */
#include "planner/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/random.h"
#include "tests/unit/cards.h"

static const uint64_t GiB = UINT64_C(1) << 30;

/* What one test plans with: too large for a stack that counts. */
typedef struct bench {
    cdp_model_card card;
    cdp_plan_request request;
    cdp_plan plan;
} bench;

static bench *bench_open(int shape, int n_places, uint64_t free_bytes) {
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    test_card_fill(&b->card, &shapes[shape]);
    b->request = (cdp_plan_request){
        .n_places = n_places, .memory_fraction = 0.85, .device_map = "auto", .run = test_run(8192, 1)};
    for (int r = 0; r < n_places; r++) {
        snprintf(b->request.places[r].name, sizeof b->request.places[r].name, "cuda:%d", r);
        b->request.places[r].free_bytes = free_bytes;
    }
    cdp_error_clear();
    return b;
}

static cdp_status make(bench *b) {
    cdp_error_clear();
    return cdp_plan_make(&b->plan, &b->card, &b->request);
}

static bool fits(bench *b) {
    assert_int_equal(make(b), CDP_OK);
    return b->plan.fits;
}

static void set_budgets(bench *b, const char *text) {
    assert_int_equal(cdp_size_parse_list(b->request.budgets, CDP_MAX_RANKS, &b->request.n_budgets, text),
                     CDP_OK);
}

/* Whatever was asked: all that must hold of a plan. */
static void check_plan(const bench *b) {
    const cdp_plan *plan = &b->plan;
    int layer = 0, n_active = 0;
    uint64_t most = 0;
    assert_int_equal(plan->n_stages, b->request.n_places);
    assert_true(plan->n_blocks >= cdp_blocks_per_sequence(&plan->run));
    assert_int_equal(plan->run.n_ranks, b->request.max_ranks > 0 && b->request.max_ranks < plan->n_stages
                                            ? b->request.max_ranks
                                            : plan->n_stages);
    for (int r = 0; r < plan->n_stages; r++) {
        const cdp_stage_plan *s = &plan->stages[r];
        assert_int_equal(s->first_layer, layer);
        assert_true(s->end_layer >= s->first_layer);
        layer = s->end_layer;
        assert_int_equal(s->has_vocab, r == 0);
        assert_int_equal(s->is_idle, r > 0 && s->first_layer == s->end_layer);
        assert_string_equal(s->place.name, b->request.places[r].name);
        const cdp_stage_bytes nothing = {0},
                              bytes = cdp_memory_stage(&b->card, &plan->run, s->first_layer, s->end_layer,
                                                       s->has_vocab, plan->n_blocks);
        assert_memory_equal(&s->bytes, s->is_idle ? &nothing : &bytes, sizeof bytes);
        n_active += !s->is_idle;
        most = s->bytes.total > most ? s->bytes.total : most;
        if (plan->fits)
            assert_true(s->bytes.total <= s->budget_bytes);
    }
    assert_int_equal(layer, b->card.n_layers);
    assert_int_equal(plan->n_active, n_active);
    assert_true(cdp_n_slots(&plan->run) > n_active); /* rank 0 fills while the ring is full */
    assert_int_equal(plan->bottleneck_bytes, most);
}

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

/* As many KV blocks as the tightest stage holds, and no more than are of use. */
static void test_kv_blocks(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 3, 24 * GiB);
    b->request.run = test_run(8192, 8);
    assert_true(fits(b));
    assert_int_equal(b->plan.n_blocks, 8 * 512); /* all that 8 sequences can use */
    b->request.run.ctx = 8193;
    assert_true(fits(b));
    assert_int_equal(b->plan.n_blocks, 8 * 513);

    b->request.run.ctx = 8192;
    for (int r = 0; r < 3; r++)
        b->request.places[r].free_bytes = (uint64_t)(7.8 * 0x1p30);
    assert_true(fits(b));
    check_plan(b);
    assert_true(b->plan.n_blocks > 512 && b->plan.n_blocks < 8 * 512);
    /* One block more fits no split at all. */
    const int64_t most = b->plan.n_blocks;
    uint64_t need = 0;
    for (int first = 0; first <= 32; first++)
        for (int second = 0; first + second <= 32; second++) {
            uint64_t worst = 0;
            const int ends[] = {first, first + second, 32};
            for (int r = 0; r < 3; r++) {
                const int from = r > 0 ? ends[r - 1] : 0;
                const cdp_stage_bytes bytes =
                    cdp_memory_stage(&b->card, &b->plan.run, from, ends[r], r == 0, most + 1);
                if ((r == 0 || ends[r] > from) && bytes.total > worst)
                    worst = bytes.total;
            }
            need = need == 0 || worst < need ? worst : need;
        }
    assert_true(need > b->plan.stages[0].budget_bytes);
    free(b);
}

static void test_largest_ctx_and_batch(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 2, 0);
    for (int r = 0; r < 2; r++)
        b->request.places[r].free_bytes = (uint64_t)(10.5 * 0x1p30);
    b->request.run.ctx = 0;
    assert_true(fits(b));
    check_plan(b);
    const int ctx = b->plan.run.ctx;
    assert_true(ctx > 100 && ctx < b->card.max_positions);
    assert_int_equal(b->plan.n_blocks, (ctx + 15) / 16);
    b->request.run.ctx = ctx + 1;
    assert_false(fits(b));
    b->request.places[0].free_bytes = b->request.places[1].free_bytes = 24 * GiB;
    b->request.run.ctx = 0;
    assert_true(fits(b));
    assert_int_equal(b->plan.run.ctx, b->card.max_positions); /* more is of no use */

    b->request.run = test_run(2048, 0);
    assert_true(fits(b));
    const int batch = b->plan.run.max_batch;
    assert_true(batch > 1 && batch < 65536);
    assert_int_equal(b->plan.n_blocks, batch * 128);
    b->request.run.max_batch = batch + 1;
    assert_true(fits(b)); /* with fewer blocks than all could use */
    assert_true(b->plan.n_blocks < (batch + 1) * 128);
    b->request.run = test_run(0, 0);
    assert_true(fits(b));
    assert_int_equal(b->plan.run.ctx, b->card.max_positions);
    b->request.places[0].free_bytes = GiB;
    assert_false(fits(b));
    assert_int_equal(b->plan.run.ctx, 1);
    free(b);
}

/* batch and chat take what fits of the model's length; generate insists. */
static void test_ctx_as_a_wish(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 2, (uint64_t)(10.5 * 0x1p30));
    b->request.run = test_run(131072, 16);
    assert_false(fits(b));
    assert_int_equal(b->plan.run.ctx, 131072);
    b->request.ctx_is_limit = true;
    assert_true(fits(b));
    check_plan(b);
    const int ctx = b->plan.run.ctx;
    assert_true(ctx > 100 && ctx < 131072);
    assert_int_equal(b->plan.run.max_batch, 16);
    b->request.ctx_is_limit = false;
    b->request.run.ctx = ctx + 1;
    assert_false(fits(b));
    b->request.ctx_is_limit = true;
    b->request.run.ctx = 64; /* a wish that fits is taken as it is */
    assert_true(fits(b));
    assert_int_equal(b->plan.run.ctx, 64);
    b->request.places[0].free_bytes = 1000; /* nothing fits: the wish is what is refused */
    b->request.run.ctx = 131072;
    assert_false(fits(b));
    assert_int_equal(b->plan.run.ctx, 131072);
    free(b);
}

/* The number behind `word` in the message; 0 when it is not there. */
static double number_after(const char *word) {
    const char *at = strstr(cdp_error_message(), word);
    return at != NULL ? strtod(at + strlen(word), NULL) : 0;
}

/* Every value a refusal names does fit, and the next larger wish does not. */
static void test_advice_fits(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 2, 11 * GiB);
    b->request.run = test_run(65536, 1);
    assert_false(fits(b));
    assert_int_equal(cdp_plan_demand_fit(&b->plan, &b->card, &b->request), CDP_UNAVAILABLE);
    const char *message = cdp_error_message();
    for (int r = 0; r < 2; r++) {
        char rank[48];
        snprintf(rank, sizeof rank, "rank %d (cuda:%d", r, r);
        assert_non_null(strstr(message, rank));
    }
    assert_non_null(strstr(message, "short"));
    const int ctx = (int)number_after("--ctx "), more = (int)number_after("than is free), ");
    const double gib = number_after("--max-gpu-memory ");
    assert_int_equal((int)number_after("--gpu-memory-fraction "), 0); /* does not help: not named */
    assert_true(ctx > 0 && ctx < 65536 && gib > 11 && more > 0);

    b->request.run.ctx = ctx;
    assert_true(fits(b));
    b->request.run.ctx = ctx + 1;
    assert_false(fits(b));
    b->request.run.ctx = 65536;
    char budget[32];
    snprintf(budget, sizeof budget, "%.2fGiB", gib);
    set_budgets(b, budget);
    assert_true(fits(b));
    snprintf(budget, sizeof budget, "%.2fGiB", gib - 0.01);
    set_budgets(b, budget);
    assert_false(fits(b));
    b->request.n_budgets = 0;
    b->request.n_places = 2 + more;
    for (int r = 2; r < 2 + more; r++)
        b->request.places[r].free_bytes = 11 * GiB;
    assert_true(fits(b));
    b->request.n_places--;
    assert_false(fits(b));
    free(b);
}

static void test_advice_for_other_wants(void **state) {
    (void)state;
    bench *b = bench_open(LLAMA_3_8B, 3, (uint64_t)(7.2 * 0x1p30));
    b->request.memory_fraction = 0.8;
    b->request.run = test_run(1024, 1);
    assert_false(fits(b));
    assert_int_equal(cdp_plan_demand_fit(&b->plan, &b->card, &b->request), CDP_UNAVAILABLE);
    assert_true(number_after("--gpu-memory-fraction ") > 0.94);
    assert_non_null(strstr(cdp_error_message(), "1 more GPU with"));
    b->request.memory_fraction = number_after("--gpu-memory-fraction ");
    assert_true(fits(b));

    /* A batch so wide that its arrays alone are too much. */
    b->request.memory_fraction = 0.95;
    b->request.run = test_run(1024, 65536);
    assert_false(fits(b));
    assert_int_equal(cdp_plan_demand_fit(&b->plan, &b->card, &b->request), CDP_UNAVAILABLE);
    const int batch = (int)number_after("--max-batch ");
    assert_true(batch > 0);
    b->request.run.max_batch = batch;
    assert_true(fits(b));
    b->request.run.max_batch++;
    assert_false(fits(b));

    /* Many stages short: the line stays one line, the advice is not lost. */
    free(b);
    b = bench_open(LLAMA_2_70B, 64, GiB);
    assert_false(fits(b));
    assert_int_equal(cdp_plan_demand_fit(&b->plan, &b->card, &b->request), CDP_UNAVAILABLE);
    assert_non_null(strstr(cdp_error_message(), " more; try: "));
    assert_true(number_after("--max-gpu-memory ") > 0);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_gpus),
        cmocka_unit_test(test_same_question_same_plan),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_ranks_left_out),
        cmocka_unit_test(test_more_ranks_than_layers),
        cmocka_unit_test(test_wrong_requests),
        cmocka_unit_test(test_layer_counts),
        cmocka_unit_test(test_auto_beats_every_map),
        cmocka_unit_test(test_more_budget_breaks_nothing),
        cmocka_unit_test(test_kv_blocks),
        cmocka_unit_test(test_largest_ctx_and_batch),
        cmocka_unit_test(test_ctx_as_a_wish),
        cmocka_unit_test(test_advice_fits),
        cmocka_unit_test(test_advice_for_other_wants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
