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

enum { MAX_TENSORS = 1000000, MAX_HEADER = 64 << 20, LENGTH_BYTES = 8 };

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

/* What a tensor's messages begin with: FILE: tensor "NAME". Written only when there is something to say: a
 * header may hold half a million tensors. */
typedef struct where {
    char text[CDP_SHOWN_PATH + 300];
} where;

static const char *where_of(where *w, const char *path, const char *name) {
    char file[CDP_SHOWN_PATH], tensor[256];
    snprintf(w->text, sizeof w->text, "%s: tensor \"%s\"", cdp_escape(file, sizeof file, path, strlen(path)),
             cdp_escape(tensor, sizeof tensor, name, strlen(name)));
    return w->text;
}

static cdp_status read_dtype(cdp_tensor_entry *entry, const cJSON *tensor, const char *path, int *bits_out) {
    const cJSON *dtype = cdp_json_get(tensor, "dtype");
    where w;
    if (!cJSON_IsString(dtype))
        return cdp_fail(CDP_BAD_MODEL, "%s: dtype is %s, expected a string",
                        where_of(&w, path, tensor->string), dtype == NULL ? "missing" : "of another type");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(dtype->valuestring, formats[i].name) == 0) {
            *bits_out = formats[i].bits;
            strcpy(entry->type, formats[i].name);
            entry->is_float = strcmp(entry->type, "F32") == 0 || strcmp(entry->type, "F16") == 0 ||
                              strcmp(entry->type, "BF16") == 0;
            entry->dtype = entry->type[0] == 'B' ? CDP_BF16 : entry->type[1] == '1' ? CDP_F16 : CDP_F32;
            return CDP_OK;
        }
    char shown[64];
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: dtype \"%s\" is unknown, expected BF16, F16, F32 or another safetensors type",
                    where_of(&w, path, tensor->string),
                    cdp_escape(shown, sizeof shown, dtype->valuestring, strlen(dtype->valuestring)));
}

/* An array of whole numbers from 0 to 2^53; returns how many, -1 when it is none. */
static int read_numbers(uint64_t *out, int max, const cJSON *array) {
    if (!cJSON_IsArray(array))
        return -1;
    int n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array) {
        if (!cdp_json_is_whole(item) || item->valuedouble < 0)
            return -1;
        if (n < max)
            out[n] = (uint64_t)item->valuedouble;
        n++;
    }
    return n;
}

static cdp_status read_shape(cdp_tensor_entry *entry, const cJSON *tensor, const char *path) {
    const cJSON *shape = cdp_json_get(tensor, "shape");
    where w;
    entry->n_dims = read_numbers(entry->shape, CDP_MAX_DIMS, shape);
    if (entry->n_dims < 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: shape is %s, expected whole numbers from 0 to 2^53",
                        where_of(&w, path, tensor->string), shape == NULL ? "missing" : "no list of such");
    if (entry->n_dims > CDP_MAX_DIMS)
        return cdp_fail(CDP_BAD_MODEL, "%s: shape has %d dimensions, at most %d",
                        where_of(&w, path, tensor->string), entry->n_dims, CDP_MAX_DIMS);
    return CDP_OK;
}

/* Bytes by shape and dtype against bytes by offsets. */
static cdp_status check_size(const cdp_tensor_entry *entry, int bits, const char *path, const char *name) {
    uint64_t n = 1;
    where w;
    for (int i = 0; i < entry->n_dims; i++)
        if (!cdp_mul_u64(n, entry->shape[i], &n))
            return cdp_fail(CDP_BAD_MODEL, "%s: the product of its shape passes 2^64",
                            where_of(&w, path, name));
    if (!cdp_mul_u64(n, (uint64_t)bits, &n))
        return cdp_fail(CDP_BAD_MODEL, "%s: the bits of its shape pass 2^64", where_of(&w, path, name));
    if (n % 8 != 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: %llu bits of %s are no whole bytes", where_of(&w, path, name),
                        (unsigned long long)n, entry->type);
    if (entry->bytes != n / 8)
        return cdp_fail(CDP_BAD_MODEL, "%s: %llu bytes by its data_offsets, but its shape of %s needs %llu",
                        where_of(&w, path, name), (unsigned long long)entry->bytes, entry->type,
                        (unsigned long long)(n / 8));
    return CDP_OK;
}

