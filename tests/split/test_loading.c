/* The weights' way in, and the cores they are computed on, as a person sees them. What it catches: a bar
 * where there is no terminal or none where there is one, a line about a load that takes no time, cores taken
 * twice, an affinity mask that is not obeyed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cores.h"
#include "tests/support/data.h"
#include "tests/support/spawn.h"
#include "tests/support/terminal.h"

static const char *model(void) {
    return test_path("examples/shakespeare");
}

static test_run *open_run(int np, const char *fault) {
    char word[16];
    snprintf(word, sizeof word, "%d", np);
    test_run *run = test_run_open(60.0);
    test_run_add(run, CDPIPE_BIN, "--np", word, "--device", "cpu", "--model", model(), "--prompt", "ROMEO:\n",
                 "--max-new-tokens", "1", NULL);
    if (fault != NULL)
        test_run_env(run, fault);
    return run;
}

/* A load of a few seconds, one rank of three slower than the others, on a terminal: a bar that names it. */
static void test_bar(void **state) {
    (void)state;
    test_terminal *t = test_terminal_open((const char *const[]){
        "/usr/bin/env", "CDPIPE_FAULT=1:load:slow:900", CDPIPE_BIN, "--np", "3", "--device", "cpu", "--model",
        model(), "--prompt", "ROMEO:\n", "--max-new-tokens", "1", NULL});
    assert_true(test_terminal_sees(t, "\r[", 30));
    assert_true(test_terminal_sees(t, "] weights: ", 5));
    assert_true(test_terminal_sees(t, "GB/s, rank 1 is at ", 5));
    assert_true(test_terminal_sees(t, "\r\x1b[K# weights: ", 20)); /* gone before the next line */
    assert_true(test_terminal_sees(t, "rank 1 was the last: ", 5));
    assert_int_equal(test_terminal_close(t, 30, NULL), 0);
}

/* The same without one: no bar, the line at the end. --quiet: not even that. A load of no time: nothing. */
static void test_lines(void **state) {
    (void)state;
    static const struct {
        int np;
        const char *fault, *quiet, *says;
    } cases[] = {
        {1, "CDPIPE_FAULT=0:load:slow:900", NULL, "# weights: "},
        {2, "CDPIPE_FAULT=1:load:slow:900", NULL, "rank 1 was the last: "},
        {2, "CDPIPE_FAULT=1:load:slow:900", "--quiet", NULL},
        {1, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = open_run(cases[i].np, cases[i].fault);
        if (cases[i].quiet != NULL)
            test_run_add(run, cases[i].quiet, NULL);
        test_run_go(run);
        assert_int_equal(run->exit_code, 0);
        assert_null(strstr(run->err, "\r["));
        if (cases[i].says != NULL)
            assert_non_null(strstr(run->err, cases[i].says));
        else
            assert_null(strstr(run->err, "# weights: "));
        test_run_close(run);
    }
}

/* Threads in the banner, rank by rank, as the library shares out what `mask` leaves of this host. */
static void check_threads(int np, const char *cpus, const cpu_set_t *mask) {
    char word[16], expected[64];
    cdp_cores ranks[3] = {0};
    int core_of[CPU_SETSIZE];
    cdp_core_share share;
    snprintf(word, sizeof word, "%d", np);
    cdp_cores_topology(core_of, mask, "");
    for (int i = 0; i < np; i++) {
        cdp_cores_read(&ranks[i], "");
        ranks[i].mask = *mask;
    }
    test_run *run = test_run_open(60.0);
    test_run_add(run, "/usr/bin/taskset", "-c", cpus, CDPIPE_BIN, "--np", word, "--device", "cpu", "--model",
                 model(), "--prompt", "ROMEO:\n", "--max-new-tokens", "1", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    const char *at = run->err;
    for (int i = 0; i < np; i++) {
        cdp_cores_share(&share, ranks, np, i, core_of);
        snprintf(expected, sizeof expected, "%d  CPU %d thread%s,", i, share.n, share.n == 1 ? "" : "s");
        at = strstr(at, expected);
        if (at == NULL)
            fail_msg("np %d on processors %s: \"%s\" is not in\n%s", np, cpus, expected, run->err);
    }
    test_run_close(run);
}

static void test_threads(void **state) {
    (void)state;
    cdp_cores mine;
    cpu_set_t first;
    char one[16], all[CPU_SETSIZE * 5] = "";
    int n = 0;
    cdp_cores_read(&mine, "");
    CPU_ZERO(&first);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &mine.mask))
            continue;
        if (n == 0) {
            CPU_SET((size_t)cpu, &first);
            snprintf(one, sizeof one, "%d", cpu);
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%d", n++ > 0 ? "," : "", cpu);
    }
    for (int np = 1; np <= 3; np++) {
        check_threads(np, one, &first);
        check_threads(np, all, &mine.mask);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bar), cmocka_unit_test(test_lines),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
