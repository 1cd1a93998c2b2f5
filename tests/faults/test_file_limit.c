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
        "plan --save f" MODEL "llama",
    };
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        check(writers[i], 74, "f: File too large", "old\nf\n");
}

/* By their standard output, which takes what fits. */
static void test_standard_output(void **state) {
    (void)state;
    static const char *const writers[] = {
        "generate --prompt-ids 5 --max-new-tokens 400 --ignore-eos" MODEL "llama",
        "generate --prompt-ids 5 --json" MODEL "llama",
        "score --prompt-ids 5,6,7 --json" MODEL "llama",
        "lens --prompt-ids 5,6,7 --json" MODEL "llama",
        "bench --pp 2 --tg 2 --batch 1 --repeat 1 --json" MODEL "llama",
        "plan --json" MODEL "llama",
        "tokenize --model " CDPIPE_SOURCE_DIR "/examples/shakespeare --prompt \"$(seq 1 500)\"",
        "--help",
    };
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++) {
        char words[1024];
        snprintf(words, sizeof words, "%s >out", writers[i]);
        test_run *run = go(words, 1);
        if (run->exit_code != 74 || strstr(run->err, "File too large") == NULL ||
            strstr(run->err, "cdpipe: error:") == NULL)
            fail_msg("%s: exit %d (expected 74): %.500s", writers[i], run->exit_code, run->err);
        test_run_close(run);
    }
}

/* The manifest, and then the records: what fits is whole, and the same command goes on where there is room.
 */
static void test_batch(void **state) {
    (void)state;
    for (int n_blocks = 1; n_blocks <= 4; n_blocks += 3) {
        char line[1024];
        test_run *run = test_run_open(30.0);
        snprintf(line, sizeof line,
                 "cd $TMPDIR; seq 1 99 | sed 's/.*/{\"prompt_ids\": [5, &], \"max_new_tokens\": 2}/' >in; "
                 "job='" CDPIPE_BIN " batch --input in --output out" MODEL "llama'; "
                 "(ulimit -f %d; exec $job); echo $?; $job; echo $?; wc -l <out",
                 n_blocks);
        test_run_add(run, "sh", "-c", line, NULL);
        test_run_go(run);
        if (strcmp(run->out, "74\n0\n99\n") != 0 || strstr(run->err, "File too large") == NULL)
            fail_msg("%d blocks: %.200s %.500s", n_blocks, run->out, run->err);
        test_run_close(run);
    }
    check("batch --output out --input -" MODEL "llama <" CDPIPE_SOURCE_DIR "/README.md", 74,
          "copying the input", "old\nf\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_or_not_at_all),
        cmocka_unit_test(test_standard_output),
        cmocka_unit_test(test_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
