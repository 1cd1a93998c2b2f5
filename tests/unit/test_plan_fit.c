/* What fits: KV blocks, the largest ctx and batch, and what a refusal advises. */
#include "tests/unit/plan_bench.h"

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
        cmocka_unit_test(test_kv_blocks),
        cmocka_unit_test(test_largest_ctx_and_batch),
        cmocka_unit_test(test_ctx_as_a_wish),
        cmocka_unit_test(test_advice_fits),
        cmocka_unit_test(test_advice_for_other_wants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
