#include "planner/tensor_index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/checked.h"
#include "kernels/log.h"
#include "planner/file.h"
#include "planner/json.h"
#include "planner/tensor_index_parts.h"

enum { MAX_TENSORS = 1000000, MAX_HEADER = 64 << 20 };

/* Bits of an element; the formats of the safetensors library. */
static const struct {
    const char *name;
    int bits;
} formats[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

/* FNV-1a, 64 bit. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n) {
    const unsigned char *b = bytes;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ b[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* What a tensor's messages begin with: FILE: tensor "NAME". */
typedef struct where {
    char text[700];
} where;

static where where_of(const char *path, const char *name) {
    where w;
    char file[400], tensor[256];
    snprintf(w.text, sizeof w.text, "%s: tensor \"%s\"", cdp_escape(file, sizeof file, path, strlen(path)),
             cdp_escape(tensor, sizeof tensor, name, strlen(name)));
    return w;
}

static cdp_status read_dtype(cdp_tensor_entry *entry, const cJSON *tensor, const where *w, int *bits_out) {
    const cJSON *dtype = cdp_json_get(tensor, "dtype");
    if (!cJSON_IsString(dtype))
        return cdp_fail(CDP_BAD_MODEL, "%s: dtype is %s, expected a string", w->text,
                        dtype == NULL ? "missing" : "of another type");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(dtype->valuestring, formats[i].name) == 0) {
            *bits_out = formats[i].bits;
            snprintf(entry->type, sizeof entry->type, "%s", formats[i].name);
            entry->is_float = strcmp(entry->type, "F32") == 0 || strcmp(entry->type, "F16") == 0 ||
                              strcmp(entry->type, "BF16") == 0;
            entry->dtype = entry->type[0] == 'B' ? CDP_BF16 : entry->type[1] == '1' ? CDP_F16 : CDP_F32;
            return CDP_OK;
        }
    char shown[64];
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: dtype \"%s\" is unknown, expected BF16, F16, F32 or another safetensors type",
                    w->text, cdp_escape(shown, sizeof shown, dtype->valuestring, strlen(dtype->valuestring)));
}

/* An array of whole numbers from 0 to 2^53; returns how many, -1 when it is none. */
static int read_numbers(uint64_t *out, int max, const cJSON *array) {
    if (!cJSON_IsArray(array))
        return -1;
    int n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0)
            return -1;
        if (n < max)
            out[n] = (uint64_t)item->valuedouble;
        n++;
    }
    return n;
}

static cdp_status read_shape(cdp_tensor_entry *entry, const cJSON *tensor, const where *w) {
    const cJSON *shape = cdp_json_get(tensor, "shape");
    entry->n_dims = read_numbers(entry->shape, CDP_MAX_DIMS, shape);
    if (entry->n_dims < 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: shape is %s, expected whole numbers from 0 to 2^53", w->text,
                        shape == NULL ? "missing" : "no list of such");
    if (entry->n_dims > CDP_MAX_DIMS)
        return cdp_fail(CDP_BAD_MODEL, "%s: shape has %d dimensions, at most %d", w->text, entry->n_dims,
                        CDP_MAX_DIMS);
    return CDP_OK;
}

/* Bytes by shape and dtype against bytes by offsets. */
static cdp_status check_size(const cdp_tensor_entry *entry, int bits, const where *w) {
    uint64_t n = 1;
    for (int i = 0; i < entry->n_dims; i++)
        if (!cdp_mul_u64(n, entry->shape[i], &n))
            return cdp_fail(CDP_BAD_MODEL, "%s: the product of its shape passes 2^64", w->text);
    if (!cdp_mul_u64(n, (uint64_t)bits, &n))
        return cdp_fail(CDP_BAD_MODEL, "%s: the bits of its shape pass 2^64", w->text);
    if (n % 8 != 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: %llu bits of %s are no whole bytes", w->text,
                        (unsigned long long)n, entry->type);
    if (entry->bytes != n / 8)
        return cdp_fail(CDP_BAD_MODEL, "%s: %llu bytes by its data_offsets, but its shape of %s needs %llu",
                        w->text, (unsigned long long)entry->bytes, entry->type, (unsigned long long)(n / 8));
    return CDP_OK;
}

