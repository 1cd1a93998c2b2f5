/* Worlds of one, two and three: who is who, agreement, waiting, stopping. */
#include "tests/support/spawn.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RANK_WORLD CDPIPE_TEST_BIN_DIR "/world_rank_world"

#ifdef __SANITIZE_ADDRESS__
static const double most_idle_share = 0.20; /* each turn of a loop costs several times as much */
#else
static const double most_idle_share = 0.05;
#endif

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static test_run *make_run(int np, const char *verb, const char *word) {
    test_run *run = test_run_open(30.0);
    if (np > 0)
        test_run_mpirun(run, np);
    test_run_add(run, RANK_WORLD, verb, word, NULL);
    return run;
}

static void expect_code(const test_run *run, int code) {
    if (run->exit_code != code || run->timed_out)
        fail_msg("exit code %d, signal %d, timed out %d after %.1f s; stdout: %s; stderr: %s", run->exit_code,
                 run->signal, run->timed_out, run->elapsed_s, run->out, run->err);
    assert_int_equal(test_run_left(run), 0);
}

static test_run *go(int np, const char *verb, const char *word, int code) {
    test_run *run = make_run(np, verb, word);
    test_run_go(run);
    expect_code(run, code);
    return run;
}

static void one_process_is_a_world_without_mpi(void **state) {
    (void)state;
    test_run *run = go(0, "who", NULL, 0);
    assert_string_equal(run->out, "rank 0 size 1 local 0 of 1 launcher 0\n");
    /* MPI_Init alone takes longer and forks a daemon. */
    assert_int_equal(run->n_err, 0);
    test_run_close(run);
    test_run_close(go(0, "collect", NULL, 0));
    run = go(0, "agree", "65", 65);
    assert_string_equal(run->err, "cdpipe: error: bad thing 0\n");
    test_run_close(run);
}

static void every_rank_knows_its_place(void **state) {
    (void)state;
    test_run *run = go(3, "who", NULL, 0);
    for (int rank = 0; rank < 3; rank++) {
        char line[80];
        snprintf(line, sizeof line, "rank %d size 3 local %d of 3 launcher 1\n", rank, rank);
        assert_non_null(strstr(run->out, line));
    }
    test_run_close(run);
}

