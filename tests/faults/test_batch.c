/* A batch job as scripts meet it: stopped and resumed, refused, locked out, given bad lines.
 *
 * What it catches: a stop that loses or repeats a record, two runs on one output, two jobs mixed in one file,
 * a status that says running when nobody runs.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/faults/batch_job.h"
#include "tests/support/golden.h"

static void test_signals(void **state) {
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR1};
    for (int i = 0; i < 4; i++) {
        const char *out = fresh();
        const int np = i == 3 ? 2 : 1; /* mpirun forwards USR1 alone */
        test_run *run = start_slow(np, out, NULL);
        kill(run->pid, signals[i]);
        test_run_wait(run);
        const long n = batch_count(beside(out, ".part"));
        if (run->exit_code != 75 || n < 2 || n >= N_LINES ||
            strstr(run->err, "the same command goes on") == NULL)
            fail_msg("signal %d, np %d: exit %d, %ld records\n%s", signals[i], np, run->exit_code, n,
                     run->err);
        test_run_close(run);
        char *journal = read_text(beside(out, ".attempts"));
        assert_non_null(strstr(journal, "\nstop\n")); /* nobody is charged */
        free(journal);
        check_resumes(out, 3 - np);
    }
}

/* Refused: exit code, words of the message, and that no weight was read before. */
static void refuse(const char *in, const char *out, const char *const *words, int code, const char *part) {
    test_run *run = batch_open(1, 60, in, out);
    for (int i = 0; words != NULL && words[i] != NULL; i++)
        test_run_add(run, words[i], NULL);
    test_run_go(run);
    if (run->exit_code != code || strstr(run->err, part) == NULL)
        fail_msg("exit %d, expected %d with \"%s\"\n%s", run->exit_code, code, part, run->err);
    assert_null(strstr(run->err, "# stage"));
    test_run_close(run);
}

static void test_refused(void **state) {
    (void)state;
    const char *dir = test_temp_dir(), *out = fresh();
    const char *twins = batch_file(dir, "twins.jsonl"), *own = batch_file(dir, "own.jsonl");
    write_file(twins, "{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"b\",\"prompt\":\"x\"}\n{\"id\":\"a\","
                      "\"prompt\":\"y\"}\n");
    refuse(twins, out, NULL, 65, "lines 1 and 3 have the same id \"a\"");
    refuse(batch_file(dir, "nothing.jsonl"), out, NULL, 66, "No such file");
    refuse(dir, out, NULL, 66, "Is a directory");
    refuse(input, input, NULL, 64, "is the input itself");
    refuse(input, dir, NULL, 74, "Is a directory");
    refuse(input, batch_file(dir, "no/folder/out.jsonl"), NULL, 74,
           "no/folder/out.jsonl: its folder does not exist");
    write_file(own, "my notes\n"); /* somebody's file: not touched */
    refuse(input, own, NULL, 65, "has no manifest");
    char *text = read_text(own);
    assert_string_equal(text, "my notes\n");
    free(text);
    const char *done = batch_file(dir, "undisturbed.jsonl");
    const char *hot[] = {"--temperature", "1.5", NULL}, *wide[] = {"--dtype", "fp32", NULL};
    refuse(input, done, hot, 65, "another temperature: its manifest has null, this run has 1.5");
    refuse(input, done, wide, 65, "another dtype: its manifest has \"bf16\", this run has \"fp32\"");
    refuse(twins, done, NULL, 65, "same id");
    write_file(twins, "{\"id\":\"a\",\"prompt\":\"x\"}\n");
    refuse(twins, done, NULL, 65, "another input.lines");
    refuse(input, done, NULL, 0, "nothing to do");
    const char *const no_output[] = {CDPIPE_BIN, "batch", "--model", "m", "--input", "x"};
    test_run *run = test_run_open(20);
    for (int i = 0; i < 6; i++)
        test_run_add(run, no_output[i], NULL);
    batch_go(run, 64);
}

static void test_odd_outputs(void **state) {
    (void)state;
    test_run *run = batch_open(1, 60, input, "/dev/full");
    test_run_go(run);
    assert_int_equal(run->exit_code, 74);
    assert_non_null(strstr(run->err, "/dev/full: writing: No space left"));
    test_run_close(run);
    batch_go(batch_open(1, 60, input, "/dev/null"), 0);
    const char *empty = batch_file(test_temp_dir(), "empty.jsonl"), *out = fresh();
    write_file(empty, "\n");
    batch_go(batch_open(1, 60, empty, out), 0);
    assert_int_equal(batch_count(out), 0);
}