static cdp_status read_tensor(cdp_tensor_entry *entry, const cJSON *tensor, const char *path) {
    const where w = where_of(path, tensor->string);
    uint64_t range[2] = {0, 0};
    int bits = 0;
    if (!cJSON_IsObject(tensor))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected an object", w.text);
    CDP_TRY(read_dtype(entry, tensor, &w, &bits));
    CDP_TRY(read_shape(entry, tensor, &w));
    const cJSON *offsets = cdp_json_get(tensor, "data_offsets");
    if (read_numbers(range, 2, offsets) != 2 || range[1] < range[0])
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: data_offsets is %s, expected two ascending whole numbers up to 2^53", w.text,
                        offsets == NULL ? "missing" : "no such pair");
    entry->offset = range[0];
    entry->bytes = range[1] - range[0];
    CDP_TRY(check_size(entry, bits, &w));
    entry->name = strdup(tensor->string);
    return entry->name != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "%s: no memory", w.text);
}

static cdp_status check_metadata(const cJSON *metadata, const char *path) {
    const cJSON *item;
    if (metadata == NULL || cJSON_IsNull(metadata))
        return CDP_OK;
    if (!cJSON_IsObject(metadata))
        return cdp_fail(CDP_BAD_MODEL, "%s: __metadata__ is no object", path);
    cJSON_ArrayForEach(item, metadata) if (!cJSON_IsString(item)) return cdp_fail(
        CDP_BAD_MODEL, "%s: __metadata__ holds a value that is no string", path);
    return CDP_OK;
}

static cdp_status grow(cdp_tensor_index *index, size_t n_more) {
    if (index->n_tensors + n_more > MAX_TENSORS)
        return cdp_fail(CDP_BAD_MODEL, "%zu tensors, at most %d are read", index->n_tensors + n_more,
                        MAX_TENSORS);
    cdp_tensor_entry *grown = realloc(index->tensors, (index->n_tensors + n_more + 1) * sizeof *grown);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %zu tensors", index->n_tensors + n_more);
    memset(grown + index->n_tensors, 0, (n_more + 1) * sizeof *grown);
    index->tensors = grown;
    return CDP_OK;
}

static int by_offset(const void *a, const void *b) {
    const cdp_tensor_entry *x = *(const cdp_tensor_entry *const *)a, *y = *(const cdp_tensor_entry *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Tensors must lie one behind the other and fill the data exactly. */
static cdp_status check_places(cdp_tensor_entry *tensors, size_t n, uint64_t n_data, const char *path) {
    cdp_tensor_entry **sorted = malloc((n + 1) * sizeof *sorted);
    if (sorted == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory to check %zu tensors", path, n);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, n, sizeof *sorted, by_offset);
    uint64_t end = 0;
    cdp_status st = CDP_OK;
    for (size_t i = 0; st == CDP_OK && i < n; end = sorted[i]->offset + sorted[i]->bytes, i++)
        if (sorted[i]->offset != end) {
            const where w = where_of(path, sorted[i]->name);
            st = cdp_fail(CDP_BAD_MODEL, "%s: data_offsets begin at %llu, but %s%.100s%s at %llu", w.text,
                          (unsigned long long)sorted[i]->offset, i > 0 ? "\"" : "",
                          i > 0 ? sorted[i - 1]->name : "the data begin", i > 0 ? "\" ends" : "",
                          (unsigned long long)end);
        }
    if (st == CDP_OK && end != n_data)
        st = cdp_fail(CDP_BAD_MODEL, "%s: %llu bytes of data, %s by %llu bytes", path,
                      (unsigned long long)n_data, n_data > end ? "too long" : "too short",
                      (unsigned long long)(n_data > end ? n_data - end : end - n_data));
    free(sorted);
    return st;
}

static cdp_status read_header_tree(cdp_tensor_index *index, const cJSON *root, const char *path,
                                   uint64_t n_data) {
    if (!cJSON_IsObject(root))
        return cdp_fail(CDP_BAD_MODEL, "%s: the header is no JSON object", path);
    CDP_TRY(check_metadata(cdp_json_get(root, "__metadata__"), path));
    CDP_TRY(grow(index, (size_t)cJSON_GetArraySize(root)));
    const size_t first = index->n_tensors;
    const cJSON *tensor;
    cJSON_ArrayForEach(tensor, root) {
        if (strcmp(tensor->string, "__metadata__") == 0)
            continue;
        cdp_tensor_entry *entry = &index->tensors[index->n_tensors];
        entry->file = index->n_files - 1;
        CDP_TRY(read_tensor(entry, tensor, path));
        index->n_tensors++;
    }
    return check_places(index->tensors + first, index->n_tensors - first, n_data, path);
}

/* The N header bytes are in `text`; tensors get their place in the file. */
static cdp_status read_header(cdp_tensor_index *index, int fd, const char *path, uint64_t size) {
    unsigned char length[8];
    uint64_t n = 0;
    if (size < sizeof length)
        return cdp_fail(CDP_BAD_MODEL, "%s: header too small (%llu bytes)", path, (unsigned long long)size);
    CDP_TRY(cdp_file_read_at(fd, path, length, sizeof length, 0));
    for (int i = 7; i >= 0; i--)
        n = n << 8 | length[i];
    if (n > MAX_HEADER || n > size - sizeof length)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: header of %llu bytes, but the file has %llu and at most %d are read", path,
                        (unsigned long long)n, (unsigned long long)size, MAX_HEADER);
    char *text = malloc(n + 1);
    cJSON *root = NULL;
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory for a header of %llu bytes", path, (unsigned long long)n);
    cdp_status st = cdp_file_read_at(fd, path, text, n, sizeof length);
    if (st == CDP_OK && n == 0)
        st = cdp_fail(CDP_BAD_MODEL, "%s: the header is empty", path);
    if (st == CDP_OK)
        st = cdp_json_parse(&root, path, text, n, &cdp_json_header_limits);
    const size_t first = index->n_tensors;
    if (st == CDP_OK)
        st = read_header_tree(index, root, path, size - sizeof length - n);
    for (size_t i = first; st == CDP_OK && i < index->n_tensors; i++)
        index->tensors[i].offset += sizeof length + n;
    index->fingerprint = hash_bytes(hash_bytes(index->fingerprint, text, n), &size, sizeof size);
    cJSON_Delete(root);
    free(text);
    return st;
}

cdp_status cdp_tensor_index_add_file(cdp_tensor_index *index, const char *path) {
    cdp_tensor_file *grown = realloc(index->files, (size_t)(index->n_files + 1) * sizeof *grown);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the list of files");
    index->files = grown;
    index->files[index->n_files] = (cdp_tensor_file){strdup(path), 0};
    cdp_tensor_file *file = &index->files[index->n_files++];
    int fd = -1;
    CDP_TRY(cdp_file_open(&fd, &file->bytes, path));
    const cdp_status st = read_header(index, fd, path, file->bytes);
    close(fd);
    return st;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const cdp_tensor_entry *)a)->name, ((const cdp_tensor_entry *)b)->name);
}

