/* The roads: every byte arrives, in any world, while others compute, and nobody burns a core for it. */
#include "tests/support/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RANK_LINK CDPIPE_TEST_BIN_DIR "/world_rank_link"

#ifdef __SANITIZE_ADDRESS__
static const double most_idle_share = 0.25;
#else
static const double most_idle_share = 0.05;
#endif

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static void expect_code(const test_run *run, int code) {
    if (run->exit_code != code || run->timed_out)
        fail_msg("exit code %d, signal %d, timed out %d after %.1f s; stdout: %s; stderr: %s", run->exit_code,
                 run->signal, run->timed_out, run->elapsed_s, run->out, run->err);
    assert_int_equal(test_run_left(run), 0);
}

static test_run *make_run(int np) {
    test_run *run = test_run_open(30.0);
    if (np > 0)
        test_run_mpirun(run, np);
    return run;
}

static test_run *ring(int np, const char *n_steps, const char *n_seats, const char *idle_rank) {
    test_run *run = make_run(np);
    test_run_add(run, RANK_LINK, "ring", n_steps, n_seats, idle_rank, NULL);
    test_run_go(run);
    expect_code(run, 0);
    return run;
}

static void ring_of_one_is_local(void **state) {
    (void)state;
    test_run *run = ring(0, "500", "4", NULL);
    assert_string_equal(run->out, "road local\n");
    test_run_close(run);
    run = ring(1, "100", "1", NULL);
    assert_string_equal(run->out, "road local\n");
    test_run_close(run);
}

static void rings_of_two_and_three_bring_every_byte(void **state) {
    (void)state;
    static const char *const seats[] = {"1", "3", "8"};
    for (int np = 2; np <= 3; np++)
        for (int i = 0; i < 3; i++) {
            test_run *run = ring(np, "300", seats[i], NULL);
            assert_int_equal(count(run->out, "road mpi\n"), np);
            test_run_close(run);
        }
}

static void idle_ranks_stay_out_of_the_ring(void **state) {
    (void)state;
    test_run *run = ring(3, "100", "3", "1");
    assert_int_equal(count(run->out, "road mpi\n"), 2);
    test_run_close(run);
    run = ring(2, "100", "3", "1");
    assert_string_equal(run->out, "road local\n");
    test_run_close(run);
}

static void sizes_that_do_not_match_name_the_sender(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"100", "200", "cdpipe: error: rank 1: seat 0: rank 0 sent 100 bytes, expected 200\n"},
        {"200", "100", "cdpipe: error: rank 1: seat 0: rank 0 sent more than the expected 100 bytes\n"},
        {"900000", "800000",
         "cdpipe: error: rank 1: seat 0: rank 0 sent more than the expected 800000 bytes\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = make_run(2);
        test_run_add(run, RANK_LINK, "size", cases[i][0], cases[i][1], NULL);
        test_run_go(run);
        expect_code(run, 70);
        assert_string_equal(run->err, cases[i][2]);
        test_run_close(run);
    }
}

/* By the loopback interface: between two ranks of one host Open MPI 5 finds no way over another. */
static void use_tcp(test_run *run) {
    test_run_set(run, "self,vader", "self,tcp");
    test_run_add(run, "--mca", "btl_tcp_if_include", "lo", NULL);
}

/* MPI moves a large message only while its sender calls MPI: without shared pages, and over TCP, it would
 * arrive when the sender's computing ends, half a second late. */
static void messages_travel_while_the_sender_computes(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        test_run *run = make_run(2);
        if (i == 0)
            test_run_add(run, "--mca", "btl_vader_single_copy_mechanism", "none", NULL);
        else
            use_tcp(run);
        test_run_add(run, RANK_LINK, "overlap", NULL);
        test_run_go(run);
        expect_code(run, 0);
        assert_non_null(strstr(run->out, "delay "));
        const double delay_s = atof(strstr(run->out, "delay ") + 6);
        if (delay_s > 0.25) /* on a busy machine some hundredths of it */
            fail_msg("road %d: 4 MB came %.0f ms after they were due", i, 1000 * delay_s);
        test_run_close(run);
    }
}

static void open_link_costs_next_to_nothing(void **state) {
    (void)state;
    double best = 1;
    for (int i = 0; i < 3 && best > most_idle_share; i++) {
        test_run *run = make_run(2);
        test_run_add(run, RANK_LINK, "idle", "2000", NULL);
        test_run_go(run);
        expect_code(run, 0);
        double most = 0;
        assert_int_equal(count(run->out, "share "), 2);
        for (const char *at = run->out; (at = strstr(at, "share ")) != NULL; at++)
            most = atof(at + 6) > most ? atof(at + 6) : most;
        best = most < best ? most : best;
        test_run_close(run);
    }
    if (best > most_idle_share)
        fail_msg("a rank with an open link used %.1f%% of a core", 100 * best);
}

static void sleepers_are_woken(void **state) {
    (void)state;
    test_run *run = make_run(2);
    test_run_add(run, RANK_LINK, "wake", NULL);
    test_run_go(run);
    expect_code(run, 0);
    assert_int_equal(count(run->out, "can sleep 1"), 2);
    for (const char *at = run->out; (at = strstr(at, "after ")) != NULL; at++)
        if (atof(at + 6) > 10)
            fail_msg("nobody rang: %s", run->out);
    test_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_of_one_is_local),
        cmocka_unit_test(rings_of_two_and_three_bring_every_byte),
        cmocka_unit_test(idle_ranks_stay_out_of_the_ring),
        cmocka_unit_test(sizes_that_do_not_match_name_the_sender),
        cmocka_unit_test(messages_travel_while_the_sender_computes),
        cmocka_unit_test(sleepers_are_woken),
        cmocka_unit_test(open_link_costs_next_to_nothing),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
