/* A person who types slowly or stops to read is no fault: what a run reads comes, and what it writes is
 * taken, long after --step-timeout, and no watchdog says a word.
 *
 * What it catches: a read, a write or an open that blocks the main thread of rank 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

#define PROGRAM CDPIPE_BIN " "
#define NOISY " --np $NP --model examples/shakespeare --device cpu --threads 1 --step-timeout 2"
#define OPTIONS NOISY " --quiet"
#define LATE "sleep 5; "
#define LINE "echo '{\"id\": \"a\", \"prompt\": \"ROMEO:\", \"max_new_tokens\": 3}'"

/* What the shell runs, on $NP ranks. */
static test_run *start(int np, const char *command) {
    char variable[16];
    test_run *run = test_run_open(40.0);
    snprintf(variable, sizeof variable, "NP=%d", np);
    test_run_env(run, variable);
    test_run_add(run, "sh", "-c", command, NULL);
    test_run_start(run);
    return run;
}

/* All at once, because they mostly sleep. */
static void check_all(const char *const *commands, int n, int most_np, const char *holds) {
    test_run *runs[16];
    int n_runs = 0;
    for (int np = 1; np <= most_np; np++)
        for (int i = 0; i < n; i++)
            runs[n_runs++] = start(np, commands[i]);
    test_run_wait_all(runs, n_runs);
    for (int i = 0; i < n_runs; i++) {
        if (runs[i]->exit_code != 0 || runs[i]->n_err != 0 || strstr(runs[i]->out, holds) == NULL)
            fail_msg("np %d: %s: exit %d: %.300s %.500s", 1 + i / n, commands[i % n], runs[i]->exit_code,
                     runs[i]->out, runs[i]->err);
        test_run_close(runs[i]);
    }
}

static void test_late_text(void **state) {
    (void)state;
    static const char *const commands[] = {
        "{ " LATE "echo ROMEO:; } | " PROGRAM "generate --max-new-tokens 3 --temperature 0" OPTIONS,
        "{ " LATE LINE "; } | " PROGRAM "batch --temperature 0 --output $TMPDIR/out --input -" OPTIONS
        " >&2 && cat $TMPDIR/out",
        "mkfifo $TMPDIR/in && { { " LATE LINE " >$TMPDIR/in; } & " PROGRAM
        "batch --temperature 0 --output $TMPDIR/out --input $TMPDIR/in" OPTIONS "; } && cat $TMPDIR/out",
        "mkfifo $TMPDIR/in && { { " LATE "echo ROMEO: >$TMPDIR/in; } & " PROGRAM
        "generate --max-new-tokens 3 --temperature 0 --prompt-file $TMPDIR/in" OPTIONS "; }",
        /* what a shell makes of <(...) */
        "mkfifo $TMPDIR/in && { { " LATE "echo ROMEO:; } >$TMPDIR/in & " PROGRAM
        "generate --max-new-tokens 3 --temperature 0 --prompt-file /dev/fd/3" OPTIONS " 3<$TMPDIR/in; }",
        "mkfifo $TMPDIR/in && { { " LATE LINE "; } >$TMPDIR/in & " PROGRAM
        "batch --temperature 0 --output $TMPDIR/out --input /dev/fd/3" OPTIONS
        " 3<$TMPDIR/in; } && cat $TMPDIR/out",
    };
    check_all(commands, 6, 2, "I am");
}

/* More than a pipe holds, and its reader comes late: at the end of a run, in its middle. */
static void test_late_reader(void **state) {
    (void)state;
    static const char *const commands[] = {
        "ids=$(seq -s, 1 1000); { " PROGRAM "lens --chunk 16 --prompt-ids $ids" OPTIONS
        " || echo failed >&2; } | { " LATE "cat; }",
        "{ head -c 65536 /dev/zero; " PROGRAM
        "generate --prompt ROMEO: --max-new-tokens 3 --temperature 0" OPTIONS
        " || echo failed >&2; } | { " LATE "tr -d '\\0'; echo from here on; }",
        /* notes, too: `2>&1 | less` */
        "{ head -c 65536 /dev/zero; " PROGRAM
        "generate --verbose --prompt ROMEO: --max-new-tokens 3 --temperature 0" NOISY
        " 2>&1 || echo failed >&2; } | { " LATE "tr -d '\\0'; echo from here on; }",
    };
    check_all(commands, 3, 2, "from here on");
}

/* A pipe as the output of a batch job: its reader comes later than a lock is waited for; or it comes at once,
 * reads late and finds more than the pipe holds. */
static void test_late_reader_of_output(void **state) {
    (void)state;
    static const char *const commands[] = {
        "mkfifo $TMPDIR/out && { { sleep 6; cat $TMPDIR/out; } & " LINE " | " PROGRAM
        "batch --temperature 0 --output $TMPDIR/out --input -" OPTIONS " && wait; }",
        "mkfifo $TMPDIR/out && { { " LATE "tail -n 1; } <$TMPDIR/out & { yes '{}' | head -n 1000; " LINE
        "; } | " PROGRAM "batch --temperature 0 --output $TMPDIR/out --input -" OPTIONS " && wait; }",
    };
    check_all(commands, 2, 2, "I am");
}

int main(void) {
    if (chdir(CDPIPE_SOURCE_DIR) != 0)
        return 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_text),
        cmocka_unit_test(test_late_reader),
        cmocka_unit_test(test_late_reader_of_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
