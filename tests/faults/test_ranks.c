/* Promise 3: nobody waits for the dead. A rank dies, stops, hangs or gets an error at every point a run
 * passes, from before MPI starts to its end; the job must end in time with the code of that fault, name the
 * rank, and leave no process behind. Runs go several at a time, because most of their time is waiting.
 *
 * Each commit runs every point with one way to die, one to stall and, on the first rank and on the last, one
 * to fail, kinds and victims taking turns, and the moments of load and step with all of them.
 * CDPIPE_TEST_ALL=1 runs every point with every kind on the first and the last rank of two and of three;
 * CDPIPE_TEST_ALL=load those of that point alone.
 *
 * What it catches: a wait without a test loop, a watchdog that starts too late or accuses the wrong rank, an
 * error that one rank keeps to itself, a rank that survives its job.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

enum { AT_ONCE = 12 };
static const double STEP_TIMEOUT_S = 1.0;
#ifdef __SANITIZE_ADDRESS__
static const double START_S = 16.0; /* mpirun and MPI_Init of several runs on a busy machine */
#else
static const double START_S = 8.0;
#endif

typedef enum fault_class { DIES, STALLS, FAILS, SLOWS } fault_class;

typedef struct fault_kind {
    const char *name;
    fault_class class;
    int code, other_code; /* as mpirun tells it; 70 where a peer was faster is right for all that die */
    const char *says;     /* part of the line */
} fault_kind;

static const fault_kind kinds[] = {
    {"kill9", DIES, 137, 70, NULL},
    {"segv", DIES, 139, 70, NULL},
    {"exit0", DIES, 70, 1, NULL},
    {"exit3", DIES, 3, 70, NULL},
    {"stop", STALLS, 70, 70, NULL},
    {"hang", STALLS, 70, 70, NULL},
    {"loop", STALLS, 70, 70, NULL},
    {"enomem", FAILS, 71, 71, "Cannot allocate memory"},
    {"eio", FAILS, 74, 74, "Input/output error"},
    {"cuda-sticky", FAILS, 70, 70, "illegal memory access"},
    {"nccl-error", FAILS, 69, 69, "NCCL error"},
    {"slow:2", SLOWS, 0, 0, NULL}, /* a step passes `compute` some forty times */
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* `write` is where rank 0 writes its text: others never come there. `sync` belongs to batch. */
static const char *const points[] = {"init", "args",    "config", "plan", "alloc", "load",    "comm-init",
                                     "step", "compute", "send",   "recv", "write", "finalize"};
enum { N_POINTS = sizeof points / sizeof points[0] };

typedef struct fault_case {
    int np, rank;
    const char *point;
    const fault_kind *kind;
} fault_case;

static const fault_kind *kind_named(const char *name) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    fail_msg("no kind %s", name);
    return NULL;
}

static test_run *make_run(int np, const char *fault) {
    char timeout[16];
    snprintf(timeout, sizeof timeout, "%g", STEP_TIMEOUT_S);
    test_run *run = test_run_open(30.0);
    test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_BIN, "--model", test_path("examples/shakespeare"), "--prompt-ids",
                 "1179,37,47,26,199", "--temperature", "0", "--max-new-tokens", "30", "--device", "cpu",
                 "--threads", "1", "--ignore-eos", "--step-timeout", timeout, NULL);
    test_run_env(run, fault);
    return run;
}

static test_run *start_case(const fault_case *c) {
    char fault[64];
    snprintf(fault, sizeof fault, "CDPIPE_FAULT=%d:%s:%s", c->rank, c->point, c->kind->name);
    test_run *run = make_run(c->np, fault);
    test_run_start(run);
    return run;
}

/* Dead: 5 s. Hung or stopped: the limit + 5 s; before MPI has started 10 s more. */
static double allowed_s(const fault_case *c) {
    const double start = strcmp(c->point, "init") == 0 ? START_S + 10 : START_S;
    return start + 5 + (c->kind->class == STALLS ? STEP_TIMEOUT_S : 0);
}

/* The first error line accuses the culprit: its number comes first. Before there is a world nobody can know
 * who is missing, and a launcher that ends a dead rank's peers at once leaves them no time to speak. */
