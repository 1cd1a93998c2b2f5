/* What the schedule hands to whom, in simulated rings (tests/support/schedule_ring.h): sequences of random
 * length that arrive at random moments, any number of stages, seats and slots, few KV blocks.
 *
 * What it catches: a schedule that waits for itself, a block used by two, logits handed to the wrong
 * sequence, a kept position that is not what the prompt says, a younger sequence that enters before an older
 * one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/log.h"
#include "tests/support/schedule_ring.h"

static void draw_players(test_ring *sim, test_random *r, int n) {
    const int ctx = sim->plan.run.ctx;
    sim->players = calloc((size_t)n, sizeof *sim->players);
    sim->n_players = n;
    const double pause = test_random_below(r, 3) * 20e-3;
    for (int i = 0; i < n; i++) {
        test_player *p = &sim->players[i];
        p->n_prompt = 1 + test_random_below(r, test_random_below(r, 2) == 0 ? ctx : 1 + ctx / 4);
        p->wants_all = test_random_below(r, 4) == 0;
        p->limit = p->n_prompt + test_random_below(r, ctx - p->n_prompt + 1);
        p->n_wanted = test_random_below(r, 3) == 0 ? test_random_below(r, ctx) : TEST_RING_CTX;
        p->arrives = i == 0 ? 0 : p[-1].arrives + pause * test_random_unit(r);
        for (int k = 0; k < p->n_prompt; k++)
            p->prompt[k] = test_random_below(r, TEST_RING_VOCAB);
    }
}

/* Some of them are turns of a conversation: each begins as the one before did, up to a random place. */
static void draw_turns(test_ring *sim, test_random *r) {
    const test_player *before = NULL;
    for (int i = 0; i < sim->n_players; i++) {
        test_player *p = &sim->players[i];
        if (i > 0)
            p->arrives = p[-1].arrives + (test_random_below(r, 3) == 0 ? 0 : test_random_unit(r));
        p->keeps = test_random_below(r, 3) > 0;
        if (!p->keeps)
            continue;
        for (int k = 0; before != NULL && k < p->n_prompt && k < before->n_prompt; k++) {
            if (test_random_below(r, 60) == 0)
                break;
            p->prompt[k] = before->prompt[k];
        }
        before = p;
    }
}

/* Random rings, three thousand of them. */
static void test_random_rings(void **state) {
    (void)state;
    uint64_t n_steps = 0, n_put_back = 0;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        test_random r = {seed};
        const int ctx = 1 + test_random_below(&r, 120);
        const int least = (ctx + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS;
        test_ring *sim = test_ring_open(
            1 + test_random_below(&r, TEST_RING_STAGES), 1 + test_random_below(&r, TEST_RING_SEATS),
            1 + test_random_below(&r, 50), 1 + test_random_below(&r, TEST_RING_SLOTS), ctx,
            least + (test_random_below(&r, 3) > 0 ? 0 : test_random_below(&r, 12)));
        draw_players(sim, &r, 1 + test_random_below(&r, 30));
        sim->row_s = 1e-3 * test_random_unit(&r);
        test_ring_run(sim);
        test_ring_check(sim, seed);
        n_steps += (uint64_t)sim->n_steps;
        n_put_back += cdp_schedule_n_put_back(sim->schedule);
        test_ring_close(sim);
    }
    print_message("    %llu steps, put back %llu times\n", (unsigned long long)n_steps,
                  (unsigned long long)n_put_back);
    assert_true(n_steps > 500000 && n_put_back > 3000);
}

/* Turns that begin where the one before is kept, beside sequences that want its blocks and its slot; some are
 * cancelled. A kept position that is not what the prompt says would change the answer. */
static void test_turns(void **state) {
    (void)state;
    uint64_t n_reused = 0;
    int n_cancelled = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        test_random r = {seed};
        const int ctx = 20 + test_random_below(&r, 120);
        const int least = (ctx + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS;
        test_ring *sim =
            test_ring_open(1 + test_random_below(&r, 4), 1 + test_random_below(&r, 6),
                           1 + test_random_below(&r, 50), 1 + test_random_below(&r, 3), ctx,
                           least + (test_random_below(&r, 2) > 0 ? 0 : test_random_below(&r, 12)));
        draw_players(sim, &r, 1 + test_random_below(&r, 12));
        draw_turns(sim, &r);
        sim->cancels = &r;
        test_ring_run(sim);
        test_ring_check(sim, seed);
        n_reused += cdp_schedule_n_reused(sim->schedule);
        for (int i = 0; i < sim->n_players; i++)
            n_cancelled += sim->players[i].is_cancelled;
        test_ring_close(sim);
    }
    print_message("    %llu tokens kept, %d sequences cancelled\n", (unsigned long long)n_reused,
                  n_cancelled);
    assert_true(n_reused > 10000 && n_cancelled > 500);
}

