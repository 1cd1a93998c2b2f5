/* The weights of a folder: one file, or the shards that an index names. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "planner/file.h"
#include "planner/json.h"
#include "planner/tensor_index.h"
#include "planner/tensor_index_parts.h"

/* A shard's name comes from a stranger's file: a plain file name that ends in .safetensors. Symbolic links
 * are fine (caches are full of them), paths are not. */
static bool is_plain_name(const char *name) {
    const size_t n = strlen(name), suffix = strlen(".safetensors");
    return n > suffix && strcmp(name + n - suffix, ".safetensors") == 0 && strchr(name, '/') == NULL &&
           strchr(name, '\\') == NULL && name[0] != '.';
}

/* In this file `shown` is the index file as messages name it, escaped. */
static cdp_status check_shard_name(const cJSON *entry, const char *shown) {
    char tensor[256], value[256];
    cdp_escape(tensor, sizeof tensor, entry->string, strlen(entry->string));
    if (!cJSON_IsString(entry))
        return cdp_fail(CDP_BAD_MODEL, "%s: weight_map: \"%s\" is no string", shown, tensor);
    if (!is_plain_name(entry->valuestring))
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: weight_map: \"%s\" is \"%s\", expected a plain file name ending in .safetensors",
                        shown, tensor,
                        cdp_escape(value, sizeof value, entry->valuestring, strlen(entry->valuestring)));
    return CDP_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The shards named, sorted, each once; the names belong to the tree. */
static cdp_status list_shards(const char ***out, size_t *n_out, const cJSON *map, const char *shown) {
    const cJSON *entry;
    const char **names = malloc(((size_t)cJSON_GetArraySize(map) + 1) * sizeof *names);
    size_t n = 0, kept = 0;
    if (names == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory", shown);
    cdp_status st = CDP_OK;
    cJSON_ArrayForEach(entry, map) {
        st = st == CDP_OK ? check_shard_name(entry, shown) : st;
        if (st == CDP_OK)
            names[n++] = entry->valuestring;
    }
    if (st != CDP_OK) {
        free(names);
        return st;
    }
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0)
            names[kept++] = names[i];
    *out = names;
    *n_out = kept;
    return CDP_OK;
}

/* Which tensors are lost with a shard that is not there, and where the claim stands. */
static cdp_status fault_missing(const cJSON *map, const char *shard, const char *dir, const char *shown) {
    char name[256], tensor[256], folder[CDP_SHOWN_PATH];
    const cJSON *entry, *first = NULL;
    int n = 0;
    cJSON_ArrayForEach(entry, map) {
        if (strcmp(entry->valuestring, shard) != 0)
            continue;
        first = first == NULL ? entry : first;
        n++;
    }
    const char *lost = first == NULL ? "" : first->string;
    return cdp_fail(CDP_NO_INPUT, "%s/%s: shard is missing; %s says it holds \"%s\" and %d more tensors",
                    cdp_escape(folder, sizeof folder, dir, strlen(dir)),
                    cdp_escape(name, sizeof name, shard, strlen(shard)), shown,
                    cdp_escape(tensor, sizeof tensor, lost, strlen(lost)), n - 1);
}

static cdp_status add_shards(cdp_tensor_index *index, const cJSON *map, const char *dir, const char *shown) {
    const char **names = NULL;
    size_t n = 0;
    CDP_TRY(list_shards(&names, &n, map, shown));
    cdp_status st = CDP_OK;
    for (size_t i = 0; st == CDP_OK && i < n; i++) {
        char shard[4200];
        if (!cdp_file_join(shard, sizeof shard, dir, names[i]))
            st = cdp_fail(CDP_NO_INPUT, "%s: the path of a shard is longer than %zu bytes", shown,
                          sizeof shard - 1);
        else if (!cdp_file_exists(shard))
            st = fault_missing(map, names[i], dir, shown);
        else
            st = cdp_tensor_index_add_file(index, shard);
    }
    free(names);
    return st;
}

/* Every tensor of the map must be in its shard. */
static cdp_status check_map(const cdp_tensor_index *index, const cJSON *map, const char *shown) {
    const cJSON *entry;
    cJSON_ArrayForEach(entry, map) {
        const cdp_tensor_entry *tensor = cdp_tensor_index_find(index, entry->string);
        const char *slash = tensor != NULL ? strrchr(index->files[tensor->file].path, '/') : NULL;
        if (tensor == NULL || slash == NULL || strcmp(slash + 1, entry->valuestring) != 0) {
            char name[256], shard[256];
            return cdp_fail(CDP_BAD_MODEL, "%s: tensor \"%s\" is not in shard %s", shown,
                            cdp_escape(name, sizeof name, entry->string, strlen(entry->string)),
                            cdp_escape(shard, sizeof shard, entry->valuestring, strlen(entry->valuestring)));
        }
    }
    return CDP_OK;
}

