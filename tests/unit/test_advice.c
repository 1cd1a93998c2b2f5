/* What a report says about a split: figures put in by hand, sentences checked.
 *
 * What it catches: advice that moves layers the wrong way, into a stage without room, or that promises a gain
 * the figures do not hold; a healthy rank called slow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/advice.h"

/* A stage of n layers of layer_ms each, 100 steps in 10 s. */
static cdp_stage_load stage(int rank, int n_layers, double layer_ms, double head_ms) {
    return (cdp_stage_load){.rank = rank,
                            .n_layers = n_layers,
                            .n_room = 100,
                            .layers_s = 100 * n_layers * layer_ms * 1e-3,
                            .head_s = 100 * head_ms * 1e-3,
                            .total_s = 10,
                            .n_steps = 100};
}

static void test_move(void **state) {
    (void)state;
    cdp_move move;
    /* 14 + 10 layers of 2 ms: two from the first to the second make 12 + 12, 28 ms -> 24 ms. */
    cdp_stage_load two[] = {stage(0, 14, 2, 0), stage(1, 10, 2, 0)};
    assert_float_equal(cdp_best_move(&move, two, 2), 28.0 / 24 - 1, 1e-6);
    assert_true(move.from == 0 && move.to == 1 && move.n_layers == 2);
    /* The head counts: 8 ms of it are worth four layers. */
    two[0] = stage(0, 10, 2, 8);
    assert_float_equal(cdp_best_move(&move, two, 2), 28.0 / 24 - 1, 1e-6);
    assert_true(move.from == 0 && move.to == 1 && move.n_layers == 2);
    /* No room: one layer is all that fits, then none. */
    two[1].n_room = 1;
    assert_float_equal(cdp_best_move(&move, two, 2), 28.0 / 26 - 1, 1e-6);
    two[1].n_room = 0;
    assert_float_equal(cdp_best_move(&move, two, 2), 0, 1e-6);
    /* A slow device: its layers cost three times as much. 8 x 6 and 16 x 2: 3 away, 5 x 6 = 30, 19 x 2 = 38.
     */
    two[0] = stage(0, 8, 6, 0);
    two[1] = stage(1, 16, 2, 0);
    assert_float_equal(cdp_best_move(&move, two, 2), 48.0 / 36 - 1, 1e-6);
    assert_true(move.from == 0 && move.to == 1 && move.n_layers == 2);
    /* Over a stage in between, and never from one that would be left with nothing. */
    cdp_stage_load three[] = {stage(0, 12, 2, 0), stage(1, 9, 2, 0), stage(2, 6, 2, 0)};
    assert_float_equal(cdp_best_move(&move, three, 3), 24.0 / 18 - 1, 1e-6);
    assert_true(move.from == 0 && move.to == 2 && move.n_layers == 3);
    cdp_stage_load one_layer[] = {stage(0, 10, 1, 0), stage(1, 1, 20, 0)};
    assert_float_equal(cdp_best_move(&move, one_layer, 2), 0, 1e-6);
}

static void test_sentence(void **state) {
    (void)state;
    char out[256];
    cdp_stage_load even[] = {stage(0, 12, 2, 0), stage(1, 12, 2, 0)};
    assert_string_equal(cdp_advise(out, sizeof out, even, 2, 2.0), "");
    assert_string_equal(cdp_advise(out, sizeof out, even, 2, 1.0),
                        "2 sequences in flight would fill the pipe (1.0 were)");
    cdp_stage_load uneven[] = {stage(0, 14, 2, 0), stage(1, 10, 2, 0)};
    assert_string_equal(
        cdp_advise(out, sizeof out, uneven, 2, 2.0),
        "move 2 layers from stage 0 to stage 1: +17 % when the pipe is full (--device-map 12,12)");
    assert_string_equal(cdp_advise(out, sizeof out, uneven, 2, 1.0),
                        "move 2 layers from stage 0 to stage 1: +17 % when the pipe is full (--device-map "
                        "12,12); 2 sequences in flight would fill the pipe (1.0 were)");
    assert_string_equal(cdp_advise(out, sizeof out, uneven, 1, 1.0), ""); /* one stage: nothing to move */
    uneven[1].n_steps = 1;
    assert_string_equal(cdp_advise(out, sizeof out, uneven, 2, 1.0), ""); /* too few steps to judge by */
}

static void test_bubble(void **state) {
    (void)state;
    cdp_stage_load two[] = {stage(0, 20, 4, 10), stage(1, 20, 4, 0)}; /* 9 s and 8 s of 10 s */
    assert_float_equal(cdp_bubble_share(two, 2), 0.15, 1e-6);
    assert_int_equal(cdp_steps_to_fill(two, 2), 2);
    cdp_stage_load lopsided[] = {stage(0, 30, 4, 0), stage(1, 2, 4, 0), stage(2, 2, 4, 0)};
    assert_int_equal(cdp_steps_to_fill(lopsided, 3), 2); /* 136 / 120 */
    assert_float_equal(cdp_bubble_share(two, 0), 0, 0);
}

static void test_straggler(void **state) {
    (void)state;
    double times;
    cdp_stage_load three[] = {stage(0, 10, 2, 50), stage(1, 10, 2.5, 0), stage(2, 10, 2, 0)};
    assert_int_equal(cdp_straggler(three, 3, &times), -1); /* the head is no reason */
    three[1] = stage(1, 10, 6, 0);
    assert_int_equal(cdp_straggler(three, 3, &times), 1);
    assert_float_equal(times, 3, 1e-6);
    three[1] = stage(1, 10, 0.1, 0);
    three[0] = three[2] = stage(0, 10, 0.02, 0);
    assert_int_equal(cdp_straggler(three, 3, &times), -1); /* five times, but of nothing */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_sentence),
        cmocka_unit_test(test_bubble),
        cmocka_unit_test(test_straggler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
