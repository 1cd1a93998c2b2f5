#include "tests/support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/file.h"
#include "planner/tensor_index.h"

/* The bytes of one tensor. */
static void *read_tensor(const char *path, const char *name, cdp_tensor_entry *entry_out) {
    cdp_tensor_index *index = NULL;
    if (cdp_tensor_index_open_file(&index, path) != CDP_OK)
        fail_msg("%s: %s", path, cdp_error_message());
    const cdp_tensor_entry *entry = cdp_tensor_index_find(index, name);
    if (entry == NULL) {
        fail_msg("%s: no tensor %s", path, name);
        return NULL;
    }
    *entry_out = *entry;
    void *bytes = malloc(entry->bytes + 1);
    int fd;
    uint64_t size;
    assert_int_equal(cdp_file_open(&fd, &size, path), CDP_OK);
    assert_int_equal(cdp_file_read_at(fd, path, bytes, entry->bytes, entry->offset), CDP_OK);
    close(fd);
    cdp_tensor_index_close(index);
    return bytes;
}

float *golden_f32(const char *path, const char *name, size_t *n_out) {
    cdp_tensor_entry entry = {0};
    void *bytes = read_tensor(path, name, &entry);
    assert_true(entry.is_float);
    *n_out = entry.bytes / cdp_dtype_bytes(entry.dtype);
    float *values = malloc(*n_out * sizeof *values + 1);
    for (size_t i = 0; i < *n_out; i++)
        values[i] = cdp_load(bytes, entry.dtype, i);
    free(bytes);
    return values;
}

int64_t *golden_i64(const char *path, const char *name, size_t *n_out) {
    cdp_tensor_entry entry = {0};
    int64_t *values = read_tensor(path, name, &entry);
    assert_string_equal(entry.type, "I64");
    *n_out = entry.bytes / sizeof *values;
    return values;
}

char *golden_ids_text(const int64_t *ids, size_t n) {
    char *text = calloc(n + 1, 12);
    for (size_t i = 0, used = 0; i < n; i++)
        used += (size_t)sprintf(text + used, "%s%lld", i > 0 ? "," : "", (long long)ids[i]);
    return text;
}

static const char *from_environment(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : otherwise;
}

const char *test_program(void) {
    return from_environment("TEST_PROGRAM", CDPIPE_BIN);
}

const char *test_device(void) {
    return from_environment("TEST_DEVICE", "cpu");
}

bool golden_is_wanted(const char *family) {
    const char *wanted = getenv("TEST_FAMILIES");
    const size_t n = strlen(family);
    if (wanted == NULL)
        return true;
    for (const char *at = wanted; (at = strstr(at, family)) != NULL; at += n)
        if ((at == wanted || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

cJSON *golden_run(int np, const char *const *words) {
    test_run *run = test_run_open(60.0);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, test_program(), NULL);
    for (int i = 0; words[i] != NULL; i++)
        test_run_add(run, words[i], NULL);
    test_run_add(run, "--json", "--device", test_device(), NULL);
    if (getenv("TEST_CPU_TIER") != NULL)
        test_run_add(run, "--cpu-tier", getenv("TEST_CPU_TIER"), NULL);
    if (getenv("TEST_SHARED_GPU") != NULL && np > 1) /* which NCCL refuses */
        test_run_add(run, "--allow-shared-gpu", "--road", "mpi", NULL);
    test_run_go(run);
    cJSON *json = run->exit_code == 0 ? cJSON_Parse(run->out) : NULL;
    if (json == NULL)
        fail_msg("np %d, %s %s ...: exit %d, stdout \"%.200s\", stderr:\n%.2000s", np, words[0], words[1],
                 run->exit_code, run->out, run->err);
    test_run_close(run);
    return json;
}

float *golden_floats(const cJSON *array, int *n_out) {
    float *out = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof *out);
    const cJSON *item;
    *n_out = 0;
    cJSON_ArrayForEach(item, array) out[(*n_out)++] = (float)golden_number(item);
    return out;
}

const cJSON *golden_get(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL)
        fail_msg("no member \"%s\"", key);
    return item;
}

int golden_lines(const char *path, void (*check)(const cJSON *line, int number, void *of), void *of) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    assert_non_null(file);
    while (getline(&line, &room, file) > 0) {
        cJSON *json = cJSON_Parse(line);
        if (json == NULL)
            fail_msg("%s: line %d is no JSON", path, n + 1);
        check(json, ++n, of);
        cJSON_Delete(json);
    }
    free(line);
    fclose(file);
    return n;
}

double golden_number(const cJSON *item) {
    if (!cJSON_IsString(item))
        return item->valuedouble;
    return strcmp(item->valuestring, "nan") == 0   ? NAN
           : strcmp(item->valuestring, "inf") == 0 ? INFINITY
                                                   : -INFINITY;
}
