/* A device map from a file: accelerate's form {"model.layers.0": 0, ...}, or a plan of ours that holds one.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "planner/json.h"
#include "planner/plan.h"

enum { NOBODY = -1 };

/* 0, "cuda:1" or "1" as a rank; NOBODY for anything else (cpu, disk, a GPU that is not there). */
static int rank_of(const cJSON *value, int n_ranks) {
    double number = NOBODY;
    if (cJSON_IsNumber(value)) {
        number = value->valuedouble;
    } else if (cJSON_IsString(value)) {
        const char *digits =
            strncmp(value->valuestring, "cuda:", 5) == 0 ? value->valuestring + 5 : value->valuestring;
        if (*digits != '\0' && strspn(digits, "0123456789") == strlen(digits))
            number = strtod(digits, NULL);
    }
    return number >= 0 && number < n_ranks && number == (double)(int)number ? (int)number : NOBODY;
}

/* "model.layers.7" and "model.layers.7.mlp" are layer 7: digits, then the end or a dot. NOBODY: no layer. */
static int layer_of(const char *key) {
    static const char stem[] = "model.layers.";
    const size_t n_stem = sizeof stem - 1;
    if (strncmp(key, stem, n_stem) != 0)
        return NOBODY;
    const char *digits = key + n_stem;
    const size_t n = strspn(digits, "0123456789");
    if (n == 0 || (digits[n] != '\0' && digits[n] != '.'))
        return NOBODY;
    return n < 9 ? (int)strtol(digits, NULL, 10) : INT_MAX - 1;
}

/* Layers [*first, *end) that a key stands for: a prefix stands for all below it. False: the key is no layer.
 */
static bool layers_of(const char *key, int n_layers, int *first, int *end) {
    if (key[0] == '\0' || strcmp(key, "model") == 0 || strcmp(key, "model.layers") == 0) {
        *first = 0;
        *end = n_layers;
        return true;
    }
    *first = layer_of(key);
    *end = *first + 1;
    return *first != NOBODY;
}

/* A rank as people wrote it, for a message. */
static const char *value_text(char *out, size_t out_size, const cJSON *value) {
    if (cJSON_IsString(value))
        cdp_escape(out, out_size, value->valuestring, strlen(value->valuestring));
    else if (cJSON_IsNumber(value))
        snprintf(out, out_size, "%.15g", value->valuedouble);
    else
        snprintf(out, out_size, "no number");
    return out;
}

static cdp_status place_key(int *owner, const cJSON *entry, int n_ranks, int n_layers, const char *path,
                            int *n_moved) {
    int first, end;
    char shown[128], value[64];
    const int rank = rank_of(entry, n_ranks);
    cdp_escape(shown, sizeof shown, entry->string, strlen(entry->string));
    if (!layers_of(entry->string, n_layers, &first, &end)) {
        *n_moved += rank != 0;
        return CDP_OK;
    }
    if (rank == NOBODY)
        return cdp_fail(CDP_BAD_MODEL, "%s: \"%s\" is on %s, expected a GPU from 0 to %d", path, shown,
                        value_text(value, sizeof value, entry), n_ranks - 1);
    if (end > n_layers)
        return cdp_fail(CDP_BAD_MODEL, "%s: \"%s\": the model has layers 0 to %d", path, shown, n_layers - 1);
    for (int l = first; l < end; l++) {
        if (owner[l] != NOBODY && owner[l] != rank)
            return cdp_fail(CDP_BAD_MODEL, "%s: layer %d is on GPU %d and on GPU %d", path, l, owner[l],
                            rank);
        owner[l] = rank;
    }
    return CDP_OK;
}

static cdp_status count_layers(int *counts, const int *owner, int n_ranks, int n_layers, const char *path) {
    memset(counts, 0, (size_t)n_ranks * sizeof *counts);
    for (int l = 0; l < n_layers; l++) {
        if (owner[l] == NOBODY)
            return cdp_fail(CDP_BAD_MODEL, "%s: layer %d is missing", path, l);
        if (l > 0 && owner[l] < owner[l - 1])
            return cdp_fail(
                CDP_BAD_MODEL,
                "%s: layer %d is on GPU %d behind layer %d on GPU %d: GPUs must ascend with the layers", path,
                l, owner[l], l - 1, owner[l - 1]);
        counts[owner[l]]++;
    }
    return CDP_OK;
}

/* A saved plan holds its map under "device_map"; an accelerate map is the whole file. */
static cdp_status read_owners(int *owner, const cJSON *root, int n_ranks, int n_layers, const char *path) {
    const cJSON *inner = cdp_json_get(root, "device_map"), *map = cJSON_IsObject(inner) ? inner : root,
                *entry;
    int n_moved = 0;
    if (!cJSON_IsObject(map))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected an object of module names", path);
    for (int l = 0; l < n_layers; l++)
        owner[l] = NOBODY;
    cJSON_ArrayForEach(entry, map) {
        CDP_TRY(place_key(owner, entry, n_ranks, n_layers, path, &n_moved));
    }
    if (n_moved > 0)
        cdp_note("%s: %d entr%s outside the layers ignored: embedding, norm and head live on rank 0", path,
                 n_moved, n_moved == 1 ? "y" : "ies");
    return CDP_OK;
}

cdp_status cdp_device_map_read(int *counts, int n_ranks, int n_layers, const char *path) {
    cJSON *root = NULL;
    char shown[256];
    cdp_status st = CDP_OK;
    int *owner = malloc((size_t)n_layers * sizeof *owner);
    cdp_escape(shown, sizeof shown, path, strlen(path));
    if (owner == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory for the device map");
        goto done;
    }
    CDP_TRY_GOTO(cdp_json_read(&root, path, &cdp_json_config_limits), st, done);
    CDP_TRY_GOTO(read_owners(owner, root, n_ranks, n_layers, shown), st, done);
    CDP_TRY_GOTO(count_layers(counts, owner, n_ranks, n_layers, shown), st, done);
done:
    cJSON_Delete(root);
    free(owner);
    return st;
}
