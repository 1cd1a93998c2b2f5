/* The plan as JSON, and as a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/file.h"
#include "planner/plan.h"

/* One object under construction. A node that could not be made is remembered: a plan with a hole is none. */
typedef struct builder {
    cJSON *object;
    bool *is_whole;
} builder;

static void put_node(builder b, const char *key, cJSON *node) {
    if (node == NULL || !cJSON_AddItemToObject(b.object, key, node)) {
        cJSON_Delete(node);
        *b.is_whole = false;
    }
}

/* cJSON prints a double by its 15 leading digits: from 10^15 on that is "1e+15", which is no integer to a
 * strict reader. Such a number is written out as it is. */
static void put_number(builder b, const char *key, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    put_node(b, key,
             value < UINT64_C(1000000000000000) ? cJSON_CreateNumber((double)value)
                                                : cJSON_CreateRaw(digits));
}

static void put_text(builder b, const char *key, const char *text) {
    put_node(b, key, cJSON_CreateString(text));
}

static void put_bool(builder b, const char *key, bool value) {
    put_node(b, key, cJSON_CreateBool(value));
}

static builder put_object(builder b, const char *key) {
    cJSON *object = cJSON_CreateObject();
    put_node(b, key, object);
    return (builder){*b.is_whole ? object : NULL, b.is_whole};
}

static void put_model(builder b, const cdp_plan *plan, const cdp_model_card *card) {
    put_text(b, "type", card->model_type);
    put_number(b, "layers", (uint64_t)card->n_layers);
    put_number(b, "hidden", (uint64_t)card->hidden);
    put_number(b, "vocab", (uint64_t)card->vocab);
    put_text(b, "dtype", cdp_dtype_name(plan->run.dtype));
    put_number(b, "weights_bytes", cdp_model_weight_bytes(card, &plan->run));
    put_bool(b, "tied", card->is_tied);
    put_bool(b, "from_config_alone", !card->has_tensors);
}

static void put_kv(builder b, const cdp_plan *plan, const cdp_model_card *card) {
    const uint64_t block = cdp_kv_block_bytes(card, &plan->run);
    put_number(b, "block_tokens", CDP_KV_BLOCK_TOKENS);
    put_number(b, "bytes_per_token", block / CDP_KV_BLOCK_TOKENS * (uint64_t)card->n_layers);
    put_number(b, "blocks", (uint64_t)plan->n_blocks);
    put_number(b, "tokens", (uint64_t)plan->n_blocks * CDP_KV_BLOCK_TOKENS);
    put_text(b, "dtype", cdp_dtype_name(plan->run.kv_dtype));
}

static void put_stage(builder b, const cdp_stage_plan *stage, int rank) {
    put_number(b, "rank", (uint64_t)rank);
    put_text(b, "device", stage->place.name);
    put_text(b, "label", stage->place.label);
    put_number(b, "first_layer", (uint64_t)stage->first_layer);
    put_number(b, "end_layer", (uint64_t)stage->end_layer);
    put_bool(b, "vocab", stage->has_vocab);
    put_bool(b, "idle", stage->is_idle);
    put_number(b, "free_bytes", stage->place.free_bytes);
    put_number(b, "budget_bytes", stage->budget_bytes);
    put_number(b, "weights_bytes", stage->bytes.weights);
    put_number(b, "kv_bytes", stage->bytes.kv);
    put_number(b, "scratch_bytes", stage->bytes.scratch);
    put_number(b, "link_bytes", stage->bytes.links);
    put_number(b, "context_bytes", stage->bytes.context);
    put_number(b, "total_bytes", stage->bytes.total);
    if (stage->step_ms > 0)
        put_node(b, "step_ms", cJSON_CreateNumber(stage->step_ms));
}

static void put_stages(builder b, const cdp_plan *plan) {
    cJSON *list = cJSON_CreateArray();
    put_node(b, "stages", list);
    for (int r = 0; *b.is_whole && r < plan->n_stages; r++) {
        cJSON *stage = cJSON_CreateObject();
        if (stage == NULL || !cJSON_AddItemToArray(list, stage)) {
            cJSON_Delete(stage);
            *b.is_whole = false;
        } else {
            put_stage((builder){stage, b.is_whole}, &plan->stages[r], r);
        }
    }
}

/* The words of hf_device_map. */
static void put_map(builder b, const cdp_plan *plan) {
    put_number(b, "model.embed_tokens", 0);
    for (int r = 0; r < plan->n_stages; r++)
        for (int l = plan->stages[r].first_layer; l < plan->stages[r].end_layer; l++) {
            char key[32];
            snprintf(key, sizeof key, "model.layers.%d", l);
            put_number(b, key, (uint64_t)r);
        }
    put_number(b, "model.norm", 0);
    put_number(b, "lm_head", 0);
}

cJSON *cdp_plan_json(const cdp_plan *plan, const cdp_model_card *card) {
    bool is_whole = true;
    const builder b = {cJSON_CreateObject(), &is_whole};
    put_model(put_object(b, "model"), plan, card);
    put_text(b, "policy", plan->policy);
    put_number(b, "ctx", (uint64_t)plan->run.ctx);
    put_number(b, "max_batch", (uint64_t)plan->run.max_batch);
    put_number(b, "chunk", (uint64_t)plan->run.chunk);
    put_number(b, "taps", (uint64_t)plan->run.n_taps);
    put_text(b, "hidden_dtype", cdp_dtype_name(cdp_hidden_dtype(&plan->run)));
    put_text(b, "kv_dtype", cdp_dtype_name(plan->run.kv_dtype));
    put_bool(b, "fits", plan->fits);
    put_number(b, "bottleneck_bytes", plan->bottleneck_bytes);
    put_kv(put_object(b, "kv"), plan, card);
    put_stages(b, plan);
    put_map(put_object(b, "device_map"), plan);
    if (is_whole)
        return b.object;
    cJSON_Delete(b.object);
    return NULL;
}

cdp_status cdp_plan_save(const cdp_plan *plan, const cdp_model_card *card, const char *path) {
    cJSON *json = cdp_plan_json(plan, card);
    char *text = json != NULL ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to print the plan");
    const cdp_status st = cdp_file_replace(path, text);
    cJSON_free(text);
    return st;
}
