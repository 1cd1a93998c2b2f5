/* Promise 3: nobody waits for the dead. A rank dies, stops, hangs or gets an error at every point a run
 * passes, from before MPI starts to its end (table.h); the job must end in time with the code of that fault,
 * name the rank, and leave no process behind. Runs go several at a time: most of their time is waiting.
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

#include "tests/faults/table.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

/* What a device's runs have in common. The stand-in makes some ten million threads meet a second: a smaller
 * model, fewer runs at once, more patience. */
typedef struct fault_device {
    const char *name, *model, *ids, *n_tokens;
    int at_once;
    double step_timeout_s, start_s; /* mpirun and MPI_Init of several runs on a busy machine */
} fault_device;

#ifdef __SANITIZE_ADDRESS__
enum { SLOWER = 2 };
#else
enum { SLOWER = 1 };
#endif
static const fault_device
    cpu = {"cpu", "examples/shakespeare", "1179,37,47,26,199", "30", 12, 1.0, 8.0 * SLOWER},
    cuda = {"cuda", "tests/golden/models/llama", "179,37,47,26,199", "8", 6, 3.0 * SLOWER, 45.0 * SLOWER};
enum { MOST_AT_ONCE = 12 };

static const fault_device *device(void) {
    return strcmp(test_device(), "cuda") == 0 ? &cuda : &cpu;
}

static const fault_kind *kind_named(const char *name) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    fail_msg("no kind %s", name);
    return NULL;
}

static test_run *make_run(int np, const char *fault) {
    const fault_device *d = device();
    char timeout[16];
    snprintf(timeout, sizeof timeout, "%g", d->step_timeout_s);
    test_run *run = test_run_open(d->start_s + 22.0);
    test_run_mpirun(run, np);
    test_run_add(run, test_program(), "--model", test_path(d->model), "--prompt-ids", d->ids, "--temperature",
                 "0", "--max-new-tokens", d->n_tokens, "--device", d->name, "--threads", "1", "--ignore-eos",
                 "--step-timeout", timeout, NULL);
    test_run_env(run, fault);
    return run;
}

/* How this kind strikes while a GPU computes; NULL on the CPU device, and at other points. */
static const gpu_compute *on_gpu(const fault_case *c) {
    for (int i = 0; i < N_GPU_COMPUTES; i++)
        if (device() == &cuda && strcmp(c->point, "compute") == 0 &&
            strcmp(gpu_computes[i].kind, c->kind->name) == 0)
            return &gpu_computes[i];
    return NULL;
}

/* Of kernels/fault.h, not one of the stand-in. */
static bool is_point(const char *name) {
    for (int i = 0; i < N_POINTS; i++)
        if (strcmp(points[i], name) == 0)
            return true;
    return strcmp(name, "watchdog") == 0; /* before it runs nobody names the dead: no row of the table */
}

/* The variable that brings it about. */
static void fault_text(const fault_case *c, char *out, size_t out_size) {
    const gpu_compute *g = on_gpu(c);
    if (g != NULL)
        snprintf(out, out_size, "STANDIN_FAULT=%d:%s:%d", c->rank, g->fault, c->nth > 0 ? c->nth : 20);
    else if (!is_point(c->point))
        snprintf(out, out_size, "STANDIN_FAULT=%d:%s:%s:%d", c->rank, c->point, c->kind->name, c->nth);
    else if (c->nth > 0)
        snprintf(out, out_size, "CDPIPE_FAULT=%d:%s:%s:%d", c->rank, c->point, c->kind->name, c->nth);
    else
        snprintf(out, out_size, "CDPIPE_FAULT=%d:%s:%s", c->rank, c->point, c->kind->name);
}

static test_run *start_case(const fault_case *c) {
    char fault[64];
    fault_text(c, fault, sizeof fault);
    test_run *run = make_run(c->np, fault);
    test_run_start(run);
    return run;
}

