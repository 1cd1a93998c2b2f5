/* The attempts journal: who was in flight when runs died, and when a prompt is condemned.
 *
 * What it catches: a prompt that is punished for a kill from outside, one that may crash the engine for ever,
 * a charge that survives the prompt's own record; and the line that a dying rank leaves.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "launcher/batch/evidence.h"
#include "launcher/batch/journal.h"
#include "tests/support/data.h"

static char out_path[256];
static cdp_ledger ledger;

static void fresh(void) {
    static int number;
    uint32_t first, second;
    snprintf(out_path, sizeof out_path, "%s/out%d", test_temp_dir(), number++);
    cdp_ledger_close(&ledger);
    for (uint32_t i = 0; i < 9; i++) /* every second line of the file is blank */
        cdp_ledger_add(&ledger, cdp_line_hash(i), 0, 1 + 2 * i, 0);
    assert_true(cdp_ledger_sort(&ledger, &first, &second));
}

static void add_text(const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s.attempts", out_path);
    FILE *to = fopen(path, "ab");
    fputs(text, to);
    fclose(to);
}

/* The suspect of a line, zero when it is not charged. */
static cdp_suspect look(uint32_t line) {
    cdp_journal j;
    cdp_suspect found = {.line = line};
    assert_int_equal(cdp_journal_read(&j, &cdp_disk_real, out_path, &ledger), CDP_OK);
    for (int i = 0; i < j.n_charged; i++)
        if (j.charged[i].line == line)
            found = j.charged[i];
    cdp_journal_close(&j);
    return found;
}

static const char begin_text[] = "\nrun 4711 node7 boot 0\n";

static void test_charges(void **state) {
    (void)state;
    fresh();
    assert_int_equal(look(1).n_silent, 0); /* no journal at all */
    add_text(begin_text);
    add_text("start 1\nstart 3\nstart 4\nstart 99\ncrash 1 signal 11\n"); /* lines 4 and 99 are not there */
    assert_int_equal(look(3).n_proven, 1);
    assert_int_equal(look(4).n_proven, 0);
    assert_true(cdp_ledger_mark_done(&ledger, 1, false)); /* line 3 has its record: acquitted */
    assert_int_equal(look(3).n_proven, 0);
    add_text(begin_text);
    add_text("alone 1\n");
    add_text(begin_text);
    add_text("start 1\nstart 5\nstop\n"); /* ended in order: no charge */
    cdp_suspect s = look(1);
    assert_int_equal(s.n_proven, 1);
    assert_int_equal(s.n_silent, 1);
    assert_int_equal(s.n_silent_alone, 1);
    assert_int_equal(look(5).n_silent, 0);
    assert_true(cdp_suspect_runs_alone(&s) && !cdp_suspect_is_condemned(&s));
    add_text(begin_text);
    add_text("alone 1\ncrash 0 hang 0\nstop\n"); /* the others were told to stop because of it */
    s = look(1);
    assert_true(cdp_suspect_is_condemned(&s));
}

/* Deaths without evidence count little: five before the prompt runs alone, five alone before it is condemned.
 */
static void test_silent_deaths(void **state) {
    (void)state;
    fresh();
    for (int i = 0; i < 10; i++) {
        add_text(begin_text);
        add_text(i < 5 ? "start 7\n" : "alone 7\n");
        const cdp_suspect s = look(7);
        assert_int_equal(cdp_suspect_runs_alone(&s), i >= 4);
        assert_int_equal(cdp_suspect_is_condemned(&s), i >= 9);
    }
    fresh(); /* company never condemns */
    for (int i = 0; i < 40; i++) {
        add_text(begin_text);
        add_text("start 7\ncrash 2 signal 11\n");
    }
    const cdp_suspect s = look(7);
    assert_false(cdp_suspect_is_condemned(&s));
}

/* The kernel's count of out-of-memory kills has grown since the run began: that is evidence. */
static void test_out_of_memory(void **state) {
    (void)state;
    cdp_journal j;
    char text[512];
    long pid, n_kills = 0;
    char host[64], boot[64];
    fresh();
    assert_int_equal(cdp_journal_read(&j, &cdp_disk_real, out_path, &ledger), CDP_OK);
    assert_int_equal(cdp_journal_begin(&j), CDP_OK);
    snprintf(text, sizeof text, "%s", j.path);
    FILE *from = fopen(text, "r");
    assert_int_equal(fscanf(from, " run %ld %63s %63s %ld", &pid, host, boot, &n_kills), 4);
    fclose(from);
    assert_int_equal(pid, getpid());
    assert_non_null(strstr(j.holder, host));
    cdp_journal_close(&j);
    fresh();
    snprintf(text, sizeof text, "\nrun 1 %s %s %ld\nstart 1\n\nrun 2 %s %s %ld\nstart 3\n", host, boot,
             n_kills - 1, host, boot, n_kills);
    add_text(text);
    assert_int_equal(look(1).n_proven, 1);
    assert_int_equal(look(3).n_silent, 1);
}

static void test_written_is_read(void **state) {
    (void)state;
    cdp_journal j;
    fresh();
    add_text("\nrun 4711 node7 bo"); /* torn */
    assert_int_equal(cdp_journal_read(&j, &cdp_disk_real, out_path, &ledger), CDP_OK);
    assert_int_equal(cdp_journal_begin(&j), CDP_OK);
    assert_int_equal(cdp_journal_start(&j, 5, true), CDP_OK);
    assert_int_equal(cdp_journal_start(&j, 7, false), CDP_OK);
    assert_int_equal(look(5).n_silent_alone, 1);
    assert_int_equal(look(7).n_silent, 1);
    assert_int_equal(cdp_journal_stop(&j), CDP_OK);
    assert_int_equal(look(5).n_silent, 0);
    cdp_journal_remove(&j);
    assert_int_not_equal(access(j.path, F_OK), 0);
    cdp_journal_close(&j);
}

/* A rank that dies by SEGV or ABRT leaves its line and still dies of it; one that is killed leaves none. */
static void test_evidence(void **state) {
    (void)state;
    static const int signals[] = {SIGSEGV, SIGABRT, SIGFPE, SIGKILL, SIGTERM};
    for (int i = 0; i < 5; i++) {
        int status = 0;
        fresh();
        add_text(begin_text);
        add_text("start 1\n");
        fflush(NULL);
        const pid_t child = fork();
        if (child == 0) {
            const struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            for (int s = 0; s < 5; s++)
                signal(signals[s], SIG_DFL); /* sanitizers have handlers of their own */
            cdp_evidence_arm(out_path, 2);
            raise(signals[i]);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
        assert_int_equal(look(1).n_proven, i < 3);
        assert_int_equal(look(1).n_silent, i >= 3);
    }
}

static int close_all(void **state) {
    (void)state;
    cdp_ledger_close(&ledger);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_charges),       cmocka_unit_test(test_silent_deaths),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_written_is_read),
        cmocka_unit_test(test_evidence),
    };
    return cmocka_run_group_tests(tests, NULL, close_all);
}
