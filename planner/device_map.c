/* A device map from a file: accelerate's form {"model.layers.0": 0, ...}, or a plan of ours that holds one.
 */
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

/* Layers [*first, *end) that a key stands for: a prefix stands for all below it. False: the key is no layer.
 */
static bool layers_of(const char *key, int n_layers, int *first, int *end) {
    int layer, used = 0;
    if (key[0] == '\0' || strcmp(key, "model") == 0 || strcmp(key, "model.layers") == 0) {
        *first = 0;
        *end = n_layers;
        return true;
    }
    if (sscanf(key, "model.layers.%6d%n", &layer, &used) != 1)
        return false;
    *first = layer;
    *end = layer + 1;
    return true;
}

static cdp_status place_key(int *owner, const cJSON *entry, int n_ranks, int n_layers, const char *path,
                            int *n_other) {
    int first, end;
    char shown[128];
    cdp_escape(shown, sizeof shown, entry->string, strlen(entry->string));
    if (!layers_of(entry->string, n_layers, &first, &end)) {
        (*n_other)++;
        return CDP_OK;
    }
    const int rank = rank_of(entry, n_ranks);
    if (rank == NOBODY)
        return cdp_fail(CDP_BAD_MODEL, "%s: \"%s\" names no GPU from 0 to %d", path, shown, n_ranks - 1);
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

cdp_status cdp_device_map_read(int *counts, int n_ranks, int n_layers, const char *path) {
    cJSON *root = NULL;
    CDP_TRY(cdp_json_read(&root, path, &cdp_json_config_limits));
    const cJSON *map = cdp_json_get(root, "device_map");
    map = cJSON_IsObject(map) ? map : root;
    int *owner = malloc((size_t)n_layers * sizeof *owner), n_other = 0;
    cdp_status st = CDP_OK;
    if (owner == NULL)
        st = cdp_fail(CDP_SYSTEM, "no memory for the device map");
    else if (!cJSON_IsObject(map))
        st = cdp_fail(CDP_BAD_MODEL, "%s: expected an object of module names", path);
    for (int l = 0; st == CDP_OK && l < n_layers; l++)
        owner[l] = NOBODY;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, map) st =
        st == CDP_OK ? place_key(owner, entry, n_ranks, n_layers, path, &n_other) : st;
    if (st == CDP_OK)
        st = count_layers(counts, owner, n_ranks, n_layers, path);
    if (st == CDP_OK && n_other > 0)
        cdp_note("%s: %d entries that are no layers are ignored: embedding, norm and head live on rank 0",
                 path, n_other);
    free(owner);
    cJSON_Delete(root);
    return st;
}
