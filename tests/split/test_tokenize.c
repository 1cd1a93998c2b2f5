/* `cdpipe tokenize` in all its forms, as scripts use it: no weights, no mpirun.
 *
 * What it catches: a form that reads or prints otherwise than the contract says, an answer that is held back,
 * a bad line that ends the others, a line without an end that eats the memory, special tokens where none were
 * wanted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

/* One run on a golden tokenizer; the caller closes it. */
static test_run *start(const char *name, const char *input, const char *const *words) {
    char dir[512];
    test_run *run = test_run_open(60);
    snprintf(dir, sizeof dir, "tests/golden/tokenizers/%s", name);
    test_run_add(run, CDPIPE_BIN, "tokenize", "--model", test_path(dir), NULL);
    for (; *words != NULL; words++)
        test_run_add(run, *words, NULL);
    run->input = input;
    return run;
}

static void check(const char *name, const char *input, const char *const *words, const char *want) {
    test_run *run = start(name, input, words);
    test_run_go(run);
    if (run->exit_code != 0 || strcmp(run->out, want) != 0)
        fail_msg("%s %s: code %d, \"%s\", expected \"%s\" %s", name, words[0], run->exit_code, run->out, want,
                 run->err);
    test_run_close(run);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_forms(void **state) {
    (void)state;
    check("llama3", NULL, WORDS("--prompt", "a b", "--no-special"), "64,270\n");
    check("llama3", "a b", WORDS("--no-special"), "64,270\n");
    check("llama3", NULL, WORDS("--prompt", "a b", "--json"),
          "{\"ids\": [1408, 64, 270], \"pieces\": [\"<|begin_of_text|>\", \"a\", \" b\"]}\n");
    check("llama3", NULL, WORDS("--prompt", "", "--no-special", "--json"), "{\"ids\": [], \"pieces\": []}\n");
    check("llama3", NULL, WORDS("--decode", "--prompt-ids", "1408,64,270"), "<|begin_of_text|>a b\n");
    check("llama3", NULL, WORDS("--decode", "--skip-special", "--prompt-ids", "1408,64,270", "--json"),
          "{\"text\": \"a b\"}\n");
}

static void test_lines(void **state) {
    (void)state;
    check("llama3", "\xEF\xBB\xBF\"a b\"\r\n\n  \n\"\\u0061 b\"", WORDS("--json-lines", "--no-special"),
          "{\"ids\": [64, 270]}\n{\"ids\": [64, 270]}\n");
    check("llama3", "[64, 270]\n[]\n[1408, 64]\n", WORDS("--json-lines", "--decode", "--skip-special"),
          "{\"text\": \"a b\"}\n{\"text\": \"\"}\n{\"text\": \"a\"}\n");
    check("llama3", "\"a", WORDS("--json-lines"),
          "{\"error\": \"line 1: byte 2: not JSON as we read it: a string without an end\"}\n");
    check("llama3", "7\n\"a b\"\n\"x\\u0000\"\n", WORDS("--json-lines", "--no-special"),
          "{\"error\": \"line 1: expected a JSON string\"}\n{\"ids\": [64, 270]}\n{\"error\": \"line 3: byte "
          "2: not "
          "JSON as we read it: \\\\u0000 (NUL) in a string\"}\n");
    check("llama3", "[64, 1.0]\n[99999999]\n[-1]\n\"a\"\n", WORDS("--json-lines", "--decode"),
          "{\"error\": \"line 1: entry 2 is no id of this tokenizer\"}\n"
          "{\"error\": \"line 2: entry 1 is no id of this tokenizer\"}\n"
          "{\"error\": \"line 3: entry 1 is no id of this tokenizer\"}\n"
          "{\"error\": \"line 4: expected an array of ids\"}\n");
}

/* 17 MB without an end: said, passed over, and the next line has its answer. */
static void test_long_line(void **state) {
    (void)state;
    const size_t n = 17u << 20;
    char *input = malloc(n + 16);
    assert_non_null(input);
    memset(input, 'a', n);
    strcpy(input + n, "\n\"a b\"\n");
    check("llama3", input, WORDS("--json-lines", "--no-special"),
          "{\"error\": \"line 1: 17825792 bytes, at most 16777216 are read\"}\n{\"ids\": [64, 270]}\n");
    free(input);
}

/* A folder with llama3's tokenizer, an id that makes it a large one, and a config.json. */
static const char *make_model(const char *name, const char *model_type) {
    static char dir[300];
    static char text[200000];
    char path[340];
    snprintf(dir, sizeof dir, "%s/%s", test_temp_dir(), name);
    assert_int_equal(mkdir(dir, 0777), 0);
    FILE *from = fopen(test_path("tests/golden/tokenizers/llama3/tokenizer.json"), "rb");
    assert_non_null(from);
    const size_t n = fread(text, 1, sizeof text - 1, from);
    fclose(from);
    text[n] = '\0';
    const char *list = strstr(text, "\"added_tokens\"");
    const char *inside = list != NULL ? strchr(list, '[') : NULL;
    assert_non_null(inside);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    FILE *to = fopen(path, "wb");
    fprintf(to, "%.*s{\"id\": 100001, \"content\": \"<far>\"},%s", (int)(inside + 1 - text), text,
            inside + 1);
    fclose(to);
    snprintf(path, sizeof path, "%s/config.json", dir);
    to = fopen(path, "wb");
    fprintf(to, "{\"model_type\": \"%s\"}", model_type);
    fclose(to);
    return dir;
}

/* Llama 3's pattern in a large tokenizer of Mistral's is said; in one of Llama's it is right. */
static void test_early_tekken(void **state) {
    (void)state;
    static const char *const types[] = {"mistral3", "llama"};
    for (int i = 0; i < 2; i++) {
        test_run *run = test_run_open(60);
        test_run_add(run, CDPIPE_BIN, "tokenize", "--model", make_model(types[i], types[i]), "--prompt",
                     "a b", NULL);
        test_run_go(run);
        assert_int_equal(run->exit_code, 0);
        assert_string_equal(run->out, "1408,64,270\n");
        assert_int_equal(strstr(run->err, "early conversion") != NULL, i == 0);
        test_run_close(run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_early_tekken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