static void stale_variables_do_not_count(void **state) {
    (void)state;
    test_run *run = make_run(0, "who", NULL);
    test_run_env(run, "OMPI_COMM_WORLD_SIZE=3");
    test_run_env(run, "OMPI_COMM_WORLD_RANK=2");
    test_run_env(run, "OMPI_ALLOW_RUN_AS_ROOT=1");
    test_run_env(run, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    test_run_go(run);
    expect_code(run, 0);
    assert_string_equal(run->out, "rank 0 size 1 local 0 of 1 launcher 1\n");
    test_run_close(run);
}

static void tasks_of_srun_without_pmix_are_told(void **state) {
    (void)state;
    test_run *run = make_run(0, "who", NULL);
    test_run_env(run, "SLURM_STEP_NUM_TASKS=4");
    test_run_go(run);
    expect_code(run, 64);
    assert_non_null(
        strstr(run->err, "4 tasks but each sees only itself: start with srun --mpi=pmix or mpirun"));
    test_run_close(run);
    /* A batch shell has the number of the job's tasks; a step of one task is a world of one. */
    run = make_run(0, "who", NULL);
    test_run_env(run, "SLURM_NTASKS=4");
    test_run_env(run, "SLURM_STEP_NUM_TASKS=1");
    test_run_go(run);
    expect_code(run, 0);
    test_run_close(run);
}

static void collectives_bring_every_byte(void **state) {
    (void)state;
    test_run_close(go(2, "collect", NULL, 0));
    test_run_close(go(3, "collect", NULL, 0));
}

static void failure_of_one_is_the_verdict_of_all(void **state) {
    (void)state;
    /* codes, agreed code, the rank that is named */
    static const struct {
        int np;
        const char *codes;
        int code, rank;
    } cases[] = {{3, "0,65,0", 65, 1},
                 {3, "0,65,66", 65, 1},
                 {3, "0,0,78", 78, 2},
                 {3, "71,65,0", 71, 0},
                 {2, "0,66", 66, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = go(cases[i].np, "agree", cases[i].codes, cases[i].code);
        char message[64];
        snprintf(message, sizeof message, "says rank %d: bad thing %d\n", cases[i].rank, cases[i].rank);
        assert_int_equal(count(run->out, message), cases[i].np);
        assert_int_equal(count(run->err, "cdpipe: error: "), 1);
        test_run_close(run);
    }
    test_run_close(go(3, "agree", "0,0,0", 0));
}

static void waiting_ranks_leave_the_core_alone(void **state) {
    (void)state;
    double best = 1;
    /* The share of a core is this program's own; but a busy machine makes each of its turns longer. */
    for (int i = 0; i < 3 && best > most_idle_share; i++) {
        test_run *run = go(2, "idle", "2000", 0);
        double most = 0;
        assert_int_equal(count(run->out, "share "), 2);
        for (const char *at = run->out; (at = strstr(at, "share ")) != NULL; at++)
            most = atof(at + 6) > most ? atof(at + 6) : most;
        best = most < best ? most : best;
        test_run_close(run);
    }
    if (best > most_idle_share)
        fail_msg("a waiting rank used %.1f%% of a core", 100 * best);
}

static void stop_signals_end_with_75(void **state) {
    (void)state;
    static const struct { int np, signal; } cases[] = {{0, SIGTERM}, {0, SIGINT}, {0, SIGUSR1}, {2, SIGUSR1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = make_run(cases[i].np, "stop", NULL);
        test_run_start(run);
        assert_true(test_run_sees(run, "ready", 20.0));
        kill(run->pid, cases[i].signal); /* mpirun hands SIGUSR1 on */
        test_run_wait(run);
        expect_code(run, 75);
        test_run_close(run);
    }
}

static void second_interrupt_leaves_at_once(void **state) {
    (void)state;
    test_run *run = make_run(0, "deaf", NULL);
    test_run_start(run);
    assert_true(test_run_sees(run, "ready", 20.0));
    kill(run->pid, SIGINT);
    assert_false(test_run_sees(run, "anything", 0.3));
    const double before = test_now_s();
    kill(run->pid, SIGINT);
    test_run_wait(run);
    expect_code(run, 75);
    assert_true(test_now_s() - before < 5);
    test_run_close(run);
}

/* mpirun with a default binding, whatever options make_run gives. */
static test_run *bound_run(const char *option, const char *binding) {
    test_run *run = test_run_open(30.0);
    test_run_env(run, "OMPI_ALLOW_RUN_AS_ROOT=1");
    test_run_env(run, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    test_run_add(run, "mpirun", "--mca", "orte_execute_quiet", "1", "-np", "1", NULL);
    if (binding != NULL)
        test_run_add(run, option, binding, NULL);
    test_run_add(run, RANK_WORLD, "unbind", NULL);
    test_run_go(run);
    expect_code(run, 0);
    return run;
}

static void default_binding_is_undone_a_chosen_one_is_kept(void **state) {
    (void)state;
    test_run *chosen = bound_run("--bind-to", "core"), *mapped = bound_run("--map-by", "slot:PE=1");
    test_run *plain = bound_run(NULL, NULL), *none = bound_run("--bind-to", "none");
    int undone = 0, n_bound = 0, n_now = 0, n_all = 0;
    assert_int_equal(sscanf(chosen->out, "undone %d now %d", &undone, &n_bound), 2);
    assert_int_equal(undone, 0);
    assert_int_equal(sscanf(mapped->out, "undone %d now %d", &undone, &n_bound), 2);
    assert_int_equal(undone, 0);
    assert_int_equal(sscanf(none->out, "undone %d now %d", &undone, &n_all), 2);
    assert_int_equal(undone, 0);
    assert_int_equal(sscanf(plain->out, "undone %d now %d", &undone, &n_now), 2);
    assert_int_equal(n_now, n_all);
    assert_int_equal(undone, n_bound < n_all);
    test_run_close(chosen);
    test_run_close(mapped);
    test_run_close(plain);
    test_run_close(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_process_is_a_world_without_mpi),
        cmocka_unit_test(every_rank_knows_its_place),
        cmocka_unit_test(stale_variables_do_not_count),
        cmocka_unit_test(tasks_of_srun_without_pmix_are_told),
        cmocka_unit_test(collectives_bring_every_byte),
        cmocka_unit_test(failure_of_one_is_the_verdict_of_all),
        cmocka_unit_test(waiting_ranks_leave_the_core_alone),
        cmocka_unit_test(stop_signals_end_with_75),
        cmocka_unit_test(second_interrupt_leaves_at_once),
        cmocka_unit_test(default_binding_is_undone_a_chosen_one_is_kept),
    };
    return cmocka_run_group_tests_name("world", tests, NULL, NULL);
}
