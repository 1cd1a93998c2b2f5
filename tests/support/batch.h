/* tests/support/batch.h - running `cdpipe batch` on the embedded model and reading its records. */
#pragma once

#include "tests/support/spawn.h"
#include <cjson/cJSON.h>

/* A job's command line: on np ranks (1: no mpirun), --threads 1, the embedded model, input and output. The
 * caller adds words, goes and closes. */
test_run *batch_open(int np, double deadline_s, const char *input, const char *output);

/* Go; any exit code but this one fails the test with stderr. Closes the run. */
void batch_go(test_run *run, int exit_code);

/* All records of a file as one object, by id (custom_id); a line that is no object, an id that is there twice
 * and a file that does not end in a newline fail the test. The caller deletes it. */
cJSON *batch_records(const char *path);

/* Ids, texts, token ids, finish reasons, usage, hashes and errors are equal; times and names of models are
 * not asked. */
void batch_check_same(const cJSON *expected, const cJSON *records, const char *what);

/* Whole records in a file that may be torn, -1 when there is none. */
long batch_count(const char *path);

/* "PATH/name" in a buffer that lasts until the next call but seven. */
const char *batch_file(const char *folder, const char *name);
