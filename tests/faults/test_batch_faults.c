/* What a batch job remembers of its deaths: a prompt that kills the engine each time, the evidence that ranks
 * leave, and every way to end while the output is written.
 *
 * What it catches: an innocent prompt condemned for its company or for its machine, a record lost or torn by
 * a disk.
 */
#include <signal.h>

#include "tests/faults/batch_job.h"
#include "tests/support/golden.h"

/* Dies by its own fault while `alone` (or not) stands in the journal. */
static void crash(const char *out) {
    test_run *run = start_slow(1, out, NULL);
    kill(run->pid, SIGSEGV);
    test_run_wait(run);
    assert_int_not_equal(run->exit_code, 0);
    test_run_close(run);
}

/* A prompt in flight when the engine died twice, once alone, gets its record; its company of then does not.
 */
static void test_crashing_prompt(void **state) {
    (void)state;
    const char *out = fresh();
    crash(out);
    const long n_done = batch_count(beside(out, ".part"));
    char *journal = read_text(beside(out, ".attempts"));
    assert_non_null(strstr(journal, "crash 0 signal 11"));
    free(journal);
    /* The next run takes the suspects one by one; it dies while the first of them is at work. */
    test_run *run = batch_open(1, 60, input, out);
    test_run_env(run, "CDPIPE_FAULT=0:step:slow:300:1");
    test_run_start(run);
    const double until = test_now_s() + 30;
    for (bool is_alone = false; !is_alone && test_now_s() < until; usleep(5000)) {
        journal = read_text(beside(out, ".attempts"));
        is_alone = strstr(journal, "\nalone ") != NULL;
        free(journal);
    }
    kill(run->pid, SIGSEGV);
    test_run_wait(run);
    test_run_close(run);
    assert_true(n_done <= batch_count(beside(out, ".part")));
    batch_go(batch_open(1, 60, input, out), 0);
    cJSON *records = batch_records(out);
    int n_condemned = 0;
    const cJSON *record;
    assert_int_equal(cJSON_GetArraySize(records), N_LINES);
    cJSON_ArrayForEach(record, records) {
        const cJSON *error = cJSON_GetObjectItemCaseSensitive(record, "error");
        if (error == NULL)
            continue;
        n_condemned++;
        assert_string_equal(golden_get(error, "type")->valuestring, "crashed_engine");
        assert_int_equal(golden_get(error, "attempts")->valueint, 2);
    }
    assert_int_equal(n_condemned, 1);
    cJSON_Delete(records);
}

/* Two ranks, to whatever end the fault brings. */
static test_run *go_with(const char *fault, const char *out) {
    test_run *run = batch_open(2, 60, input, out);
    test_run_add(run, "--step-timeout", "1", NULL);
    test_run_env(run, fault);
    test_run_go(run);
    return run;
}

/* A rank that hangs by its own fault leaves evidence, whichever rank it is; one that is killed leaves none,
 * nor does a disk that does not answer, nor one that had no core: a machine under load is no prompt's doing.
 */
static void test_evidence(void **state) {
    (void)state;
    static const struct {
        const char *fault, *line;
    } cases[] = {{"CDPIPE_FAULT=1:step:hang:9", "\ncrash 1 hang 0\n"},
                 {"CDPIPE_FAULT=0:step:hang:9", "\ncrash 0 hang 0\n"},
                 {"CDPIPE_FAULT=1:compute:loop:300", "\ncrash 1 hang 0\n"},
                 {"CDPIPE_FAULT=0:sync:hang:4", NULL},
                 {"CDPIPE_FAULT=1:step:kill9:9", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *out = fresh();
        test_run *run = go_with(cases[i].fault, out);
        char *journal = read_text(beside(out, ".attempts"));
        const bool is_starved = strstr(run->err, "this machine is overloaded") != NULL;
        const char *line = is_starved ? NULL : cases[i].line;
        if (run->exit_code == 0 || strstr(journal, "\nstart ") == NULL ||
            (line != NULL ? strstr(journal, line) == NULL : strstr(journal, "crash") != NULL))
            fail_msg("%s: exit %d, the journal says\n%s\n%s", cases[i].fault, run->exit_code, journal,
                     run->err);
        free(journal);
        test_run_close(run);
        check_resumes(out, 1);
    }
}

/* Every way to end at a write and at a sync of the output, once at the manifest and once among the records.
 * What was whole stays, and the same command goes on. Two syncs are the manifest's; the fourth is the last
 * that a slow disk is sure to see, where all records but the first may share one.
 */
static void test_disk_faults(void **state) {
    (void)state;
    static const struct {
        const char *fault;
        int code, other_code; /* 70: a peer was faster to say who died */
        const char *says;
    } cases[] = {
        {"CDPIPE_FAULT=0:write:eio", 74, 74, "Input/output error"},
        {"CDPIPE_FAULT=0:write:eio:40", 74, 74, "writing: Input/output error"},
        {"CDPIPE_FAULT=0:sync:eio", 74, 74, "Input/output error"},
        {"CDPIPE_FAULT=0:sync:enomem:4", 74, 74, "syncing: Cannot allocate memory"},
        {"CDPIPE_FAULT=0:write:kill9:40", 137, 70, "rank 0"},
        {"CDPIPE_FAULT=0:sync:segv:4", 139, 70, "rank 0"},
        {"CDPIPE_FAULT=0:write:exit3:41", 3, 70, "rank 0"},
        {"CDPIPE_FAULT=0:sync:stop:4", 70, 70, "rank 0"},
        {"CDPIPE_FAULT=0:write:loop:40", 70, 70, "rank 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *out = fresh();
        test_run *run = go_with(cases[i].fault, out);
        if ((run->exit_code != cases[i].code && run->exit_code != cases[i].other_code) ||
            strstr(run->err, cases[i].says) == NULL || test_run_left(run) != 0)
            fail_msg("%s: exit %d, expected %d and \"%s\"\n%s", cases[i].fault, run->exit_code, cases[i].code,
                     cases[i].says, run->err);
        test_run_close(run);
        check_resumes(out, 1 + (int)i % 2);
    }
}

/* All is there under its own name; only the journal was left when the machine went. */
static void test_end_behind_the_rename(void **state) {
    (void)state;
    const char *out = fresh();
    batch_go(batch_open(1, 60, input, out), 0);
    FILE *journal = fopen(beside(out, ".attempts"), "w");
    assert_non_null(journal);
    fputs("\nrun 1 nowhere 0 0\nstart 3\n", journal);
    fclose(journal);
    check_resumes(out, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crashing_prompt),
        cmocka_unit_test(test_evidence),
        cmocka_unit_test(test_disk_faults),
        cmocka_unit_test(test_end_behind_the_rename),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
