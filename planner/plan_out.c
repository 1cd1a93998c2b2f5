/* The plan's faces: JSON, a file, the table for people. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/log.h"
#include "planner/plan.h"

/* Byte counts stay below 2^53, so a double holds them and cJSON prints them without an exponent. */
static void add_number(cJSON *object, const char *key, uint64_t value) {
    cJSON_AddNumberToObject(object, key, (double)value);
}

static cJSON *model_json(const cdp_plan *plan, const cdp_model_card *card) {
    cJSON *model = cJSON_CreateObject();
    cJSON_AddStringToObject(model, "type", card->model_type);
    add_number(model, "layers", (uint64_t)card->n_layers);
    add_number(model, "hidden", (uint64_t)card->hidden);
    add_number(model, "vocab", (uint64_t)card->vocab);
    cJSON_AddStringToObject(model, "dtype", cdp_dtype_name(plan->run.dtype));
    add_number(model, "weights_bytes", cdp_model_weight_bytes(card, &plan->run));
    cJSON_AddBoolToObject(model, "tied", card->is_tied);
    cJSON_AddBoolToObject(model, "from_config_alone", !card->has_tensors);
    return model;
}

static cJSON *kv_json(const cdp_plan *plan, const cdp_model_card *card) {
    cJSON *kv = cJSON_CreateObject();
    const uint64_t per_token =
        cdp_kv_block_bytes(card, &plan->run) / CDP_KV_BLOCK_TOKENS * (uint64_t)card->n_layers;
    add_number(kv, "block_tokens", CDP_KV_BLOCK_TOKENS);
    add_number(kv, "bytes_per_token", per_token);
    add_number(kv, "blocks", (uint64_t)plan->n_blocks);
    add_number(kv, "tokens", (uint64_t)plan->n_blocks * CDP_KV_BLOCK_TOKENS);
    cJSON_AddStringToObject(kv, "dtype", cdp_dtype_name(plan->run.kv_dtype));
    return kv;
}

static cJSON *stage_json(const cdp_stage_plan *stage, int rank) {
    cJSON *json = cJSON_CreateObject();
    add_number(json, "rank", (uint64_t)rank);
    cJSON_AddStringToObject(json, "device", stage->place.name);
    cJSON_AddStringToObject(json, "label", stage->place.label);
    add_number(json, "first_layer", (uint64_t)stage->first_layer);
    add_number(json, "end_layer", (uint64_t)stage->end_layer);
    cJSON_AddBoolToObject(json, "vocab", stage->has_vocab);
    cJSON_AddBoolToObject(json, "idle", stage->is_idle);
    add_number(json, "free_bytes", stage->place.free_bytes);
    add_number(json, "budget_bytes", stage->budget_bytes);
    add_number(json, "weights_bytes", stage->bytes.weights);
    add_number(json, "kv_bytes", stage->bytes.kv);
    add_number(json, "scratch_bytes", stage->bytes.scratch);
    add_number(json, "link_bytes", stage->bytes.links);
    add_number(json, "context_bytes", stage->bytes.context);
    add_number(json, "total_bytes", stage->bytes.total);
    return json;
}

static cJSON *map_json(const cdp_plan *plan) {
    cJSON *map = cJSON_CreateObject();
    add_number(map, "model.embed_tokens", 0);
    for (int r = 0; r < plan->n_stages; r++)
        for (int l = plan->stages[r].first_layer; l < plan->stages[r].end_layer; l++) {
            char key[32];
            snprintf(key, sizeof key, "model.layers.%d", l);
            add_number(map, key, (uint64_t)r);
        }
    add_number(map, "model.norm", 0);
    add_number(map, "lm_head", 0);
    return map;
}

cJSON *cdp_plan_json(const cdp_plan *plan, const cdp_model_card *card) {
    cJSON *json = cJSON_CreateObject(), *stages = cJSON_CreateArray();
    cJSON_AddItemToObject(json, "model", model_json(plan, card));
    cJSON_AddStringToObject(json, "policy", plan->policy);
    add_number(json, "ctx", (uint64_t)plan->run.ctx);
    add_number(json, "max_batch", (uint64_t)plan->run.max_batch);
    add_number(json, "chunk", (uint64_t)plan->run.chunk);
    cJSON_AddStringToObject(json, "hidden_dtype", cdp_dtype_name(cdp_hidden_dtype(&plan->run)));
    cJSON_AddBoolToObject(json, "fits", plan->fits);
    add_number(json, "bottleneck_bytes", plan->bottleneck_bytes);
    cJSON_AddItemToObject(json, "kv", kv_json(plan, card));
    for (int r = 0; r < plan->n_stages; r++)
        cJSON_AddItemToArray(stages, stage_json(&plan->stages[r], r));
    cJSON_AddItemToObject(json, "stages", stages);
    cJSON_AddItemToObject(json, "device_map", map_json(plan));
    return json;
}