static cdp_status read_tensor(cdp_tensor_entry *entry, const cJSON *tensor, const char *path) {
    uint64_t range[2] = {0, 0};
    int bits = 0;
    where w;
    if (!cJSON_IsObject(tensor))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected an object", where_of(&w, path, tensor->string));
    CDP_TRY(read_dtype(entry, tensor, path, &bits));
    CDP_TRY(read_shape(entry, tensor, path));
    const cJSON *offsets = cdp_json_get(tensor, "data_offsets");
    if (read_numbers(range, 2, offsets) != 2 || range[1] < range[0])
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: data_offsets is %s, expected two ascending whole numbers up to 2^53",
                        where_of(&w, path, tensor->string), offsets == NULL ? "missing" : "no such pair");
    entry->offset = range[0];
    entry->bytes = range[1] - range[0];
    CDP_TRY(check_size(entry, bits, path, tensor->string));
    entry->name = strdup(tensor->string);
    return entry->name != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the name of a tensor");
}

/* `shown` is the file for messages. */
static cdp_status check_metadata(const cJSON *metadata, const char *shown) {
    const cJSON *item;
    if (metadata == NULL || cJSON_IsNull(metadata))
        return CDP_OK;
    if (!cJSON_IsObject(metadata))
        return cdp_fail(CDP_BAD_MODEL, "%s: __metadata__ is no object", shown);
    cJSON_ArrayForEach(item, metadata) {
        if (!cJSON_IsString(item))
            return cdp_fail(CDP_BAD_MODEL, "%s: __metadata__ holds a value that is no string", shown);
    }
    return CDP_OK;
}

static cdp_status grow(cdp_tensor_index *index, size_t n_more, const char *shown) {
    const size_t n = index->n_tensors + n_more;
    if (n > MAX_TENSORS)
        return cdp_fail(CDP_BAD_MODEL, "%s: %zu tensors so far, at most %d are read", shown, n, MAX_TENSORS);
    cdp_tensor_entry *grown = realloc(index->tensors, (n + 1) * sizeof *grown);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %zu tensors", n);
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

/* Where data begin, against where the tensor before ends. */
static cdp_status fault_place(const cdp_tensor_entry *tensor, const cdp_tensor_entry *before, uint64_t end,
                              const char *path) {
    where w;
    char shown[256];
    if (before == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: data_offsets begin at %llu, but the data begin at 0",
                        where_of(&w, path, tensor->name), (unsigned long long)tensor->offset);
    return cdp_fail(CDP_BAD_MODEL, "%s: data_offsets begin at %llu, but \"%s\" ends at %llu",
                    where_of(&w, path, tensor->name), (unsigned long long)tensor->offset,
                    cdp_escape(shown, sizeof shown, before->name, strlen(before->name)),
                    (unsigned long long)end);
}

/* Tensors must lie one behind the other and fill the data exactly. */
static cdp_status check_places(cdp_tensor_entry *tensors, size_t n, uint64_t n_data, const char *path,
                               const char *shown) {
    cdp_tensor_entry **sorted = malloc((n + 1) * sizeof *sorted);
    if (sorted == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to check %zu tensors", n);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, n, sizeof *sorted, by_offset);
    uint64_t end = 0;
    cdp_status st = CDP_OK;
    for (size_t i = 0; st == CDP_OK && i < n; i++) {
        if (sorted[i]->offset != end)
            st = fault_place(sorted[i], i > 0 ? sorted[i - 1] : NULL, end, path);
        end = sorted[i]->offset + sorted[i]->bytes;
    }
    const uint64_t off_by = n_data > end ? n_data - end : end - n_data;
    if (st == CDP_OK && off_by > 0)
        st = cdp_fail(CDP_BAD_MODEL, "%s: %llu bytes of data, %s by %llu byte%s", shown,
                      (unsigned long long)n_data, n_data > end ? "too long" : "too short",
                      (unsigned long long)off_by, off_by == 1 ? "" : "s");
    free(sorted);
    return st;
}

static cdp_status read_header_tree(cdp_tensor_index *index, const cJSON *root, const char *shown,
                                   uint64_t n_data) {
    const char *path = index->files[index->n_files - 1].path;
    if (!cJSON_IsObject(root))
        return cdp_fail(CDP_BAD_MODEL, "%s: the header is no JSON object", shown);
    CDP_TRY(check_metadata(cdp_json_get(root, "__metadata__"), shown));
    CDP_TRY(grow(index, (size_t)cJSON_GetArraySize(root), shown));
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
    return check_places(index->tensors + first, index->n_tensors - first, n_data, path, shown);
}

/* N, the length of the header, from the first 8 bytes: nothing is allocated before it is known to be sane. */
static cdp_status read_length(uint64_t *out, int fd, const cdp_tensor_file *file, const char *shown) {
    unsigned char length[LENGTH_BYTES];
    uint64_t n = 0;
    if (file->bytes < LENGTH_BYTES)
        return cdp_fail(CDP_BAD_MODEL, "%s: header too small (%llu bytes)", shown,
                        (unsigned long long)file->bytes);
    CDP_TRY(cdp_file_read_at(fd, file->path, length, LENGTH_BYTES, 0));
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | length[i];
    if (n > MAX_HEADER || n > file->bytes - LENGTH_BYTES)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: header of %llu bytes, but the file has %llu and at most %d are read", shown,
                        (unsigned long long)n, (unsigned long long)file->bytes, MAX_HEADER);
    if (n == 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: the header is empty", shown);
    *out = n;
    return CDP_OK;
}

/* The header of the last file, open as fd; its tensors get their place in the file. */
static cdp_status read_header(cdp_tensor_index *index, int fd) {
    const cdp_tensor_file *file = &index->files[index->n_files - 1];
    const size_t first = index->n_tensors;
    char shown[CDP_SHOWN_PATH], *text = NULL;
    cJSON *root = NULL;
    cdp_status st;
    uint64_t n = 0;
    cdp_escape(shown, sizeof shown, file->path, strlen(file->path));
    CDP_TRY(read_length(&n, fd, file, shown));
    text = malloc(n);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory for a header of %llu bytes", shown, (unsigned long long)n);
    CDP_TRY_GOTO(cdp_file_read_at(fd, file->path, text, n, LENGTH_BYTES), st, done);
    CDP_TRY_GOTO(cdp_json_parse(&root, shown, text, n, &cdp_json_header_limits), st, done);
    CDP_TRY_GOTO(read_header_tree(index, root, shown, file->bytes - LENGTH_BYTES - n), st, done);
    for (size_t i = first; i < index->n_tensors; i++)
        index->tensors[i].offset += LENGTH_BYTES + n;
    index->fingerprint = hash_bytes(index->fingerprint, text, n);
    index->fingerprint = hash_bytes(index->fingerprint, &file->bytes, sizeof file->bytes);
done:
    cJSON_Delete(root);
    free(text);
    return st;
}

cdp_status cdp_tensor_index_add_file(cdp_tensor_index *index, const char *path) {
    cdp_tensor_file *grown = realloc(index->files, (size_t)(index->n_files + 1) * sizeof *grown);
    char *copy = strdup(path);
    if (grown != NULL)
        index->files = grown;
    if (grown == NULL || copy == NULL) {
        free(copy);
        return cdp_fail(CDP_SYSTEM, "no memory for the list of files");
    }
    cdp_tensor_file *file = &index->files[index->n_files++];
    *file = (cdp_tensor_file){copy, 0};
    int fd = -1;
    CDP_TRY(cdp_file_open(&fd, &file->bytes, path));
    const cdp_status st = read_header(index, fd);
    close(fd);
    return st;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const cdp_tensor_entry *)a)->name, ((const cdp_tensor_entry *)b)->name);
}

