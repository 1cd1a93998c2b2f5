/* A file at its limit (ulimit -f) is a full disk: whoever writes says so in one line with 74, a file that was
 * there stays as it was, and nothing half stays beside it.
 *
 * What it catches: a writer that dies of SIGXFSZ or says nothing, half a file under the name of a whole one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

#define MODEL " --device cpu --quiet --model " CDPIPE_SOURCE_DIR "/tests/golden/models/"

/* In a folder with a file `f`, under a limit of n_blocks of 512 bytes. What is in f at the end, and the names
 * of all files there, stand on stdout. */
static test_run *go(const char *words, int n_blocks) {
    char line[2048];
    test_run *run = test_run_open(20.0);
    snprintf(line, sizeof line,
             "mkdir $TMPDIR/d && cd $TMPDIR/d && echo old >f && (ulimit -f %d; exec " CDPIPE_BIN
             " %s); code=$?; cat f; ls -A; exit $code",
             n_blocks, words);
    test_run_add(run, "sh", "-c", line, NULL);
    test_run_go(run);
    return run;
}

static void check(const char *words, int code, const char *says, const char *left) {
    test_run *run = go(words, 1);
    const char *first = strstr(run->err, "cdpipe: error:");
    if (run->exit_code != code || first == NULL || strstr(first, says) == NULL ||
        strstr(first + 1, "cdpipe: error:") != NULL || strcmp(run->out, left) != 0)
        fail_msg("%s: exit %d (expected %d), expected one line with \"%s\" in: %.500s\nleft: %.500s", words,
                 run->exit_code, code, says, run->err, run->out);
    test_run_close(run);
}

static void test_whole_or_not_at_all(void **state) {
    (void)state;
    static const char *const writers[] = {
        "score --prompt-ids 5,6,7 --logits f" MODEL "llama",
        "lens --prompt-ids 5,6,7 --html f" MODEL "llama",
        "generate --prompt-ids 5,6,7 --max-new-tokens 9 --json --trace f" MODEL "llama >/dev/null",
    };
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        check(writers[i], 74, "f: File too large", "old\nf\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
