/* Nobody waits for the dead: each rank of worlds of two and three is killed, stopped and hung; the job ends
 * in time with one line that names the culprit, and no process is left. */
#include "comm/watchdog.h"
#include "tests/support/spawn.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RANK_WATCH CDPIPE_TEST_BIN_DIR "/world_rank_watch"

static const double fault_s = 0.5; /* after the start of the ranks' work */
static const double start_s = 6.0; /* mpirun and MPI_Init on a machine that does other things too */

typedef struct fault {
    const char *kind;
    double most_s;     /* from fault to end */
    int codes[2];      /* either may come out of mpirun */
    const char *words; /* in the line */
} fault;

static const fault faults[] = {
    {"kill9", 5.0, {137, 70}, "died while computing layers"},
    {"exit0", 5.0, {1, 70}, "died while computing layers"},
    {"stop", 6.0, {70, 70}, "has been silent for 2."},
    {"hang", 6.0, {70, 70}, " s while computing layers"},
    {"stuck", 6.0, {70, 70}, "main thread stuck for 1."},
    {"work", 6.0, {70, 70}, "no progress for 1."},
};
enum { N_FAULTS = sizeof faults / sizeof *faults };

static int count(const char *text, const char *word) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static test_run *start_with(const char *limit, int np, int victim, const char *kind, const char *duration) {
    char rank[16];
    snprintf(rank, sizeof rank, "%d", victim);
    test_run *run = test_run_open(30.0);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, RANK_WATCH, limit, rank, kind, duration, NULL);
    test_run_start(run);
    return run;
}

static test_run *start(int np, int victim, const char *kind, const char *duration) {
    return start_with("1", np, victim, kind, duration);
}

#define check(run, condition)                                                                                \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fail_msg("%s: code %d, signal %d, %.1f s, stderr: %s", #condition, (run)->exit_code,             \
                     (run)->signal, (run)->elapsed_s, (run)->err);                                           \
    } while (0)

static void judge(const test_run *run, const fault *f, int victim) {
    char line[64];
    snprintf(line, sizeof line, "cdpipe: error: rank %d (", victim);
    check(run, !run->timed_out);
    check(run, run->exit_code == f->codes[0] || run->exit_code == f->codes[1]);
    check(run, run->elapsed_s < start_s + fault_s + f->most_s);
    check(run, count(run->err, "cdpipe: error:") == 1);
    check(run, count(run->err, line) == 1);
    check(run, strstr(run->err, f->words) != NULL);
    check(run, strstr(run->err, "leaving with 70") != NULL);
    check(run, test_run_left(run) == 0);
}

/* All faults of some victims at once: they mostly sleep. */
static void strike(int np, int first_victim, int end_victim) {
    test_run *runs[2 * N_FAULTS];
    int n = 0;
    for (int victim = first_victim; victim < end_victim; victim++)
        for (int i = 0; i < N_FAULTS; i++)
            runs[n++] = start(np, victim, faults[i].kind, NULL);
    test_run_wait_all(runs, n);
    for (int i = 0; i < n; i++) {
        judge(runs[i], &faults[i % N_FAULTS], first_victim + i / N_FAULTS);
        test_run_close(runs[i]);
    }
}

static void two_ranks(void **state) {
    (void)state;
    strike(2, 0, 2);
}
static void three_ranks_victim_0(void **state) {
    (void)state;
    strike(3, 0, 1);
}
static void three_ranks_victim_1(void **state) {
    (void)state;
    strike(3, 1, 2);
}
static void three_ranks_victim_2(void **state) {
    (void)state;
    strike(3, 2, 3);
}

/* A world of one has nobody else: only its own hang is seen. A rank that has said its own line is not named
 * again. */
static void alone_and_spoken(void **state) {
    (void)state;
    static const fault hang = {"hang", 6.0, {70, 70}, " s while computing layers 0-3 of step "};
    static const fault work = {"work", 6.0, {70, 70}, "no progress for 1."};
    test_run *runs[] = {start(1, 0, "hang", NULL), start(1, 0, "work", NULL), start(3, 1, "spoken", NULL)};
    test_run_wait_all(runs, 3);
    judge(runs[0], &hang, 0);
    judge(runs[1], &work, 0);
    check(runs[2], runs[2]->exit_code == 74 || runs[2]->exit_code == 70);
    check(runs[2], strcmp(runs[2]->err, "cdpipe: error: the disk is full\n") == 0);
    check(runs[2], test_run_left(runs[2]) == 0);
    for (int i = 0; i < 3; i++)
        test_run_close(runs[i]);
}

