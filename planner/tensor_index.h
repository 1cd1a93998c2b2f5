/* planner/tensor_index.h - which tensor lies where: the headers of the safetensors files of a folder.
 *
 * Reads DIR/model.safetensors, or the shards that DIR/model.safetensors.index.json names (the index wins when
 * both are there, with a note). Only headers are read. The rules are those of the safetensors reference plus
 * five stricter ones (a name twice, a tensor as array, NUL in a name, numbers above 2^53, more than 8
 * dimensions); every offset is checked against the size of the file.
 */
#pragma once

#include "kernels/dtype.h"
#include "kernels/status.h"
#include <stdint.h>

enum { CDP_MAX_DIMS = 8 };

typedef struct cdp_tensor_entry {
    char *name;    /* owned by the index */
    char type[16]; /* "BF16", "F32", "I64", ... as in the file */
    bool is_float; /* one of F32, F16, BF16: `dtype` holds */
    cdp_dtype dtype;
    int n_dims;
    uint64_t shape[CDP_MAX_DIMS];
    int file;               /* index into files */
    uint64_t offset, bytes; /* place of the data in that file, from its first byte */
} cdp_tensor_entry;

typedef struct cdp_tensor_file {
    char *path; /* owned by the index */
    uint64_t bytes;
} cdp_tensor_file;

typedef struct cdp_tensor_index {
    int n_files;
    cdp_tensor_file *files;
    size_t n_tensors;
    cdp_tensor_entry *tensors; /* sorted by name */
    uint64_t fingerprint;      /* hash of all header bytes and file sizes: equal on every rank or refused */
} cdp_tensor_index;

/* Read the headers of the model in `dir`. The caller gives *out back with cdp_tensor_index_close.
 * CDP_NO_INPUT when there are no weights (the message says what was looked for; pytorch_model.bin or a GGUF
 * alone is CDP_BAD_MODEL "convert to safetensors"), CDP_BAD_MODEL when a header is broken. */
cdp_status cdp_tensor_index_open(cdp_tensor_index **out, const char *dir);

/* The header of one file, for tests and tools: the same rules. */
cdp_status cdp_tensor_index_open_file(cdp_tensor_index **out, const char *path);

/* NULL is fine. */
void cdp_tensor_index_close(cdp_tensor_index *index);

/* The tensor called `name`, NULL when there is none. Binary search. */
const cdp_tensor_entry *cdp_tensor_index_find(const cdp_tensor_index *index, const char *name);
