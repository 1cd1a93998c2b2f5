/* tests/support/golden.h - running cdpipe on a model of tests/golden and reading what came out. */
#pragma once

#include "tests/support/spawn.h"
#include <cjson/cJSON.h>
#include <stdint.h>

/* A tensor of a safetensors file as f32 (any float type), or as int64 (I64); the caller frees it. *n_out
 * values. A missing file or tensor fails the test. */
float *golden_f32(const char *path, const char *name, size_t *n_out);
int64_t *golden_i64(const char *path, const char *name, size_t *n_out);

/* "1,2,3" from ids; the caller frees it. */
char *golden_ids_text(const int64_t *ids, size_t n);

/* The program and device that runs of cdpipe take: TEST_PROGRAM and TEST_DEVICE of the environment, else the
 * build's own and "cpu"; with TEST_SHARED_GPU ranks may share a GPU. So the same tests run on the stand-in
 * for GPUs and on real ones. TEST_CPU_TIER is the tier they take. */
const char *test_program(void);
const char *test_device(void);

/* TEST_FAMILIES names some, a blank between: tests/gpu/run starts several programs side by side. */
bool golden_is_wanted(const char *family);

/* Run cdpipe with the words given (NULL ends them) on np ranks (1: no mpirun) and return its --json object; a
 * failure fails the test with its stderr. The caller deletes it. */
cJSON *golden_run(int np, const char *const *words);

/* Call `check` with each line of a file of JSON objects; returns how many there were. */
int golden_lines(const char *path, void (*check)(const cJSON *line, int number, void *of), void *of);

/* A member as a number; "nan", "inf" and "-inf" stand for what JSON has no number for. */
double golden_number(const cJSON *item);

/* An array of them as f32; the caller frees it. */
float *golden_floats(const cJSON *array, int *n_out);

/* A member that must be there. */
const cJSON *golden_get(const cJSON *object, const char *key);
