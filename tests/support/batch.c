#include "tests/support/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"

test_run *batch_open(int np, double deadline_s, const char *input, const char *output) {
    test_run *run = test_run_open(deadline_s);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_BIN, "batch", "--model", test_path("examples/shakespeare"), "--device", "cpu",
                 "--threads", "1", "--input", input, "--output", output, NULL);
    return run;
}

void batch_go(test_run *run, int exit_code) {
    test_run_go(run);
    if (run->exit_code != exit_code)
        fail_msg("exit %d, expected %d (%s)\n%.3000s", run->exit_code, exit_code,
                 run->timed_out ? "the deadline passed" : "in time", run->err);
    test_run_close(run);
}

static const char *id_of(const cJSON *record, char *digits, size_t size) {
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(record, "custom_id");
    if (id == NULL)
        id = cJSON_GetObjectItemCaseSensitive(record, "id");
    if (cJSON_IsString(id))
        return id->valuestring;
    snprintf(digits, size, "%.0f", id != NULL ? id->valuedouble : -1.0);
    return digits;
}

cJSON *batch_records(const char *path) {
    cJSON *all = cJSON_CreateObject();
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    FILE *from = fopen(path, "r");
    if (from == NULL)
        fail_msg("%s is not there", path);
    while ((n = getline(&line, &room, from)) > 0) {
        char digits[32];
        cJSON *record = cJSON_Parse(line);
        if (!cJSON_IsObject(record) || line[n - 1] != '\n')
            fail_msg("%s: no record: %.200s", path, line);
        const char *id = id_of(record, digits, sizeof digits);
        if (cJSON_GetObjectItemCaseSensitive(all, id) != NULL)
            fail_msg("%s: id \"%s\" is there twice", path, id);
        cJSON_AddItemToObject(all, id, record);
    }
    free(line);
    fclose(from);
    return all;
}

static void check_member(const cJSON *expected, const cJSON *record, const char *name, const char *what) {
    const cJSON *want = cJSON_GetObjectItemCaseSensitive(expected, name);
    const cJSON *got = cJSON_GetObjectItemCaseSensitive(record, name);
    if ((want == NULL) != (got == NULL) || (want != NULL && !cJSON_Compare(want, got, true)))
        fail_msg("%s: %s of record \"%s\" differs:\n%s\n%s", what, name,
                 expected != NULL ? expected->string : "?", cJSON_PrintUnformatted(expected),
                 cJSON_PrintUnformatted(record));
}

void batch_check_same(const cJSON *expected, const cJSON *records, const char *what) {
    static const char *const names[] = {"text",  "token_ids",   "finish_reason",
                                        "usage", "logits_hash", "choices"};
    if (cJSON_GetArraySize(expected) != cJSON_GetArraySize(records))
        fail_msg("%s: %d records, expected %d", what, cJSON_GetArraySize(records),
                 cJSON_GetArraySize(expected));
    const cJSON *want;
    cJSON_ArrayForEach(want, expected) {
        const cJSON *got = cJSON_GetObjectItemCaseSensitive(records, want->string), *one = want;
        if (got == NULL)
            fail_msg("%s: no record \"%s\"", what, want->string);
        const cJSON *response = cJSON_GetObjectItemCaseSensitive(want, "response");
        if (cJSON_IsObject(response)) {
            one = cJSON_GetObjectItemCaseSensitive(response, "body");
            got = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(got, "response"), "body");
        }
        check_member(cJSON_GetObjectItemCaseSensitive(one, "error"),
                     cJSON_GetObjectItemCaseSensitive(got, "error"), "type",
                     what); /* its message names the line, which may be another */
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            check_member(one, got, names[i], what);
    }
}

long batch_count(const char *path) {
    FILE *from = fopen(path, "r");
    if (from == NULL)
        return -1;
    long n = 0;
    for (int c; (c = fgetc(from)) != EOF;)
        n += c == '\n';
    fclose(from);
    return n;
}

const char *batch_file(const char *folder, const char *name) {
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}