/* A turn that repeats all and adds some computes what is new, and the last token where nothing is. */
static void test_only_what_is_new(void **state) {
    (void)state;
    static const int lengths[] = {40, 60, 60, 30}, computed[] = {40, 20, 1, 1};
    test_ring *sim = test_ring_open(1, 2, 128, 1, TEST_RING_CTX, 20);
    sim->players = calloc(4, sizeof *sim->players);
    for (int i = 0; i < 4; i++) {
        test_player *p = &sim->players[i];
        *p = (test_player){.n_prompt = lengths[i], .limit = TEST_RING_CTX, .n_wanted = 0, .keeps = true};
        for (int k = 0; k < lengths[i]; k++)
            p->prompt[k] = k;
        sim->n_players = i + 1;
        const uint64_t before = cdp_schedule_n_reused(sim->schedule);
        test_ring_run(sim);
        assert_int_equal(lengths[i] - (int)(cdp_schedule_n_reused(sim->schedule) - before), computed[i]);
    }
    test_ring_check(sim, 0);
    test_ring_close(sim);
}

/* The next step on its way, alone; NULL where there is none. */
static const cdp_step *begin_next(test_ring *sim) {
    test_flight *f = &sim->flights[0];
    cdp_schedule_next(sim->schedule, &f->step);
    if (f->step.n_rows == 0)
        return NULL;
    sim->n_flights = 1;
    test_ring_begin(sim, f);
    return &f->step;
}

/* Nobody who came later enters first, even where a long prompt has to wait for blocks that a short one would
 * find. */
static void test_order_is_kept(void **state) {
    (void)state;
    test_ring *sim = test_ring_open(2, 3, 16, 4, 160, 12);
    sim->players = calloc(4, sizeof *sim->players);
    sim->n_players = 4;
    const int prompts[] = {60, 150, 4, 4};
    for (int i = 0; i < 4; i++)
        sim->players[i] =
            (test_player){.n_prompt = prompts[i], .limit = prompts[i] + 9, .n_wanted = TEST_RING_CTX};
    sim->players[0].limit = 160;
    /* Until the first has ended the second finds too few blocks; the two short ones wait behind it. */
    test_ring_arrive(sim);
    for (int turn = 0; turn < 60; turn++) {
        const cdp_step *step = begin_next(sim);
        if (step == NULL)
            continue;
        for (int i = 0; i < step->n_slots && !sim->players[0].has_ended; i++)
            assert_int_equal(step->slots[i].slot, 0);
        test_ring_come_home(sim);
    }
    test_ring_run(sim);
    test_ring_check(sim, 0);
    test_ring_close(sim);
}

/* Held answers: all prompts go through, whatever the chunk leaves for their last step, then nobody goes on;
 * and when they are let go all do, in the same step. */
static void test_hold(void **state) {
    (void)state;
    static const int prompts[] = {1, 17, 40};
    for (int chunk = 1; chunk <= 64; chunk++) {
        test_ring *sim = test_ring_open(1, 2, chunk, 3, 64, 15);
        int n_heard = 0;
        sim->players = calloc(3, sizeof *sim->players);
        sim->n_players = 3;
        for (int i = 0; i < 3; i++)
            sim->players[i] = (test_player){.n_prompt = prompts[i], .limit = 48, .n_wanted = TEST_RING_CTX};
        test_ring_arrive(sim);
        cdp_schedule_hold(sim->schedule, true);
        for (int turn = 0; turn < 60; turn++) {
            const cdp_step *step = begin_next(sim);
            if (step == NULL)
                continue;
            n_heard += step->n_home;
            test_ring_come_home(sim);
        }
        assert_int_equal(n_heard, 3);
        cdp_schedule_hold(sim->schedule, false);
        const cdp_step *all = begin_next(sim);
        assert_non_null(all);
        assert_int_equal(all->n_rows, 3);
        test_ring_come_home(sim);
        test_ring_run(sim);
        test_ring_check(sim, (uint64_t)chunk);
        test_ring_close(sim);
    }
}

/* Which list of longrope is used is said of each list, not of each of a hundred thousand sequences. */
static void test_says_rope_once(void **state) {
    (void)state;
    enum { N = 40 };
    char text[4096] = "";
    FILE *said = tmpfile();
    const int before = dup(STDERR_FILENO);
    test_ring *sim = test_ring_open(1, 2, 8, 4, 40, 20);
    sim->rope = (cdp_rope_card){.n_lists = 2, .original_max = 20};
    sim->players = calloc(N, sizeof *sim->players);
    sim->n_players = N;
    for (int i = 0; i < N; i++)
        sim->players[i] = (test_player){.n_prompt = 3, .limit = i % 3 == 0 ? 30 : 20, .n_wanted = 2};
    cdp_log_open(true);
    dup2(fileno(said), STDERR_FILENO);
    test_ring_run(sim);
    dup2(before, STDERR_FILENO);
    cdp_log_open(false);
    rewind(said);
    text[fread(text, 1, sizeof text - 1, said)] = '\0';
    if (strcmp(text,
               "# longrope: the long list, for sequences of more than 20 tokens, as one of up to 30\n"
               "# longrope: the short list, for sequences of at most 20 tokens, as one of up to 20\n") != 0)
        fail_msg("%s", text);
    test_ring_close(sim);
    fclose(said);
    close(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_rope_once), cmocka_unit_test(test_random_rings),
        cmocka_unit_test(test_turns),          cmocka_unit_test(test_only_what_is_new),
        cmocka_unit_test(test_order_is_kept),  cmocka_unit_test(test_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