/* Things worth a word that do not stop a load: total_size is a hint that tools get wrong. */
static void note_differences(const cdp_tensor_index *index, const cJSON *root, const cJSON *map,
                             const char *shown) {
    const cJSON *said = cdp_json_get(cdp_json_get(root, "metadata"), "total_size");
    const size_t n_map = (size_t)cJSON_GetArraySize(map);
    uint64_t n_bytes = 0;
    char text[64];
    for (size_t i = 0; i < index->n_tensors; i++)
        n_bytes += index->tensors[i].bytes;
    if (said != NULL && !(cJSON_IsNumber(said) && said->valuedouble == (double)n_bytes))
        cdp_note("%s: total_size is %s, the shards hold %llu bytes of tensors: it is not used", shown,
                 cdp_json_shown(text, sizeof text, said), (unsigned long long)n_bytes);
    if (n_map < index->n_tensors)
        cdp_note("%s: %zu tensors of the shards are not in weight_map", shown, index->n_tensors - n_map);
}

static cdp_status open_sharded(cdp_tensor_index *index, const char *dir, const char *path) {
    char shown[CDP_SHOWN_PATH];
    cJSON *root = NULL;
    cdp_status st;
    cdp_escape(shown, sizeof shown, path, strlen(path));
    CDP_TRY(cdp_json_read(&root, path, &cdp_json_index_limits));
    const cJSON *map = cdp_json_get(root, "weight_map");
    if (!cJSON_IsObject(root) || !cJSON_IsObject(map)) {
        st = cdp_fail(CDP_BAD_MODEL, "%s: weight_map is %s, expected an object of tensor names", shown,
                      map == NULL ? "missing" : "of another type");
        goto done;
    }
    CDP_TRY_GOTO(add_shards(index, map, dir, shown), st, done);
    CDP_TRY_GOTO(cdp_tensor_index_sort(index), st, done);
    CDP_TRY_GOTO(check_map(index, map, shown), st, done);
    note_differences(index, root, map, shown);
done:
    cJSON_Delete(root);
    return st;
}

/* Nothing to read: say what was looked for, and what is there instead. */
static cdp_status nothing_there(const char *dir) {
    char shown[CDP_SHOWN_PATH], name[256];
    cdp_escape(shown, sizeof shown, dir, strlen(dir));
    DIR *folder = opendir(dir);
    for (struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot == NULL ||
            (strcmp(dot, ".bin") != 0 && strcmp(dot, ".gguf") != 0 && strcmp(dot, ".pth") != 0))
            continue;
        const cdp_status st = cdp_fail(CDP_BAD_MODEL, "%s: no safetensors, only %s: convert to safetensors",
                                       shown, cdp_escape(name, sizeof name, e->d_name, strlen(e->d_name)));
        closedir(folder);
        return st;
    }
    if (folder != NULL)
        closedir(folder);
    return cdp_fail(CDP_NO_INPUT,
                    "%s: no weights: neither model.safetensors nor model.safetensors.index.json is there",
                    shown);
}

cdp_status cdp_tensor_index_open(cdp_tensor_index **out, const char *dir) {
    char single[4200], sharded[4200];
    cdp_tensor_index *index = NULL;
    *out = NULL;
    if (!cdp_file_join(single, sizeof single, dir, "model.safetensors") ||
        !cdp_file_join(sharded, sizeof sharded, dir, "model.safetensors.index.json"))
        return cdp_fail(CDP_NO_INPUT, "the path of the model is longer than %zu bytes", sizeof single);
    const bool has_single = cdp_file_exists(single), has_index = cdp_file_exists(sharded);
    if (!has_single && !has_index)
        return nothing_there(dir);
    cdp_status st;
    CDP_TRY_GOTO(cdp_tensor_index_new(&index), st, done);
    if (has_index) {
        CDP_TRY_GOTO(open_sharded(index, dir, sharded), st, done);
    } else {
        CDP_TRY_GOTO(cdp_tensor_index_add_file(index, single), st, done);
        CDP_TRY_GOTO(cdp_tensor_index_sort(index), st, done);
    }
    if (has_single && has_index)
        cdp_note("both model.safetensors and its index are there: the index is used");
    *out = index;
    index = NULL;
done:
    cdp_tensor_index_close(index);
    return st;
}