/* Dead: 5 s. Hung or stopped: the limit + 5 s; before MPI has started 10 s more. */
static double allowed_s(const fault_case *c) {
    const fault_device *d = device();
    const double start = strcmp(c->point, "init") == 0 ? d->start_s + 10 : d->start_s;
    return start + 5 + (c->kind->class == STALLS ? d->step_timeout_s : 0);
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
    const bool is_named = (first != NULL && strncmp(first, named, strlen(named)) == 0) || c->np == 1;
    if (is_start ? error == NULL : !is_named)
        fail_msg("np %d, rank %d %s at %s: the line names nobody or another\n%s", c->np, c->rank,
                 c->kind->name, c->point, run->err);
    const gpu_compute *g = on_gpu(c);
    const char *says = g != NULL && g->says != NULL ? g->says : c->kind->says;
    if (says != NULL && strstr(error, says) == NULL)
        fail_msg("np %d, rank %d %s at %s: the line does not say \"%s\"\n%s", c->np, c->rank, c->kind->name,
                 c->point, says, run->err);
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

/* Leave out what this device cannot suffer, and say why. */
static int keep_possible(fault_case *cases, int n) {
    int n_kept = 0;
    for (int i = 0; i < n; i++) {
        const gpu_compute *g = on_gpu(&cases[i]);
        if (g == NULL || g->fault != NULL)
            cases[n_kept++] = cases[i];
        else
            print_message("    not at cuda: %s at compute: %s\n", g->kind, g->why_not);
    }
    return n_kept;
}

static void check_cases(fault_case *cases, int n) {
    const int at_once = device()->at_once;
    n = keep_possible(cases, n);
    for (int at = 0; at < n; at += at_once) {
        test_run *runs[MOST_AT_ONCE];
        const int n_now = n - at < at_once ? n - at : at_once;
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
                (fault_case){np, is_first ? 0 : np - 1, points[p], nth_of_class((fault_class) class, p), 0};
            if (class == FAILS && strcmp(points[p], "write") != 0)
                cases[n++] =
                    (fault_case){np, is_first ? np - 1 : 0, points[p], nth_of_class(FAILS, p + 1), 0};
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
                cases[n++] = (fault_case){3, rank, where[p], kind_named(how[k]), 0};
    check_cases(cases, wants_all() ? 0 : n);
}

/* Rank 0 stops in its first block, while rank 2 still reads: it has to end its own part and then waits, so
 * that it is rank 0 whom somebody names. */
static void test_stop_while_another_reads(void **state) {
    (void)state;
    const fault_case stopped = {3, 0, "load", kind_named("stop"), 0};
    test_run *run = make_run(3, "CDPIPE_FAULT=0:load:stop,2:load:slow:250");
    test_run_add(run, "--step-timeout", "3", NULL); /* to wait a good second less than rank 0's silence */
    test_run_go(run);
    check_case(&stopped, run);
    test_run_close(run);
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
                cases[n++] = (fault_case){np, 0, points[p], &kinds[k], 0};
                if (strcmp(points[p], "write") != 0)
                    cases[n++] = (fault_case){np, np - 1, points[p], &kinds[k], 0};
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
            char fault[64]; /* steps go well before */
            cases[n] = (fault_case){np, rank, "compute", kind_named("loop"), device() == &cuda ? 30 : 300};
            fault_text(&cases[n], fault, sizeof fault);
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
        cases[i] = (fault_case){victims[i].np, victims[i].rank, "compute", kind_named("hang"), 1};
    check_cases(cases, N);
}

/* A rank that cannot watch says so: the others neither watch nor wait for it. */
static void test_no_watchdog(void **state) {
    (void)state;
    fault_case cases[] = {{1, 0, "watchdog", kind_named("enomem"), 1},
                          {2, 1, "watchdog", kind_named("enomem"), 1},
                          {3, 0, "watchdog", kind_named("eio"), 1}};
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

/* A slow rank is no fault: the run ends well, and says who was slow. */
static void test_slow(void **state) {
    (void)state;
    test_run *run =
        make_run(2, device() == &cuda ? "CDPIPE_FAULT=1:step:slow:300" : "CDPIPE_FAULT=1:step:slow:60");
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
    const fault_device *d = device();
    test_run *run = test_run_open(20.0);
    test_run_add(run, test_program(), "--model", test_path(d->model), "--prompt-ids", d->ids, "--device",
                 d->name, "--step-timeout", "1", NULL);
    test_run_env(run, "CDPIPE_FAULT=0:step:hang:3");
    test_run_go(run);
    assert_int_equal(run->exit_code, 70);
    assert_non_null(strstr(run->err, "rank 0"));
    assert_non_null(strstr(run->err, "step 2"));
    test_run_close(run);
}

/* What only a GPU can do wrong. */
static void test_gpu_rows(void **state) {
    (void)state;
    fault_case cases[N_GPU_ROWS];
    memcpy(cases, gpu_rows, sizeof gpu_rows);
    check_cases(cases, device() == &cuda ? N_GPU_ROWS : 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_point),
        cmocka_unit_test(test_load_and_step),
        cmocka_unit_test(test_stop_while_another_reads),
        cmocka_unit_test(test_every_kind_at_every_point),
        cmocka_unit_test(test_endless_loop),
        cmocka_unit_test(test_first_job),
        cmocka_unit_test(test_no_watchdog),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_gpu_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
