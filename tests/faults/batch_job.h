/* tests/faults/batch_job.h - a small job on the embedded model, known undisturbed, to be disturbed.
 *
 *     cmocka_run_group_tests(tests, setup, teardown)
 *     const char *out = fresh();
 *     test_run *run = start_slow(2, out, NULL);        at work: some records are there, not all
 *     ...                                              what is to happen to it
 *     check_resumes(out, 1);                           the same command goes on, all records as undisturbed
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/batch.h"
#include "tests/support/data.h"

enum { N_LINES = 24 };

static char input[512];
static cJSON *undisturbed;

static inline void write_file(const char *path, const char *text) {
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
}

static inline char *read_text(const char *path) {
    FILE *from = fopen(path, "r");
    char *text = calloc(1, 1 << 16);
    if (from != NULL) {
        const size_t n = fread(text, 1, (1 << 16) - 1, from);
        text[n] = '\0';
        fclose(from);
    }
    return text;
}

static inline int setup(void **state) {
    (void)state;
    snprintf(input, sizeof input, "%s/in.jsonl", test_temp_dir());
    FILE *to = fopen(input, "w");
    for (int i = 0; i < N_LINES; i++)
        fprintf(to, "{\"id\":\"b%d\",\"prompt\":\"ROMEO:\\n%d\",\"max_new_tokens\":%d}\n", i, i, 6 + i % 9);
    fclose(to);
    const char *out = batch_file(test_temp_dir(), "undisturbed.jsonl");
    batch_go(batch_open(1, 60, input, out), 0);
    undisturbed = batch_records(out);
    return cJSON_GetArraySize(undisturbed) == N_LINES ? 0 : 1;
}

static inline int teardown(void **state) {
    (void)state;
    cJSON_Delete(undisturbed);
    return 0;
}

static inline const char *fresh(void) {
    static char out[512];
    static int number;
    snprintf(out, sizeof out, "%s/out%d.jsonl", test_temp_dir(), number++);
    return out;
}

static inline const char *beside(const char *out, const char *suffix) {
    static char paths[4][600];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s%s", out, suffix);
    return path;
}

/* A run whose steps of rank 0 take 15 ms each, seen at work: some records are there, not all. */
static inline test_run *start_slow(int np, const char *out, const char *const *words) {
    test_run *run = batch_open(np, 60, input, out);
    test_run_add(run, "--max-batch", "4", NULL);
    for (int i = 0; words != NULL && words[i] != NULL; i++)
        test_run_add(run, words[i], NULL);
    test_run_env(run, "CDPIPE_FAULT=0:step:slow:15:1");
    const long n_before = batch_count(beside(out, ".part"));
    test_run_start(run);
    const double until = test_now_s() + 30;
    while (batch_count(beside(out, ".part")) < (n_before > 0 ? n_before : 0) + 2 && test_now_s() < until)
        usleep(5000);
    return run;
}

static inline void check_resumes(const char *out, int np) {
    batch_go(batch_open(np, 60, input, out), 0);
    cJSON *records = batch_records(out);
    batch_check_same(undisturbed, records, "resumed");
    cJSON_Delete(records);
    assert_int_not_equal(access(beside(out, ".part"), F_OK), 0);
    assert_int_not_equal(access(beside(out, ".attempts"), F_OK), 0);
}
