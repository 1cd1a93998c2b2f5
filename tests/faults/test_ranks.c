/* Promise 3: nobody waits for the dead. Each rank of two and three is killed, stopped and hung, while loading
 * and in a step; the job must end in time, name the rank, and leave no process behind.
 *
 * What it catches: a wait without a test loop, a watchdog that starts too late or accuses the wrong rank, a
 * rank that survives its job.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

static const double STEP_TIMEOUT_S = 1.0;

typedef struct fault_case {
    const char *point, *kind;
    int exit_code;   /* of mpirun */
    double within_s; /* dead: 5 s; hung or stopped: limit + 5 s; start-up of the ranks on top */
} fault_case;

static const fault_case cases[] = {
    {"load", "kill9", 137, 5}, {"load", "stop", 70, 6}, {"load", "hang", 70, 6},
    {"step", "kill9", 137, 5}, {"step", "stop", 70, 6}, {"step", "hang", 70, 6},
};

static const double START_S = 3.0; /* mpirun and MPI_Init on a busy machine */

static test_run *start_faulty(int np, int rank, const char *point, const char *kind) {
    char fault[64], timeout[16];
    snprintf(fault, sizeof fault, "CDPIPE_FAULT=%d:%s:%s", rank, point, kind);
    snprintf(timeout, sizeof timeout, "%g", STEP_TIMEOUT_S);
    test_run *run = test_run_open(30.0);
    test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_BIN, "--model", test_path("examples/shakespeare"), "--prompt-ids",
                 "1179,37,47,26,199", "--temperature", "0", "--max-new-tokens", "400", "--device", "cpu",
                 "--threads", "1", "--ignore-eos", "--step-timeout", timeout, NULL);
    test_run_env(run, fault);
    return run;
}

static void check_fault(int np, int rank, const fault_case *c) {
    char named[32];
    test_run *run = start_faulty(np, rank, c->point, c->kind);
    test_run_go(run);
    snprintf(named, sizeof named, "rank %d", rank);
    if (run->timed_out || run->elapsed_s > c->within_s + START_S)
        fail_msg("np %d, rank %d %s at %s: took %.1f s, allowed %.1f\n%s", np, rank, c->kind, c->point,
                 run->elapsed_s, c->within_s + START_S, run->err);
    if (run->exit_code != c->exit_code && run->exit_code != 70)
        fail_msg("np %d, rank %d %s at %s: exit code %d, expected %d or 70\n%s", np, rank, c->kind, c->point,
                 run->exit_code, c->exit_code, run->err);
    const char *error = strstr(run->err, "cdpipe: error:");
    if (error == NULL || strstr(error, named) == NULL)
        fail_msg("np %d, rank %d %s at %s: nobody named it\n%s", np, rank, c->kind, c->point, run->err);
    /* The line accuses the culprit and no other: its number comes first. */
    const char *first = strstr(error, "rank ");
    if (strncmp(first, named, strlen(named)) != 0)
        fail_msg("np %d, rank %d %s at %s: the line accuses another\n%s", np, rank, c->kind, c->point, error);
    assert_int_equal(test_run_left(run), 0);
    test_run_close(run);
}

static void check_all(int np, const char *point) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int rank = 0; rank < np; rank++)
            if (strcmp(cases[i].point, point) == 0)
                check_fault(np, rank, &cases[i]);
}

static void test_load_of_two(void **state) {
    (void)state;
    check_all(2, "load");
}
static void test_step_of_two(void **state) {
    (void)state;
    check_all(2, "step");
}
static void test_load_of_three(void **state) {
    (void)state;
    check_all(3, "load");
}
static void test_step_of_three(void **state) {
    (void)state;
    check_all(3, "step");
}

/* A slow rank is no fault: the run ends well. */
static void test_slow(void **state) {
    (void)state;
    test_run *run = start_faulty(2, 1, "step", "slow:300");
    test_run_add(run, "--max-new-tokens", "6", NULL);
    test_run_go(run);
    if (run->exit_code != 0)
        fail_msg("a slow rank ended the run with %d\n%s", run->exit_code, run->err);
    test_run_close(run);
}

/* A world of one watches itself. */
static void test_alone(void **state) {
    (void)state;
    test_run *run = test_run_open(20.0);
    test_run_add(run, CDPIPE_BIN, "--model", test_path("examples/shakespeare"), "--prompt-ids",
                 "1179,37,47,26,199", "--device", "cpu", "--step-timeout", "1", NULL);
    test_run_env(run, "CDPIPE_FAULT=0:step:hang:3");
    test_run_go(run);
    assert_int_equal(run->exit_code, 70);
    assert_non_null(strstr(run->err, "rank 0"));
    assert_non_null(strstr(run->err, "step 2"));
    test_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_of_two),   cmocka_unit_test(test_step_of_two),
        cmocka_unit_test(test_load_of_three), cmocka_unit_test(test_step_of_three),
        cmocka_unit_test(test_slow),          cmocka_unit_test(test_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