static void check_line(const fault_case *c, const test_run *run) {
    const bool is_start = strcmp(c->point, "init") == 0;
    const char *error = strstr(run->err, "cdpipe: error:");
    char named[32];
    snprintf(named, sizeof named, "rank %d", c->rank);
    if (error == NULL && is_start && c->kind->class == DIES)
        return;
    const char *first = error == NULL ? NULL : strstr(error, "rank ");
    const bool is_named = first != NULL && strncmp(first, named, strlen(named)) == 0;
    if (is_start ? error == NULL : !is_named)
        fail_msg("np %d, rank %d %s at %s: the line names nobody or another\n%s", c->np, c->rank,
                 c->kind->name, c->point, run->err);
    if (c->kind->says != NULL && strstr(error, c->kind->says) == NULL)
        fail_msg("np %d, rank %d %s at %s: the line does not say \"%s\"\n%s", c->np, c->rank, c->kind->name,
                 c->point, c->kind->says, run->err);
}

static void check_case(const fault_case *c, test_run *run) {
    if (run->timed_out || run->elapsed_s > allowed_s(c))
        fail_msg("np %d, rank %d %s at %s: took %.1f s, allowed %.1f\n%s", c->np, c->rank, c->kind->name,
                 c->point, run->elapsed_s, allowed_s(c), run->err);
    if (run->exit_code != c->kind->code && run->exit_code != c->kind->other_code)
        fail_msg("np %d, rank %d %s at %s: exit code %d, expected %d or %d\n%s", c->np, c->rank,
                 c->kind->name, c->point, run->exit_code, c->kind->code, c->kind->other_code, run->err);
    if (c->kind->class != SLOWS)
        check_line(c, run);
    assert_int_equal(test_run_left(run), 0);
}

static void check_cases(const fault_case *cases, int n) {
    for (int at = 0; at < n; at += AT_ONCE) {
        test_run *runs[AT_ONCE];
        const int n_now = n - at < AT_ONCE ? n - at : AT_ONCE;
        for (int i = 0; i < n_now; i++)
            runs[i] = start_case(&cases[at + i]);
        test_run_wait_all(runs, n_now);
        for (int i = 0; i < n_now; i++) {
            check_case(&cases[at + i], runs[i]);
            test_run_close(runs[i]);
        }
    }
}

static bool wants_all(void) {
    return getenv("CDPIPE_TEST_ALL") != NULL;
}

static bool wants_point(const char *point) {
    const char *asked = getenv("CDPIPE_TEST_ALL");
    return asked != NULL && (strcmp(asked, "1") == 0 || strcmp(asked, point) == 0);
}

/* Without `loop`: a dozen of those at once would starve the others. */
static const fault_kind *nth_of_class(fault_class class, int n) {
    int n_found = 0;
    for (size_t i = 0; i < N_KINDS; i++)
        n_found += kinds[i].class == class && strcmp(kinds[i].name, "loop") != 0;
    for (size_t i = 0, k = 0; i < N_KINDS; i++)
        if (kinds[i].class == class && strcmp(kinds[i].name, "loop") != 0 && k++ == (size_t)(n % n_found))
            return &kinds[i];
    return NULL;
}

/* Every point, with one kind of each class; the rank and the size of the world take turns. Rank 0 and the
 * others pass most points in different places of the source, and an error must be looked at in each. */
static void test_every_point(void **state) {
    (void)state;
    fault_case cases[N_POINTS * 4];
    int n = 0;
    if (wants_all())
        return;
    for (int p = 0; p < N_POINTS; p++)
        for (int class = DIES; class <= FAILS; class ++) {
            const int np = 2 + (p + class) % 2;
            const bool is_first = (p / 2 + class) % 2 == 0 || strcmp(points[p], "write") == 0;
            cases[n++] =
                (fault_case){np, is_first ? 0 : np - 1, points[p], nth_of_class((fault_class) class, p)};
            if (class == FAILS && strcmp(points[p], "write") != 0)
                cases[n++] = (fault_case){np, is_first ? np - 1 : 0, points[p], nth_of_class(FAILS, p + 1)};
        }
    check_cases(cases, n);
}

