/* Faults on demand: the right rank, the right point, the right passage; and nothing when nothing is asked. */
#include "kernels/fault.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static cdp_status open_fault(const char *text, int rank) {
    if (text == NULL)
        unsetenv("CDPIPE_FAULT");
    else
        setenv("CDPIPE_FAULT", text, 1);
    cdp_error_clear();
    return cdp_fault_open(rank);
}

/* A child that passes `point` n times on rank 1 and then exits with 42. */
static pid_t start_child(const char *fault, const char *point, int n) {
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (open_fault(fault, 1) != CDP_OK)
            _exit(1);
        for (int i = 0; i < n; i++)
            (void)!cdp_fault_pass(point);
        _exit(42);
    }
    return pid;
}

static int end_of(const char *fault, const char *point, int n) {
    int status = 0;
    const pid_t pid = start_child(fault, point, n);
    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void malformed_values_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"1",
                                      "1:step",
                                      ":step:kill9",
                                      "x:step:kill9",
                                      "-1:step:kill9",
                                      "1:stepp:kill9",
                                      "1::kill9",
                                      "1:step:",
                                      "1:step:kill",
                                      "1:step:kill9:",
                                      "1:step:kill9:0",
                                      "1:step:kill9:1x",
                                      "1:step:kill9:1:2",
                                      "1:step:slow",
                                      "1:step:slow:",
                                      "1:step:slow:x",
                                      "1:step:slow:5:0",
                                      "1:step:slow:5:1:1",
                                      "1:step:hang:99999999999999999999",
                                      "1:step:kill9\n",
                                      "1:step:kill9,",
                                      ",1:step:kill9",
                                      "0:step:hang,1:step:kill",
                                      " 1:step:kill9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int rank = 0; rank < 2; rank++) {
            if (open_fault(bad[i], rank) != CDP_USAGE)
                fail_msg("\"%s\" was taken", bad[i]);
            assert_non_null(strstr(cdp_error_message(), "CDPIPE_FAULT"));
            (void)!cdp_fault_pass("step"); /* and leaves nothing behind */
        }
}

static void good_values_are_taken(void **state) {
    (void)state;
    static const char *const good[] = {"0:load:kill9",   "12:step:stop:3",     "1:step:hang",
                                       "1:load:slow:50", "1:step:slow:50:100", ""};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (open_fault(good[i], 5) != CDP_OK)
            fail_msg("\"%s\" was refused", good[i]);
    assert_int_equal(open_fault(NULL, 0), CDP_OK);
    (void)!cdp_fault_pass("load");
    (void)!cdp_fault_pass("step");
}

static void kill9_strikes_at_the_nth_passage(void **state) {
    (void)state;
    assert_int_equal(end_of("1:step:kill9", "step", 1), -SIGKILL);
    assert_int_equal(end_of("1:step:kill9:3", "step", 2), 42);
    assert_int_equal(end_of("1:step:kill9:3", "step", 3), -SIGKILL);
    assert_int_equal(end_of("1:step:kill9", "load", 5), 42);
    assert_int_equal(end_of("2:step:kill9", "step", 5), 42);
    assert_int_equal(end_of("0:step:exit3,1:step:kill9:3,2:step:exit3", "step", 3), -SIGKILL);
    assert_int_equal(end_of("0:step:exit3,2:step:exit3", "step", 3), 42);
    assert_int_equal(end_of("1:step:exit3,1:step:kill9", "step", 1), -SIGKILL);
}

static void stop_stops_once(void **state) {
    (void)state;
    int status = 0;
    const pid_t pid = start_child("1:load:stop", "load", 3);
    assert_true(waitpid(pid, &status, WUNTRACED) == pid);
    assert_true(WIFSTOPPED(status));
    kill(pid, SIGCONT);
    assert_true(waitpid(pid, &status, WUNTRACED) == pid);
    kill(pid, SIGKILL); /* in case it stopped again */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

/* hang sleeps, loop works: both for ever. */
static void hang_and_loop_do_not_come_back(void **state) {
    (void)state;
    static const char *const faults[] = {"1:step:hang", "1:compute:loop"}, *const points[] = {"step",
                                                                                              "compute"};
    for (int i = 0; i < 2; i++) {
        struct rusage used;
        int status = 0;
        const pid_t pid = start_child(faults[i], points[i], 1);
        usleep(300000);
        assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
        kill(pid, SIGKILL);
        assert_true(wait4(pid, &status, 0, &used) == pid);
        const double worked_s = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec * 1e-6;
        assert_true(i == 0 ? worked_s < 0.01 : worked_s > 0.01);
    }
}

static void slow_sleeps_from_the_nth_passage_on(void **state) {
    (void)state;
    assert_int_equal(open_fault("0:step:slow:40:3", 0), CDP_OK);
    double start = now_s();
    (void)!cdp_fault_pass("step");
    (void)!cdp_fault_pass("step");
    assert_true(now_s() - start < 0.04);
    start = now_s();
    (void)!cdp_fault_pass("step");
    (void)!cdp_fault_pass("step");
    assert_true(now_s() - start >= 0.08);
    assert_int_equal(open_fault(NULL, 0), CDP_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_values_are_refused),
        cmocka_unit_test(good_values_are_taken),
        cmocka_unit_test(kill9_strikes_at_the_nth_passage),
        cmocka_unit_test(stop_stops_once),
        cmocka_unit_test(hang_and_loop_do_not_come_back),
        cmocka_unit_test(slow_sleeps_from_the_nth_passage_on),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