cdp_status cdp_tensor_index_sort(cdp_tensor_index *index) {
    qsort(index->tensors, index->n_tensors, sizeof *index->tensors, by_name);
    for (size_t i = 1; i < index->n_tensors; i++) {
        const cdp_tensor_entry *a = &index->tensors[i - 1], *b = &index->tensors[i];
        if (strcmp(a->name, b->name) == 0) {
            const where w = where_of(index->files[b->file].path, b->name);
            return cdp_fail(CDP_BAD_MODEL, "%s appears twice (also in %s)", w.text,
                            index->files[a->file].path);
        }
    }
    return CDP_OK;
}

const cdp_tensor_entry *cdp_tensor_index_find(const cdp_tensor_index *index, const char *name) {
    const cdp_tensor_entry wanted = {.name = (char *)(uintptr_t)name};
    return bsearch(&wanted, index->tensors, index->n_tensors, sizeof wanted, by_name);
}

void cdp_tensor_index_close(cdp_tensor_index *index) {
    if (index == NULL)
        return;
    for (size_t i = 0; i < index->n_tensors; i++)
        free(index->tensors[i].name);
    for (int i = 0; i < index->n_files; i++)
        free(index->files[i].path);
    free(index->tensors);
    free(index->files);
    free(index);
}

cdp_status cdp_tensor_index_new(cdp_tensor_index **out) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the tensor index");
    (*out)->fingerprint = UINT64_C(0xCBF29CE484222325);
    return grow(*out, 0);
}

cdp_status cdp_tensor_index_open_file(cdp_tensor_index **out, const char *path) {
    cdp_tensor_index *index = NULL;
    *out = NULL;
    cdp_status st = cdp_tensor_index_new(&index);
    if (st == CDP_OK)
        st = cdp_tensor_index_add_file(index, path);
    if (st == CDP_OK)
        st = cdp_tensor_index_sort(index);
    if (st != CDP_OK)
        cdp_tensor_index_close(index);
    else
        *out = index;
    return st;
}