typedef struct lost_case {
    int np, victim, speaker; /* who sent it, who waits for it */
} lost_case;
enum { N_LOST = 4 };

static void start_lost(test_run *runs[N_LOST], const lost_case cases[N_LOST], const fault *lost) {
    for (int i = 0; i < N_LOST; i++)
        runs[i] = start(cases[i].np, cases[i].victim, lost->kind, NULL);
}

static void judge_lost(test_run *runs[N_LOST], const lost_case cases[N_LOST], const fault *lost) {
    for (int i = 0; i < N_LOST; i++) {
        char words[32];
        snprintf(words, sizeof words, ": step 7 of rank %d (", cases[i].victim);
        judge(runs[i], lost, cases[i].speaker);
        check(runs[i], strstr(runs[i]->err, words) != NULL);
        test_run_close(runs[i]);
    }
}

/* A message that a living rank has sent and a living rank waits for. One half of that is no fault. */
static void lost_messages_are_named_by_their_receiver(void **state) {
    (void)state;
    static const fault lost = {"lost", 6.0, {70, 70}, " s and does not arrive"};
    static const lost_case cases[N_LOST] = {{2, 0, 1}, {2, 1, 0}, {3, 1, 2}, {3, 2, 0}};
    test_run *runs[N_LOST], *healthy[] = {start(3, 1, "asked", "5"), start(3, 1, "ready", "5")};
    start_lost(runs, cases, &lost);
    test_run_wait_all(runs, N_LOST);
    test_run_wait_all(healthy, 2);
    judge_lost(runs, cases, &lost);
    for (int i = 0; i < 2; i++) {
        check(healthy[i], healthy[i]->exit_code == 0 && healthy[i]->n_err == 0);
        test_run_close(healthy[i]);
    }
}

/* All on hosts of their own, and between the two ranks without layers: they pass on what they hear. */
static void lost_messages_past_idle_ranks(void **state) {
    (void)state;
    static const fault lost = {"lost-far", 7.0, {70, 70}, " s and does not arrive"};
    static const lost_case cases[N_LOST] = {{2, 1, 0}, {3, 1, 0}, {3, 0, 2}, {4, 1, 0}};
    test_run *runs[N_LOST];
    start_lost(runs, cases, &lost);
    test_run_wait_all(runs, N_LOST);
    judge_lost(runs, cases, &lost);
}

/* A slow rank, a leaving rank and a suspended job are no faults. Two seconds for those that are near their
 * limit: the machine may take a core away for a while. */
static void healthy_runs_are_left_alone(void **state) {
    (void)state;
    test_run *slow = start_with("2", 3, 1, "slow", "6");
    /* In two ranks the other is late at the first barrier of leaving, in three at the second. */
    test_run *leaving[] = {start(2, 1, "leave", "1"), start(3, 1, "leave", "1")};
    test_run *suspended = start_with("2", 3, 1, "suspend", "7");
    assert_true(test_run_sees(suspended, "ready", 20.0));
    usleep(500000);
    assert_true(test_run_signal(suspended, SIGSTOP) >= 4);
    usleep(4500000);
    test_run_signal(suspended, SIGCONT);
    test_run *runs[] = {
        slow, leaving[0], leaving[1], suspended, start(2, 1, "beat", "1"), start(3, 1, "beat", "1")};
    test_run_wait_all(runs, 6);
    check(slow, slow->exit_code == 0 && slow->n_err == 0);
    /* mpirun itself dislikes an end without MPI_Finalize; but no rank may have said anything. */
    check(leaving[0], count(leaving[0]->err, "cdpipe: error:") == 0);
    check(leaving[1], count(leaving[1]->err, "cdpipe: error:") == 0);
    check(suspended, suspended->exit_code == 0 && suspended->n_err == 0);
    for (int i = 4; i < 6; i++)
        check(runs[i], runs[i]->exit_code == 0 && runs[i]->n_err == 0);
    for (int i = 0; i < 6; i++)
        test_run_close(runs[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ranks),
        cmocka_unit_test(three_ranks_victim_0),
        cmocka_unit_test(three_ranks_victim_1),
        cmocka_unit_test(three_ranks_victim_2),
        cmocka_unit_test(alone_and_spoken),
        cmocka_unit_test(lost_messages_are_named_by_their_receiver),
        cmocka_unit_test(lost_messages_past_idle_ranks),
        cmocka_unit_test(healthy_runs_are_left_alone),
    };
    return cmocka_run_group_tests_name("watchdog", tests, NULL, NULL);
}
