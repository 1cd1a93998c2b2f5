/* planner/json.h - the one strict reader in front of cJSON.
 *
 * cJSON forgives: trailing bytes, duplicate keys, bad UTF-8, NULs, 2.0 for an integer, 2^64-1 rounded to a
 * double. A loader must not, because two readers of one file would then load different weights. One pass
 * over the raw text checks UTF-8 (no overlong forms, no surrogates), NUL bytes and \u0000, control bytes in
 * strings, number syntax, depth and the number of nodes (so that memory is known before the tree is built:
 * cJSON needs about 80 bytes a node); after that the tree is walked for duplicate keys. Objects of very many
 * keys are walked, never asked by name (cJSON's look-up is linear).
 */
#pragma once

#include "kernels/status.h"
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdio.h>

typedef struct cdp_json_limits {
    size_t max_bytes; /* of the text */
    size_t max_nodes; /* values in the tree */
    int max_depth;    /* nested arrays and objects, at most 1000 */
    /* A number that is no whole number up to 2^53 (2.0, 1e3, 02, 2^64) stands as a string in the tree, so
     * that nobody takes it for one: cJSON itself would round it. */
    bool whole_numbers;
    cdp_status fault_code; /* of a broken text: CDP_BAD_MODEL for files, CDP_BAD_DATA for a prompt line */
} cdp_json_limits;

extern const cdp_json_limits cdp_json_config_limits;    /* config.json and its like: 1 MB, 100,000 nodes */
extern const cdp_json_limits cdp_json_index_limits;     /* model.safetensors.index.json: 64 MB, 2 M nodes */
extern const cdp_json_limits cdp_json_header_limits;    /* a safetensors header: 64 MB, 8 M nodes */
extern const cdp_json_limits cdp_json_tokenizer_limits; /* tokenizer.json: 256 MB, 16 M nodes */

/* Parse n bytes; `name` (a file or "line 7") opens every message, which tells the byte offset. The caller
 * gives *out back with cJSON_Delete. */
cdp_status cdp_json_parse(cJSON **out, const char *name, const char *text, size_t n,
                          const cdp_json_limits *limits);

/* The same for a whole file. */
cdp_status cdp_json_read(cJSON **out, const char *path, const cdp_json_limits *limits);

/* The child `key` of an object (case counts); NULL when absent. A JSON null is returned as the node it is:
 * ask cJSON_IsNull. */
const cJSON *cdp_json_get(const cJSON *object, const char *key);

/* True for a number that was written as a whole number up to 2^53, without point and exponent. */
bool cdp_json_is_whole(const cJSON *item);

/* The value as JSON text for a message, escaped and cut to out_size. Returns out. */
const char *cdp_json_shown(char *out, size_t out_size, const cJSON *item);

/* Typed reads of an optional key: absent or null leaves *value alone (put the default there first). Found but
 * of another type or outside [low, high]: CDP_BAD_MODEL, "NAME: KEY is X, expected ...". Integers are exact:
 * 2.0 and 1e3 are no integers. */
cdp_status cdp_json_int(const cJSON *object, const char *name, const char *key, int64_t low, int64_t high,
                        int64_t *value);
cdp_status cdp_json_double(const cJSON *object, const char *name, const char *key, double low, double high,
                           double *value);
cdp_status cdp_json_bool(const cJSON *object, const char *name, const char *key, bool *value);

/* Append n bytes as a JSON string, quotes and all escapes done, to a stream. Bytes that are not UTF-8 become
 * U+FFFD. */
void cdp_json_write_quoted(FILE *stream, const char *text, size_t n);
