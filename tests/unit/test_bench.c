/* What bench says a measurement moved and computed, against a count by hand of the llama of tests/golden.
 * What it catches: weights or cache that are not counted, or counted once a token instead of once a step, a
 * head that is charged for every row of a prompt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "launcher/jobs/bench.h"
#include "tests/support/data.h"

enum {
    LAYERS = 5,
    LAYER = 128 * 64 + 64 * 64 + 2 * 136 * 64 + 64 * 136, /* qkv, out, gate and up, down */
    LAYER_BYTES = 2 * LAYER + 2 * 64 * 4,                 /* and two norms in f32 */
    HEAD = 384 * 64,
    KV = 2 * 2 * 16 * 2, /* bytes of a token in a layer */
};

static cdp_model_card card;
static const cdp_run_shape run = {
    .dtype = CDP_BF16, .kv_dtype = CDP_BF16, .ctx = 64, .max_batch = 4, .chunk = 16, .n_ranks = 1};

static void check_bytes(const cdp_bench_test *test, double expected) {
    const double found = cdp_bench_bytes(&card, &run, test);
    if (found != expected)
        fail_msg("%s: %.0f bytes, expected %.0f", test->name, found, expected);
}

/* Norms count as products: a hundredth of layers as small as these. */
static void check_flop(const cdp_bench_test *test, double expected) {
    const double found = cdp_bench_flop(&card, &run, test);
    if (found < expected || found > 1.01 * expected)
        fail_msg("%s: %.0f operations, expected %.0f", test->name, found, expected);
}

static void test_decoding(void **state) {
    (void)state;
    const cdp_bench_test one = {.name = "tg", .n_answer = 4, .batch = 1, .n_steps = 4};
    const cdp_bench_test three = {.name = "tg", .n_answer = 4, .batch = 3, .n_steps = 4};
    const double weights = 4 * (LAYERS * LAYER_BYTES + 2 * HEAD), cache = LAYERS * KV * (1 + 2 + 3 + 4);
    check_bytes(&one, weights + cache);
    check_bytes(&three, weights + 3 * cache);
    check_flop(&one, 2.0 * 4 * (LAYERS * LAYER + HEAD));
    check_flop(&three, 3 * 2.0 * 4 * (LAYERS * LAYER + HEAD));
}

/* Behind 30 tokens each answer row looks back at them, and they are not in the window themselves. */
static void test_depth(void **state) {
    (void)state;
    const cdp_bench_test test = {.name = "tg", .n_answer = 2, .depth = 30, .batch = 1, .n_steps = 2};
    check_bytes(&test, 2 * (LAYERS * LAYER_BYTES + 2 * HEAD) + LAYERS * KV * (31 + 32));
    check_flop(&test, 2.0 * 2 * (LAYERS * LAYER + HEAD));
}

static void test_prompt(void **state) {
    (void)state;
    const cdp_bench_test test = {.name = "pp", .n_prompt = 40, .batch = 1, .n_steps = 3};
    check_bytes(&test, 3 * LAYERS * LAYER_BYTES + 2 * HEAD + LAYERS * KV * (16 + 32 + 40));
    check_flop(&test, 2.0 * (40 * LAYERS * LAYER + HEAD));
}

static void test_mixed(void **state) {
    (void)state;
    const cdp_bench_test test = {.name = "pg", .n_prompt = 20, .n_answer = 2, .batch = 1, .n_steps = 4};
    check_bytes(&test, 4 * LAYERS * LAYER_BYTES + 3 * 2 * HEAD + LAYERS * KV * (16 + 20 + 21 + 22));
    check_flop(&test, 2.0 * (22 * LAYERS * LAYER + 3 * HEAD));
}

/* A window of 8: the last rows of a chunk see 8 tokens, its first one looks back by 7. */
static void test_window(void **state) {
    (void)state;
    const cdp_bench_test prompt = {.name = "pp", .n_prompt = 40, .batch = 1, .n_steps = 3};
    const cdp_bench_test answer = {.name = "tg", .n_answer = 10, .batch = 1, .n_steps = 10};
    for (int i = 0; i < LAYERS; i++)
        card.layers[i].window = 8;
    check_bytes(&prompt, 3 * LAYERS * LAYER_BYTES + 2 * HEAD + LAYERS * KV * (16 + 23 + 15));
    check_bytes(&answer, 10 * (LAYERS * LAYER_BYTES + 2 * HEAD) + LAYERS * KV * (36 + 8 + 8));
    for (int i = 0; i < LAYERS; i++)
        card.layers[i].window = 0;
}

static void test_shares(void **state) {
    (void)state;
    cdp_plan *plan = calloc(1, sizeof *plan);
    plan->run = run;
    plan->n_active = 2;
    const cdp_run ran = {.card = &card, .plan = plan};
    const cdp_bench bench = {.run = &ran, .bytes_per_s = 1e9, .flop_per_s = 1e10};
    const cdp_bench_test test = {.name = "tg", .n_answer = 4, .batch = 3, .median = 24, .n_steps = 4};
    const cdp_bench_rates r = cdp_bench_rates_of(&bench, &test); /* 12 tokens in half a second */
    assert_true(r.bytes_per_s == 2 * cdp_bench_bytes(&card, &run, &test));
    assert_true(r.flop_per_s == 2 * cdp_bench_flop(&card, &run, &test));
    assert_true(r.of_stream == r.bytes_per_s / 2e9 && r.of_peak == r.flop_per_s / 2e10);
    free(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decoding), cmocka_unit_test(test_depth),
                                       cmocka_unit_test(test_prompt),   cmocka_unit_test(test_mixed),
                                       cmocka_unit_test(test_window),   cmocka_unit_test(test_shares)};
    if (cdp_model_card_read(&card, test_path("tests/golden/models/llama")) != CDP_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