/* "vocab, layers 0-7", inclusive as people count. */
static void holds_text(char *out, size_t out_size, const cdp_stage_plan *s) {
    const int n = s->end_layer - s->first_layer;
    if (s->is_idle)
        snprintf(out, out_size, "idle");
    else if (n == 0)
        snprintf(out, out_size, "vocab");
    else
        snprintf(out, out_size, "%slayers %d-%d", s->has_vocab ? "vocab, " : "", s->first_layer,
                 s->end_layer - 1);
}

void cdp_plan_print(const cdp_plan *plan, const cdp_model_card *card) {
    (void)card;
    cdp_note("rank  device                        holds                  weights    kv cache     scratch     "
             "  total      budget");
    for (int r = 0; r < plan->n_stages; r++) {
        const cdp_stage_plan *s = &plan->stages[r];
        char holds[64];
        holds_text(holds, sizeof holds, s);
        const uint64_t rest = s->bytes.total - s->bytes.weights - s->bytes.kv;
        cdp_note("%4d  %-28.28s  %-19s %7.3f GiB %7.3f GiB %7.3f GiB %7.3f GiB %7.3f GiB", r, s->place.label,
                 holds, (double)s->bytes.weights / 0x1p30, (double)s->bytes.kv / 0x1p30,
                 (double)rest / 0x1p30, (double)s->bytes.total / 0x1p30, (double)s->budget_bytes / 0x1p30);
    }
    cdp_note("%s: ctx %d, max_batch %d, %lld KV blocks of %d tokens, device_map %s",
             plan->fits ? "fits" : "DOES NOT FIT", plan->run.ctx, plan->run.max_batch,
             (long long)plan->n_blocks, CDP_KV_BLOCK_TOKENS, plan->policy);
    for (int r = 0; r < plan->n_stages; r++) {
        const cdp_stage_plan *s = &plan->stages[r];
        const char *ends = s->has_vocab ? "model.embed_tokens, model.norm, lm_head" : "";
        if (s->end_layer > s->first_layer)
            cdp_note("device_map %s: %s%smodel.layers.%d-%d", s->place.name, ends, *ends != '\0' ? ", " : "",
                     s->first_layer, s->end_layer - 1);
        else if (!s->is_idle)
            cdp_note("device_map %s: %s", s->place.name, ends);
    }
}

static cdp_status write_all(int fd, const char *text, size_t n, const char *path) {
    for (size_t done = 0; done < n;) {
        const ssize_t put = write(fd, text + done, n - done);
        if (put < 0 && errno != EINTR)
            return cdp_fail(CDP_IO, "%s: %s", path, strerror(errno));
        done += put > 0 ? (size_t)put : 0;
    }
    return fsync(fd) == 0 ? CDP_OK : cdp_fail(CDP_IO, "%s: %s", path, strerror(errno));
}

cdp_status cdp_plan_save(const cdp_plan *plan, const cdp_model_card *card, const char *path) {
    char temp[4200];
    if ((size_t)snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= sizeof temp)
        return cdp_fail(CDP_IO, "the path of the plan is too long");
    cJSON *json = cdp_plan_json(plan, card);
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to print the plan");
    const int fd = mkostemp(temp, O_CLOEXEC);
    cdp_status st =
        fd < 0 ? cdp_fail(CDP_IO, "%s: %s", path, strerror(errno)) : write_all(fd, text, strlen(text), path);
    cJSON_free(text);
    if (fd >= 0 && (fchmod(fd, 0644) != 0 || close(fd) != 0 || (st == CDP_OK && rename(temp, path) != 0)) &&
        st == CDP_OK)
        st = cdp_fail(CDP_IO, "%s: %s", path, strerror(errno));
    if (fd >= 0 && st != CDP_OK)
        unlink(temp);
    return st;
}
