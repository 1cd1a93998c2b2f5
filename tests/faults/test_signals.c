/* Signals: a stop is asked for by SIGTERM, SIGINT or SIGUSR1 and ends after the token in flight with 75;
 * whatever happens to mpirun, no rank stays behind.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

/* A generation that takes long enough to be stopped: rank 0 sleeps as the fault says. */
static test_run *start_with(int np, bool by_itself, const char *fault) {
    test_run *run = test_run_open(30.0);
    if (np > 1 && !by_itself)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_BIN, NULL);
    if (by_itself)
        test_run_add(run, "--np", np == 2 ? "2" : "3", NULL);
    test_run_add(run, "--model", test_path("examples/shakespeare"), "--prompt", "ROMEO:\n",
                 "--max-new-tokens", "900", "--temperature", "0", "--device", "cpu", "--threads", "1",
                 "--ignore-eos", NULL);
    test_run_env(run, fault);
    test_run_start(run);
    return run;
}

static test_run *start_slow(int np, bool by_itself) {
    return start_with(np, by_itself, "CDPIPE_FAULT=0:step:slow:40:2");
}

/* It is in the middle of its answer. */
static void let_it_run(test_run *run) {
    assert_true(test_run_answers(run, 25));
}

static void check_stopped(test_run *run, int signal_number, const char *what) {
    let_it_run(run);
    assert_int_equal(kill(run->pid, signal_number), 0);
    test_run_wait(run);
    if (run->exit_code != 75)
        fail_msg("%s, signal %d: exit code %d, expected 75\n%s", what, signal_number, run->exit_code,
                 run->err);
    assert_non_null(strstr(run->err, "stopped by a signal"));
    assert_true(run->n_out > 0 && run->out[run->n_out - 1] == '\n');
    assert_int_equal(test_run_left(run), 0);
    test_run_close(run);
}

static void test_one_process(void **state) {
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR1};
    for (int i = 0; i < 3; i++)
        check_stopped(start_slow(1, false), signals[i], "one process");
}

/* cdpipe --np N passes a Ctrl-C on as a message. */
static void test_started_by_itself(void **state) {
    (void)state;
    check_stopped(start_slow(2, true), SIGINT, "--np 2");
    check_stopped(start_slow(3, true), SIGTERM, "--np 3");
}

/* A step that never ends is not waited for after the second Ctrl-C. */
static void test_second_interrupt(void **state) {
    (void)state;
    for (int np = 1; np <= 2; np++) {
        test_run *run = start_with(np, np > 1, "CDPIPE_FAULT=0:step:hang:20");
        let_it_run(run);
        sleep(1); /* its 20th step hangs by now */
        assert_int_equal(kill(run->pid, SIGINT), 0);
        sleep(1); /* two signals of one kind that are pending are one */
        assert_int_equal(kill(run->pid, SIGINT), 0);
        test_run_wait(run);
        if (run->exit_code != 75 || strstr(run->err, "stopped by a signal") != NULL)
            fail_msg("%d processes: exit code %d, expected 75 at once\n%s", np, run->exit_code, run->err);
        assert_int_equal(test_run_left(run), 0);
        test_run_close(run);
    }
}

/* mpirun forwards SIGUSR1: the batch script's way to say stop soon. */
static void test_usr1_to_mpirun(void **state) {
    (void)state;
    check_stopped(start_slow(2, false), SIGUSR1, "mpirun");
}

/* A pipe is full and nobody reads it: whatever was to be written there, the stop is what ended the run. */
static void test_while_nobody_reads(void **state) {
    (void)state;
    static const char *const writers[] = {
        "generate --ignore-eos --max-new-tokens 9 >$TMPDIR/full",
        "generate --ignore-eos --max-new-tokens 9 --json >$TMPDIR/full",
        "score >$TMPDIR/full",
        "score --json >$TMPDIR/full",
        "lens >$TMPDIR/full",
        "lens --json >$TMPDIR/full",
        "bench --pp 2 --tg 2 --batch 1 --repeat 1 >$TMPDIR/full",
        "batch --input $TMPDIR/in --output $TMPDIR/out --json >$TMPDIR/full",
        "batch --input $TMPDIR/in --output $TMPDIR/full",
    };
    enum { N_WRITERS = sizeof writers / sizeof writers[0] };
    test_run *runs[N_WRITERS];
    for (int i = 0; i < N_WRITERS; i++) {
        char line[1024];
        const bool has_prompt = strncmp(writers[i], "b", 1) != 0;
        snprintf(line, sizeof line,
                 "mkfifo $TMPDIR/full; { exec sleep 60; } <$TMPDIR/full >/dev/null 2>&1 & "
                 "head -c 65536 /dev/zero >$TMPDIR/full; echo '{\"prompt\": \"ROMEO:\"}' >$TMPDIR/in; "
                 "exec " CDPIPE_BIN " %s --model %s --device cpu --threads 1%s",
                 writers[i], test_path("examples/shakespeare"), has_prompt ? " --prompt ROMEO:" : "");
        runs[i] = test_run_open(60.0);
        test_run_add(runs[i], "sh", "-c", line, NULL);
        test_run_start(runs[i]);
    }
    sleep(6); /* all stand at the pipe by now; one that does not is stopped as ever */
    for (int i = 0; i < N_WRITERS; i++)
        assert_int_equal(kill(runs[i]->pid, SIGTERM), 0);
    test_run_wait_all(runs, N_WRITERS);
    for (int i = 0; i < N_WRITERS; i++) {
        if (runs[i]->exit_code != 75 || strstr(runs[i]->err, "stopped by a signal") == NULL)
            fail_msg("%s: exit code %d, expected 75\n%s", writers[i], runs[i]->exit_code, runs[i]->err);
        test_run_close(runs[i]);
    }
}

static void test_mpirun_dies(void **state) {
    (void)state;
    static const int signals[] = {SIGKILL, SIGTERM, SIGHUP, SIGINT};
    for (int i = 0; i < 4; i++) {
        test_run *run = start_slow(3, false);
        let_it_run(run);
        assert_int_equal(kill(run->pid, signals[i]), 0);
        sleep(3); /* ranks notice within a second; nothing else ends them here */
        if (test_run_left(run) != 0)
            fail_msg("signal %d to mpirun left %d processes behind", signals[i], test_run_left(run));
        test_run_wait(run);
        test_run_close(run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_process),        cmocka_unit_test(test_started_by_itself),
        cmocka_unit_test(test_second_interrupt),   cmocka_unit_test(test_usr1_to_mpirun),
        cmocka_unit_test(test_while_nobody_reads), cmocka_unit_test(test_mpirun_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
