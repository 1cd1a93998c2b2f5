#include "planner/costs.h"

#include <math.h>
#include <string.h>

#include "planner/file.h"
#include "planner/json.h"

static const double LONGEST_MS = 1e9;

static cdp_status read_stages(cdp_costs *out, const cJSON *stages, const char *shown) {
    if (!cJSON_IsArray(stages) || cJSON_GetArraySize(stages) < 1 ||
        cJSON_GetArraySize(stages) > CDP_MAX_RANKS)
        return cdp_fail(CDP_BAD_MODEL, "%s: stages is not a list of 1 to %d objects", shown, CDP_MAX_RANKS);
    const cJSON *stage;
    cJSON_ArrayForEach(stage, stages) {
        int64_t rank = out->n_stages;
        double ms = 0;
        if (!cJSON_IsObject(stage))
            return cdp_fail(CDP_BAD_MODEL, "%s: stages holds something that is no object", shown);
        CDP_TRY(cdp_json_int(stage, shown, "rank", rank, rank, &rank)); /* in order, none left out */
        CDP_TRY(cdp_json_double(stage, shown, "layer_ms", 0, LONGEST_MS, &ms));
        if (ms <= 0)
            return cdp_fail(CDP_BAD_MODEL, "%s: layer_ms of rank %d is missing or 0", shown, out->n_stages);
        out->layer_ms[out->n_stages++] = ms;
    }
    return CDP_OK;
}

static cdp_status read_root(cdp_costs *out, const cJSON *root, const char *shown, int n_layers, int n_ranks) {
    int64_t layers = n_layers;
    if (!cJSON_IsObject(root))
        return cdp_fail(CDP_BAD_MODEL, "%s: no JSON object", shown);
    CDP_TRY(cdp_json_int(root, shown, "layers", 1, INT32_MAX, &layers));
    CDP_TRY(cdp_json_double(root, shown, "vocab_ms", 0, LONGEST_MS, &out->vocab_ms));
    CDP_TRY(read_stages(out, cdp_json_get(root, "stages"), shown));
    if (layers != n_layers)
        return cdp_fail(CDP_BAD_MODEL, "%s: measured on a model of %d layers, this one has %d", shown,
                        (int)layers, n_layers);
    if (out->n_stages > 1 && out->n_stages < n_ranks)
        return cdp_fail(CDP_BAD_MODEL, "%s: has the costs of %d ranks, the plan is for %d", shown,
                        out->n_stages, n_ranks);
    out->n_layers = n_layers;
    for (int r = out->n_stages; r < n_ranks; r++)
        out->layer_ms[r] = out->layer_ms[0];
    return CDP_OK;
}

cdp_status cdp_costs_read(cdp_costs *out, const char *path, int n_layers, int n_ranks) {
    char shown[CDP_SHOWN_PATH];
    cJSON *root = NULL;
    *out = (cdp_costs){0};
    cdp_escape(shown, sizeof shown, path, strlen(path));
    CDP_TRY(cdp_json_read(&root, path, &cdp_json_config_limits));
    const cdp_status st = read_root(out, root, shown, n_layers, n_ranks);
    cJSON_Delete(root);
    return st;
}

static bool add_stages(cJSON *root, const cdp_costs *costs) {
    cJSON *stages = cJSON_AddArrayToObject(root, "stages");
    for (int r = 0; stages != NULL && r < costs->n_stages; r++) {
        cJSON *stage = cJSON_CreateObject();
        if (stage == NULL || !cJSON_AddItemToArray(stages, stage) ||
            cJSON_AddNumberToObject(stage, "rank", r) == NULL ||
            cJSON_AddNumberToObject(stage, "layer_ms", costs->layer_ms[r]) == NULL)
            return false;
    }
    return stages != NULL;
}

cdp_status cdp_costs_save(const cdp_costs *costs, const char *path) {
    cJSON *root = cJSON_CreateObject();
    char *text = NULL;
    if (root != NULL && cJSON_AddNumberToObject(root, "layers", costs->n_layers) != NULL &&
        cJSON_AddNumberToObject(root, "vocab_ms", costs->vocab_ms) != NULL && add_stages(root, costs))
        text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to write the costs");
    const cdp_status st = cdp_file_replace(path, text);
    cJSON_free(text);
    return st;
}

double cdp_costs_stage_ms(const cdp_costs *costs, int rank, int n_layers) {
    if (rank > 0 && n_layers == 0)
        return 0;
    return n_layers * costs->layer_ms[rank] + (rank == 0 ? costs->vocab_ms : 0);
}
