/* How well the schedule uses the ring, by the clock of simulated rings (tests/support/schedule_ring.h).
 *
 * What it catches: stages that wait though there is work, short chunks where nobody decodes, long ones beside
 * those who do, sequences that decode one by one instead of together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/schedule_ring.h"

/* 16 prompts of mixed length, no want of blocks: by the simulated clock the stages have work all the time. */
static void test_pipe_is_full(void **state) {
    (void)state;
    for (int n_stages = 1; n_stages <= 4; n_stages++) {
        test_random r = {(uint64_t)n_stages};
        test_ring *sim = test_ring_open(n_stages, n_stages + 1, 128, 16, TEST_RING_CTX, 200);
        sim->players = calloc(16, sizeof *sim->players);
        sim->n_players = 16;
        for (int i = 0; i < 16; i++) {
            test_player *p = &sim->players[i];
            p->n_prompt = 4 + test_random_below(&r, 100);
            p->limit = p->n_prompt + 64;
            p->n_wanted = TEST_RING_CTX;
        }
        test_ring_run(sim);
        test_ring_check(sim, 0);
        double busy = 0, end = 0;
        for (int s = 0; s < n_stages; s++) {
            busy += sim->busy[s];
            end = sim->stage_free[s] > end ? sim->stage_free[s] : end;
        }
        const double bubble = 1 - busy / (end * n_stages);
        print_message("    %d stages: bubble %.1f %%\n", n_stages, 100 * bubble);
        /* 16 sequences in three or four steps make steps of unequal length, which cost a part of the rest. */
        assert_true(bubble < (n_stages <= 2 ? 0.10 : 0.20));
        test_ring_close(sim);
    }
}

/* Prompts alone go in whole chunks: one whose last row is on the way is no reason for short ones. */
static void test_prompts_alone(void **state) {
    (void)state;
    for (int n_stages = 1; n_stages <= 3; n_stages++) {
        test_ring *sim = test_ring_open(n_stages, n_stages + 1, 32, 4, TEST_RING_CTX, 200);
        sim->players = calloc(4, sizeof *sim->players);
        sim->n_players = 4;
        for (int i = 0; i < 4; i++)
            sim->players[i] = (test_player){.n_prompt = 190, .limit = TEST_RING_CTX};
        test_ring_run(sim);
        test_ring_check(sim, 0);
        assert_int_equal(sim->n_steps, (4 * 190 + 31) / 32);
        test_ring_close(sim);
    }
}

/* Sequences whose prompts end at different moments decode together all the same: as many rows a step as their
 * share, not one. */
static void test_meet_again(void **state) {
    (void)state;
    for (int n_stages = 1; n_stages <= 3; n_stages++) {
        test_ring *sim = test_ring_open(n_stages, n_stages + 1, 32, 12, TEST_RING_CTX, 200);
        sim->players = calloc(12, sizeof *sim->players);
        sim->n_players = 12;
        for (int i = 0; i < 12; i++) {
            test_player *p = &sim->players[i];
            *p = (test_player){
                .n_prompt = 1 + 2 * i, .limit = TEST_RING_CTX, .n_wanted = 150, .arrives = i * 11e-3};
        }
        test_ring_run(sim);
        test_ring_check(sim, 0);
        const double rows = (double)sim->n_decoding_rows / sim->n_decoding_steps, share = 12.0 / n_stages;
        print_message("    %d stages: %.2f decoding rows a step, %.0f in step\n", n_stages, rows, share);
        assert_true(rows > 0.8 * share);
        test_ring_close(sim);
    }
}

/* Beside sequences that decode, a prompt takes no more of a step than they do: a step takes at most twice as
 * long. Without any it takes whole chunks. */
static void test_chunks_beside_decoding(void **state) {
    (void)state;
    test_ring *sim = test_ring_open(1, 2, 128, 8, TEST_RING_CTX, 200);
    sim->players = calloc(8, sizeof *sim->players);
    sim->n_players = 8;
    sim->step_s = 40e-3; /* as much as 40 rows: a chunk beside n decoding rows has 40 + n */
    for (int i = 0; i < 8; i++)
        sim->players[i] = (test_player){
            .n_prompt = i < 4 ? 8 : 180, .limit = TEST_RING_CTX, .n_wanted = TEST_RING_CTX, .arrives = i};
    sim->players[1].n_prompt = 150; /* alone with one that decodes, at the start, before costs are known */
    int n_largest = 0, n_mixed = 0;
    while (sim->n_arrived < 8 || !cdp_schedule_is_idle(sim->schedule)) {
        test_flight *f = &sim->flights[0];
        test_ring_arrive(sim);
        cdp_schedule_next(sim->schedule, &f->step);
        const cdp_step *step = &f->step;
        if (step->n_rows == 0) {
            sim->now = sim->players[sim->n_arrived].arrives;
            continue;
        }
        if (step->rows[0].wants_home && step->rows[0].position > 0 && step->n_rows > step->n_slots) {
            n_largest = step->n_rows > n_largest ? step->n_rows : n_largest;
            n_mixed++;
        }
        sim->n_flights = 1;
        test_ring_begin(sim, f);
        test_ring_come_home(sim);
    }
    test_ring_check(sim, 0);
    print_message("    %d steps of both kinds, %d rows at most\n", n_mixed, n_largest);
    assert_in_range(n_mixed, 10, 60);
    assert_in_range(n_largest, 41, 60);
    test_ring_close(sim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipe_is_full),
        cmocka_unit_test(test_prompts_alone),
        cmocka_unit_test(test_meet_again),
        cmocka_unit_test(test_chunks_beside_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