static void test_lock(void **state) {
    (void)state;
    char holder[64];
    const char *out = fresh();
    test_run *first = start_slow(1, out, NULL), *second = batch_open(1, 60, input, out);
    kill(first->pid, SIGSTOP); /* it shall be there for 5 s, whatever the machine does meanwhile */
    test_run_go(second);
    snprintf(holder, sizeof holder, "held by pid %d on ", (int)first->pid);
    if (second->exit_code != 75 || strstr(second->err, holder) == NULL || second->elapsed_s < 4.5)
        fail_msg("exit %d after %.1f s, expected 75 and \"%s\"\n%s", second->exit_code, second->elapsed_s,
                 holder, second->err);
    test_run_close(second);
    second = batch_open(1, 60, input, out); /* who waits gets it when the first goes */
    test_run_start(second);
    usleep(400000);
    kill(first->pid, SIGKILL);
    test_run_wait(first);
    test_run_close(first);
    test_run_wait(second);
    assert_int_equal(second->exit_code, 0);
    test_run_close(second);
    check_resumes(out, 1);
}

static void test_bad_lines(void **state) {
    (void)state;
    const char *mixed = batch_file(test_temp_dir(), "mixed.jsonl"), *out = fresh();
    write_file(
        mixed,
        "{\"id\":\"good\",\"prompt\":\"A\",\"max_new_tokens\":2}\nnonsense\n\xFF\xFE\n"
        "{\"id\":5,\"prompt\":\"A\",\"temprature\":1}\n{\"id\":\"long\",\"prompt_ids\":[1,2,3,4,5,6,7,8,9]}\n"
        "{\"id\":\"ids\",\"prompt_ids\":[99999]}\n{\"id\":\"none\",\"prompt_ids\":[]}\n"
        "{\"custom_id\":\"chat\",\"url\":\"/v1/chat/completions\",\"body\":{\"messages\":[],\"n\":3}}");
    test_run *run = batch_open(2, 60, mixed, out);
    test_run_add(run, "--ctx", "8", "--strict", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 65);
    assert_non_null(strstr(run->err, "7 of 8 lines failed"));
    test_run_close(run);
    cJSON *records = batch_records(out);
    static const char *const expected[][2] = {
        {"2", "line 2: byte 0"},  {"3", "line 3: byte 0"},         {"5", "line 4: temprature"},
        {"long", "has 9 tokens"}, {"ids", "no id from 0 to 2047"}, {"none", "the prompt is empty"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const cJSON *error = golden_get(golden_get(records, expected[i][0]), "error");
        const char *message = golden_get(error, "message")->valuestring;
        if (strstr(message, expected[i][1]) == NULL)
            fail_msg("record %s: \"%s\", expected \"%s\"", expected[i][0], message, expected[i][1]);
    }
    assert_true(cJSON_IsNumber(golden_get(golden_get(records, "5"), "id"))); /* as it was written */
    assert_true(cJSON_IsNull(golden_get(golden_get(records, "chat"), "response")));
    assert_int_equal(
        golden_get(golden_get(golden_get(records, "good"), "usage"), "completion_tokens")->valueint, 2);
    cJSON_Delete(records);
}

/* A model without tokenizer.json: a line that needs one fails alone. */
static void test_no_tokenizer(void **state) {
    (void)state;
    const char *mixed = batch_file(test_temp_dir(), "no-tokenizer.jsonl"), *out = fresh();
    write_file(mixed, "{\"id\":\"ids\",\"prompt_ids\":[5],\"max_new_tokens\":2}\n"
                      "{\"id\":\"text\",\"prompt\":\"A\"}\n"
                      "{\"id\":\"stop\",\"prompt_ids\":[5],\"stop\":[\"A\"]}\n");
    test_run *run = batch_open(1, 60, mixed, out);
    test_run_set(run, test_path("examples/shakespeare"), test_path("tests/golden/models/llama"));
    batch_go(run, 0);
    cJSON *records = batch_records(out);
    assert_int_equal(cJSON_GetArraySize(golden_get(golden_get(records, "ids"), "token_ids")), 2);
    const cJSON *text = golden_get(golden_get(records, "text"), "error");
    assert_string_equal(golden_get(text, "message")->valuestring,
                        "line 2: the model has no tokenizer.json: give prompt_ids");
    const cJSON *stop = golden_get(golden_get(records, "stop"), "error");
    assert_string_equal(golden_get(stop, "message")->valuestring,
                        "line 3: stop looks for a text, but the model has no tokenizer.json");
    cJSON_Delete(records);
}

/* Weights with a NaN: each line fails alone, and the job ends. */
static void test_not_finite(void **state) {
    (void)state;
    char model[256], command[1200];
    const char *out = fresh();
    snprintf(model, sizeof model, "%s/nan-model", test_temp_dir());
    snprintf(command, sizeof command, "cp -r %s %s", test_path("examples/shakespeare"), model);
    assert_int_equal(system(command), 0);
    const int fd = open(batch_file(model, "model.safetensors"), O_RDWR);
    assert_int_equal(pwrite(fd, "\xC0\x7F", 2, lseek(fd, 0, SEEK_END) - 2), 2);
    close(fd);
    test_run *run = batch_open(1, 60, input, out);
    test_run_set(run, test_path("examples/shakespeare"), model);
    batch_go(run, 0);
    cJSON *records = batch_records(out);
    assert_int_equal(cJSON_GetArraySize(records), N_LINES);
    assert_string_equal(golden_get(golden_get(golden_get(records, "b3"), "error"), "type")->valuestring,
                        "non_finite_logits");
    cJSON_Delete(records);
}

/* Standard input is read to its end first; mpirun hands it to rank 0. */
static void test_standard_input(void **state) {
    (void)state;
    char *text = read_text(input);
    for (int np = 1; np <= 2; np++) {
        const char *out = fresh();
        test_run *run = batch_open(np, 60, "-", out);
        run->input = text;
        batch_go(run, 0);
        cJSON *records = batch_records(out);
        batch_check_same(undisturbed, records, "standard input");
        cJSON_Delete(records);
    }
    free(text);
}

/* mpirun passes USR1 on to ranks that are still in MPI_Init: they stop when they can, and nobody hangs. */
static void test_early_signal(void **state) {
    (void)state;
    for (int ms = 60; ms <= 300; ms += 60) {
        const char *out = fresh();
        test_run *run = batch_open(2, 30, input, out);
        test_run_start(run);
        usleep((useconds_t)ms * 1000);
        kill(run->pid, SIGUSR1);
        test_run_wait(run);
        if (run->timed_out || (run->exit_code != 75 && run->exit_code != 138 && run->signal != SIGUSR1 &&
                               run->exit_code != 0)) /* 0: mpirun had no ranks yet to pass it on to */
            fail_msg("USR1 after %d ms: exit %d, signal %d\n%s", ms, run->exit_code, run->signal, run->err);
        assert_int_equal(test_run_left(run), 0);
        test_run_close(run);
    }
}

static void check_status(const char *out, int code, const char *part) {
    test_run *run = test_run_open(20);
    test_run_add(run, CDPIPE_BIN, "status", out, "--json", NULL);
    test_run_go(run);
    if (run->exit_code != code || strstr(run->out, part) == NULL)
        fail_msg("status: exit %d, expected %d and %s\n%s%s", run->exit_code, code, part, run->out, run->err);
    test_run_close(run);
}

static void check_status_file(const char *path, const char *state, const char *code) {
    char *text = read_text(path);
    if (strstr(text, state) == NULL || strstr(text, code) == NULL)
        fail_msg("the status file says %s, expected %s, %s", text, state, code);
    free(text);
}

static void test_status(void **state) {
    (void)state;
    const char *out = fresh();
    char file[512];
    snprintf(file, sizeof file, "%s/status.json", test_temp_dir());
    const char *words[] = {"--status", file, NULL};
    check_status(out, 66, "");
    test_run *run = start_slow(1, out, words);
    check_status(out, 75, "\"state\": \"running\"");
    check_status_file(file, "\"state\": \"running\"", "\"exit_code\": null");
    kill(run->pid, SIGTERM);
    test_run_wait(run);
    test_run_close(run);
    check_status_file(file, "\"state\": \"stopped\"", "\"exit_code\": 75, \"reason\": \"stopped by a signal");
    run = start_slow(1, out, words);
    kill(run->pid, SIGKILL);
    test_run_wait(run);
    test_run_close(run);
    check_status_file(file, "\"state\": \"running\"", ""); /* it cannot take it back */
    check_status(out, 75, "\"state\": \"unfinished\"");
    run = batch_open(1, 60, input, out);
    test_run_add(run, words[0], words[1], NULL);
    batch_go(run, 0);
    check_status_file(file, "\"state\": \"done\"", "\"exit_code\": 0");
    check_status(out, 0, "\"state\": \"complete\", \"done\": 24, \"failed\": 0, \"total\": 24");
    char *text = read_text(out);
    char *second = strchr(text, '\n') + 1;
    FILE *to = fopen(out, "a"); /* the first record once more */
    fwrite(text, 1, (size_t)(second - text), to);
    fclose(to);
    free(text);
    check_status(out, 65, "\"state\": \"damaged\"");
    char says[700];
    snprintf(says, sizeof says, "error: %s: record %d has the id of an earlier one; nothing was changed", out,
             N_LINES + 1);
    refuse(input, out, NULL, 65, says);
    unlink(beside(out, ".manifest"));
    check_status(out, 65, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_odd_outputs),    cmocka_unit_test(test_lock),
        cmocka_unit_test(test_bad_lines),      cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_standard_input), cmocka_unit_test(test_no_tokenizer),
        cmocka_unit_test(test_early_signal),   cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
