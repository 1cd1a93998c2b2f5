/* --echo: prompt and answer on the screen are one text.
 *
 * What it catches: ids that are not echoed, and the blank that is lost between a prompt and an answer in
 * vocabularies whose words begin with one.
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

static const char *model(void) {
    return test_path("examples/shakespeare");
}

static void link_file(const char *dir, const char *name, const char *from) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
    assert_int_equal(symlink(test_path(from), path), 0);
}

/* The embedded model with a vocabulary of words that begin with blanks, of which a text's first loses its
 * own. */
static const char *blank_model(void) {
    static char dir[4096];
    snprintf(dir, sizeof dir, "%s", test_temp_dir());
    link_file(dir, "config.json", "examples/shakespeare/config.json");
    link_file(dir, "model.safetensors", "examples/shakespeare/model.safetensors");
    link_file(dir, "tokenizer.json", "tests/golden/tokenizers/llama2/tokenizer.json");
    return dir;
}

/* Nearly even chances at this temperature: the seed chooses the words, of any model. */
static void check_echo(const char *dir, const char *kind, const char *prompt, const char *n_new,
                       const char *expected) {
    test_run *run = test_run_open(30.0);
    test_run_add(run, CDPIPE_BIN, "--model", dir, "--device", "cpu", kind, prompt, "--max-new-tokens", n_new,
                 "--temperature", "1000", "--top-k", "0", "--seed", "28", "--dtype", "fp32", "--cpu-tier",
                 "plain", "--echo", "--quiet", NULL);
    test_run_go(run);
    if (run->exit_code != 0 || strcmp(run->out, expected) != 0)
        fail_msg("%s %s: exit %d, \"%s\", expected \"%s\"\n%s", kind, prompt, run->exit_code, run->out,
                 expected, run->err);
    test_run_close(run);
}

static void test_echo(void **state) {
    (void)state;
    check_echo(model(), "--prompt", "Hello", "6", "HelloTis val! deathThere dare\n");
    check_echo(model(), "--prompt-ids", "40,415,79", "6", "HelloTis val! deathThere dare\n");
    check_echo(blank_model(), "--prompt", "To be", "6", "To be suchEấ purL o'er\n");
    check_echo(blank_model(), "--prompt-ids", "1,534,755,647", "6", "To be suchEấ purL o'er\n");
    check_echo(test_path("tests/golden/models/llama"), "--prompt-ids", "5,6,7", "0", "5 6 7 \n");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_echo)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