/* Most files are; moving entries about costs more than looking. */
static bool is_sorted(const cdp_tensor_index *index) {
    for (size_t i = 1; i < index->n_tensors; i++)
        if (by_name(&index->tensors[i - 1], &index->tensors[i]) > 0)
            return false;
    return true;
}

cdp_status cdp_tensor_index_sort(cdp_tensor_index *index) {
    if (!is_sorted(index))
        qsort(index->tensors, index->n_tensors, sizeof *index->tensors, by_name);
    for (size_t i = 1; i < index->n_tensors; i++) {
        const cdp_tensor_entry *a = &index->tensors[i - 1], *b = &index->tensors[i];
        if (strcmp(a->name, b->name) == 0) {
            const char *other = index->files[a->file].path;
            char shown[CDP_SHOWN_PATH];
            where w;
            return cdp_fail(CDP_BAD_MODEL, "%s appears twice (also in %s)",
                            where_of(&w, index->files[b->file].path, b->name),
                            cdp_escape(shown, sizeof shown, other, strlen(other)));
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
    return grow(*out, 0, "");
}

cdp_status cdp_tensor_index_open_file(cdp_tensor_index **out, const char *path) {
    cdp_tensor_index *index = NULL;
    cdp_status st;
    *out = NULL;
    CDP_TRY_GOTO(cdp_tensor_index_new(&index), st, done);
    CDP_TRY_GOTO(cdp_tensor_index_add_file(index, path), st, done);
    CDP_TRY_GOTO(cdp_tensor_index_sort(index), st, done);
    *out = index;
    index = NULL;
done:
    cdp_tensor_index_close(index);
    return st;
}