/* Load and step, where a run spends its time: every rank, every way to go silent. */
static void test_load_and_step(void **state) {
    (void)state;
    static const char *const where[] = {"load", "step"}, *const how[] = {"kill9", "stop", "hang"};
    fault_case cases[2 * 3 * 3];
    int n = 0;
    for (int p = 0; p < 2; p++)
        for (int k = 0; k < 3; k++)
            for (int rank = 0; rank < 3; rank++)
                cases[n++] = (fault_case){3, rank, where[p], kind_named(how[k])};
    check_cases(cases, wants_all() ? 0 : n);
}

/* The whole table. */
static void test_every_kind_at_every_point(void **state) {
    (void)state;
    for (int p = 0; p < N_POINTS; p++) {
        fault_case cases[N_KINDS * 4];
        int n = 0;
        if (!wants_point(points[p]))
            continue;
        for (size_t k = 0; k < N_KINDS; k++)
            for (int np = 2; np <= 3; np++) {
                cases[n++] = (fault_case){np, 0, points[p], &kinds[k]};
                if (strcmp(points[p], "write") != 0)
                    cases[n++] = (fault_case){np, np - 1, points[p], &kinds[k]};
            }
        print_message("    %s: %d runs\n", points[p], n);
        check_cases(cases, n);
    }
}

/* A worker that never ends its job, while the main thread of its rank turns, sends beats and answers the
 * others: the rank itself sees that no job gets done, and names the layers at work. */
static void test_endless_loop(void **state) {
    (void)state;
    enum { N = 1 + 2 + 3 };
    fault_case cases[N];
    test_run *runs[N];
    int n = 0;
    for (int np = 1; np <= 3; np++)
        for (int rank = 0; rank < np; rank++, n++) {
            char fault[64];
            snprintf(fault, sizeof fault, "CDPIPE_FAULT=%d:compute:loop:300",
                     rank); /* steps go well before */
            cases[n] = (fault_case){np, rank, "compute", kind_named("loop")};
            runs[n] = make_run(np, fault);
            test_run_add(runs[n], "--threads", "2", NULL);
            test_run_start(runs[n]);
        }
    test_run_wait_all(runs, N);
    for (int i = 0; i < N; i++) {
        const char *error = strstr(runs[i]->err, "no progress for");
        check_case(&cases[i], runs[i]);
        if (error == NULL || strstr(error, "while computing layers") == NULL ||
            strstr(error, "of step") == NULL)
            fail_msg("np %d, rank %d: not what it was doing\n%s", cases[i].np, cases[i].rank, runs[i]->err);
        test_run_close(runs[i]);
    }
}

/* The first job of all is a copy for the test of the link, while everybody starts: the rank whose worker
 * hangs there is named, and not the one that waits for its message. */
static void test_first_job(void **state) {
    (void)state;
    static const struct { int np, rank; } victims[] = {{2, 0}, {2, 1}, {3, 0}, {3, 1}, {3, 2}};
    enum { N = sizeof victims / sizeof victims[0] };
    fault_case cases[N];
    for (int i = 0; i < N; i++)
        cases[i] = (fault_case){victims[i].np, victims[i].rank, "compute", kind_named("hang")};
    check_cases(cases, N);
}

/* A slow rank is no fault: the run ends well, and says who was slow. */
static void test_slow(void **state) {
    (void)state;
    test_run *run = make_run(2, "CDPIPE_FAULT=1:step:slow:60");
    test_run_add(run, "--max-new-tokens", "12", NULL);
    test_run_go(run);
    if (run->exit_code != 0)
        fail_msg("a slow rank ended the run with %d\n%s", run->exit_code, run->err);
    if (strstr(run->err, "rank 1 is slow") == NULL || strstr(run->err, "rank 0 is slow") != NULL)
        fail_msg("the straggler is not named\n%s", run->err);
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
        cmocka_unit_test(test_every_point),
        cmocka_unit_test(test_load_and_step),
        cmocka_unit_test(test_every_kind_at_every_point),
        cmocka_unit_test(test_endless_loop),
        cmocka_unit_test(test_first_job),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
