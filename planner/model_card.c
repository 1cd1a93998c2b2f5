#include "planner/model_card.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/families.h"
#include "planner/file.h"
#include "planner/json.h"
#include "planner/rope.h"

static cdp_status need_int(const cJSON *config, const char *path, const char *key, int64_t high, int *out) {
    int64_t value = -1;
    CDP_TRY(cdp_json_int(config, path, key, 1, high, &value));
    if (value < 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: %s is missing, expected a whole number from 1 to %lld", path, key,
                        (long long)high);
    *out = (int)value;
    return CDP_OK;
}

static cdp_status may_int(const cJSON *config, const char *path, const char *key, int64_t low, int64_t high,
                          int *out) {
    int64_t value = *out;
    CDP_TRY(cdp_json_int(config, path, key, low, high, &value));
    *out = (int)value;
    return CDP_OK;
}

static cdp_status read_sizes(cdp_model_card *card, const cJSON *config, const char *path,
                             const cdp_family *family) {
    CDP_TRY(need_int(config, path, "num_hidden_layers", CDP_MAX_LAYERS, &card->n_layers));
    CDP_TRY(need_int(config, path, "hidden_size", 262144, &card->hidden));
    CDP_TRY(need_int(config, path, "num_attention_heads", 4096, &card->n_heads));
    CDP_TRY(need_int(config, path, "intermediate_size", 1 << 22, &card->ffn));
    CDP_TRY(need_int(config, path, "vocab_size", 1 << 24, &card->vocab));
    card->max_positions = 2048;
    CDP_TRY(may_int(config, path, "max_position_embeddings", 1, INT32_MAX, &card->max_positions));
    card->n_kv_heads = family->n_kv_heads > 0 ? family->n_kv_heads : card->n_heads;
    CDP_TRY(may_int(config, path, "num_key_value_heads", 1, 4096, &card->n_kv_heads));
    if (card->n_kv_heads > card->n_heads || card->n_heads % card->n_kv_heads != 0)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: num_key_value_heads is %d, expected a divisor of num_attention_heads %d", path,
                        card->n_kv_heads, card->n_heads);
    CDP_TRY(may_int(config, path, "head_dim", 1, 1024, &card->head_dim));
    if (card->head_dim == 0 && family->head_dim > 0)
        card->head_dim = family->head_dim;
    if (card->head_dim == 0 && card->hidden % card->n_heads != 0)
        return cdp_fail(
            CDP_BAD_MODEL,
            "%s: hidden_size %d is no multiple of num_attention_heads %d, and head_dim is missing", path,
            card->hidden, card->n_heads);
    if (card->head_dim == 0)
        card->head_dim = card->hidden / card->n_heads;
    if (card->head_dim > 1024 || card->head_dim % 2 != 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: head_dim is %d, expected an even number up to 1024", path,
                        card->head_dim);
    return CDP_OK;
}

/* A list of n_layers entries; NULL when the key is absent. */
static cdp_status layer_list(const cJSON **out, const cJSON *config, const char *path, const char *key,
                             int n_layers) {
    *out = cdp_json_get(config, key);
    if (*out == NULL || cJSON_IsNull(*out)) {
        *out = NULL;
        return CDP_OK;
    }
    if (!cJSON_IsArray(*out) || cJSON_GetArraySize(*out) != n_layers)
        return cdp_fail(CDP_BAD_MODEL, "%s: %s has %d entries, expected %d, one a layer", path, key,
                        cJSON_GetArraySize(*out), n_layers);
    return CDP_OK;
}

static cdp_status read_nope(cdp_model_card *card, const cJSON *config, const char *path,
                            const cdp_family *family) {
    const cJSON *list = NULL, *item;
    int interval = 4, i = 0;
    for (int l = 0; l < card->n_layers; l++)
        card->layers[l].has_rope = true;
    if (!family->has_nope)
        return CDP_OK;
    CDP_TRY(may_int(config, path, "no_rope_layer_interval", 1, CDP_MAX_LAYERS, &interval));
    CDP_TRY(layer_list(&list, config, path, "no_rope_layers", card->n_layers));
    for (int l = 0; list == NULL && l < card->n_layers; l++)
        card->layers[l].has_rope = (l + 1) % interval != 0;
    cJSON_ArrayForEach(item, list) { /* 1 means with rope, whatever the key's name suggests */
        if (!cJSON_IsNumber(item))
            return cdp_fail(CDP_BAD_MODEL, "%s: no_rope_layers: entry %d is no number", path, i);
        card->layers[i++].has_rope = item->valuedouble != 0;
    }
    return CDP_OK;
}

/* The window of layer l by the family's own rule. */
static bool slides(const cdp_model_card *card, const cdp_family *family, int l, int max_window_layers) {
    return family->window_rule == CDP_WINDOW_ALL ||
           (family->window_rule == CDP_WINDOW_QWEN && l >= max_window_layers) ||
           (family->window_rule == CDP_WINDOW_NO_ROPE && !card->layers[l].has_rope);
}

static cdp_status read_windows(cdp_model_card *card, const cJSON *config, const char *path,
                               const cdp_family *family) {
    int window = family->window, max_window_layers = 28, l = 0;
    bool is_on = family->window_rule == CDP_WINDOW_NONE || family->window_rule == CDP_WINDOW_ALL;
    const cJSON *types = NULL, *item, *given = cdp_json_get(config, "sliding_window");
    CDP_TRY(may_int(config, path, "sliding_window", 0, INT32_MAX, &window));
    CDP_TRY(may_int(config, path, "max_window_layers", 0, CDP_MAX_LAYERS, &max_window_layers));
    CDP_TRY(cdp_json_bool(config, path, "use_sliding_window", &is_on));
    if (!is_on || (given != NULL && cJSON_IsNull(given)))
        window = 0;
    CDP_TRY(layer_list(&types, config, path, "layer_types", card->n_layers));
    for (; types == NULL && l < card->n_layers; l++)
        card->layers[l].window = slides(card, family, l, max_window_layers) ? window : 0;
    cJSON_ArrayForEach(item, types) { /* written out: wins over every rule */
        const char *type = cJSON_IsString(item) ? item->valuestring : "no string";
        if (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0)
            return cdp_fail(
                CDP_BAD_MODEL,
                "%s: layer_types: entry %d is \"%.60s\", expected full_attention or sliding_attention", path,
                l, type);
        card->layers[l++].window = type[0] == 's' ? window : 0;
    }
    return CDP_OK;
}

static cdp_status read_scales(cdp_model_card *card, const cJSON *config, const char *path,
                              const cdp_family *family) {
    double divisor = 1;
    card->norm_eps = family->norm_eps;
    CDP_TRY(cdp_json_double(config, path, "rms_norm_eps", 1e-300, 1, &card->norm_eps));
    card->attn_scale = 1 / sqrt(card->head_dim);
    card->embed_scale = card->residual_scale = card->logit_scale = 1;
    if (!family->has_multipliers)
        return CDP_OK;
    card->attn_scale = 1;
    CDP_TRY(cdp_json_double(config, path, "attention_multiplier", 1e-9, 1e9, &card->attn_scale));
    CDP_TRY(cdp_json_double(config, path, "embedding_multiplier", 1e-9, 1e9, &card->embed_scale));
    CDP_TRY(cdp_json_double(config, path, "residual_multiplier", 1e-9, 1e9, &card->residual_scale));
    CDP_TRY(cdp_json_double(config, path, "logits_scaling", 1e-9, 1e9, &divisor));
    card->logit_scale = 1 / divisor;
    return CDP_OK;
}

static cdp_status read_flags(cdp_model_card *card, const cJSON *config, const char *path,
                             const cdp_family *family) {
    bool attention_bias = false;
    const cJSON *tie = cdp_json_get(config, "tie_word_embeddings");
    card->norm_before = family->norm_before;
    card->norm_after = family->norm_after;
    card->qk_norm = family->qk_norm;
    card->fused_qkv = card->fused_gate_up = family->is_fused;
    card->is_tied = family->is_tied;
    card->tie_is_said = tie != NULL && !cJSON_IsNull(tie);
    CDP_TRY(cdp_json_bool(config, path, "tie_word_embeddings", &card->is_tied));
    CDP_TRY(cdp_json_bool(config, path, "attention_bias", &attention_bias));
    CDP_TRY(cdp_json_bool(config, path, "mlp_bias", &card->mlp_bias));
    card->qkv_bias = family->qkv_bias || attention_bias;
    card->attn_out_bias = attention_bias;
    return CDP_OK;
}

/* One id or a list of ids. */
static cdp_status read_eos(cdp_model_card *card, const cJSON *config, const char *path) {
    const cJSON *eos = cdp_json_get(config, "eos_token_id"), *item;
    if (eos == NULL || cJSON_IsNull(eos))
        return CDP_OK;
    const int n = cJSON_IsArray(eos) ? cJSON_GetArraySize(eos) : 1;
    if (n > CDP_MAX_EOS)
        return cdp_fail(CDP_BAD_MODEL, "%s: eos_token_id lists %d ids, at most %d", path, n, CDP_MAX_EOS);
    card->n_eos = 0;
    for (int i = 0; i < n; i++) {
        item = cJSON_IsArray(eos) ? cJSON_GetArrayItem(eos, i) : eos;
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble >= card->vocab ||
            item->valuedouble != floor(item->valuedouble))
            return cdp_fail(CDP_BAD_MODEL, "%s: eos_token_id: entry %d is no id from 0 to %d", path, i,
                            card->vocab - 1);
        card->eos[card->n_eos++] = (int)item->valuedouble;
    }
    return CDP_OK;
}

static cdp_status read_ids(cdp_model_card *card, const cJSON *config, const char *path) {
    card->bos = -1;
    CDP_TRY(may_int(config, path, "bos_token_id", 0, card->vocab - 1, &card->bos));
    return read_eos(card, config, path);
}

static cdp_status read_dtype(cdp_model_card *card, const cJSON *config, const char *path) {
    static const char *const names[] = {"float32", "float16", "bfloat16"}; /* in the order of cdp_dtype */
    const cJSON *dtype = cdp_json_get(config, "dtype");
    if (dtype == NULL)
        dtype = cdp_json_get(config, "torch_dtype");
    card->file_dtype = CDP_BF16;
    if (dtype == NULL || cJSON_IsNull(dtype))
        return CDP_OK;
    for (int i = 0; cJSON_IsString(dtype) && i < 3; i++)
        if (strcmp(dtype->valuestring, names[i]) == 0) {
            card->file_dtype = (cdp_dtype)i;
            return CDP_OK;
        }
    return cdp_fail(CDP_BAD_MODEL, "%s: dtype is \"%.60s\", expected float32, float16 or bfloat16", path,
                    cJSON_IsString(dtype) ? dtype->valuestring : "no string");
}

/* Things that would change the arithmetic without a word. */
static cdp_status refuse_unknown(const cJSON *config, const char *path) {
    const cJSON *quantized = cdp_json_get(config, "quantization_config"),
                *act = cdp_json_get(config, "hidden_act");
    if (quantized != NULL && !cJSON_IsNull(quantized))
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: quantization_config is not supported: use the bf16, fp16 or fp32 weights", path);
    if (act != NULL && !cJSON_IsNull(act) && (!cJSON_IsString(act) || strcmp(act->valuestring, "silu") != 0))
        return cdp_fail(CDP_BAD_MODEL, "%s: hidden_act is \"%.60s\", expected silu", path,
                        cJSON_IsString(act) ? act->valuestring : "no string");
    return CDP_OK;
}

static cdp_status find_family(const cdp_family **out, cdp_model_card *card, const cJSON *config,
                              const char *path) {
    const cJSON *type = cdp_json_get(config, "model_type");
    char shown[64];
    if (!cJSON_IsString(type))
        return cdp_fail(CDP_BAD_MODEL, "%s: model_type is %s, expected one of %s", path,
                        type == NULL ? "missing" : "no string", cdp_family_list());
    *out = cdp_family_find(type->valuestring);
    if (*out == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: model_type \"%s\" is not supported, expected one of %s", path,
                        cdp_escape(shown, sizeof shown, type->valuestring, strlen(type->valuestring)),
                        cdp_family_list());
    snprintf(card->model_type, sizeof card->model_type, "%s", (*out)->type);
    return CDP_OK;
}

static cdp_status fill(cdp_model_card *card, const cJSON *config, const char *path) {
    const cdp_family *family = NULL;
    if (!cJSON_IsObject(config))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected a JSON object", path);
    CDP_TRY(find_family(&family, card, config, path));
    CDP_TRY(refuse_unknown(config, path));
    CDP_TRY(read_sizes(card, config, path, family));
    CDP_TRY(read_scales(card, config, path, family));
    CDP_TRY(read_flags(card, config, path, family));
    CDP_TRY(read_nope(card, config, path, family));
    CDP_TRY(read_windows(card, config, path, family));
    CDP_TRY(read_ids(card, config, path));
    CDP_TRY(read_dtype(card, config, path));
    return cdp_rope_read(&card->rope, config, path, family, card->head_dim, card->max_positions);
}

/* generation_config.json, which may be missing; its eos ids replace config.json's. */
static cdp_status open_generation(cJSON **out, char *path, size_t path_size, const char *dir) {
    *out = NULL;
    if (!cdp_file_join(path, path_size, dir, "generation_config.json") || !cdp_file_exists(path))
        return CDP_OK;
    CDP_TRY(cdp_json_read(out, path, &cdp_json_config_limits));
    if (!cJSON_IsObject(*out)) {
        cJSON_Delete(*out);
        *out = NULL;
        return cdp_fail(CDP_BAD_MODEL, "%s: expected a JSON object", path);
    }
    return CDP_OK;
}

cdp_status cdp_model_card_read(cdp_model_card *out, const char *dir) {
    char path[4200];
    *out = (cdp_model_card){0};
    if (strlen(dir) >= sizeof out->dir || !cdp_file_join(path, sizeof path, dir, "config.json"))
        return cdp_fail(CDP_NO_INPUT, "the path of the model is longer than %zu bytes", sizeof out->dir - 1);
    strcpy(out->dir, dir);
    cJSON *config = NULL, *generation = NULL;
    CDP_TRY(cdp_json_read(&config, path, &cdp_json_config_limits));
    cdp_status st = fill(out, config, path);
    cJSON_Delete(config);
    if (st == CDP_OK)
        st = open_generation(&generation, path, sizeof path, dir);
    if (st == CDP_OK && generation != NULL)
        st = read_eos(out, generation, path);
    cJSON_Delete(generation);
    return st;
}

cdp_status cdp_generation_card_read(cdp_generation_card *out, const char *dir) {
    char path[4200];
    cJSON *config = NULL;
    *out = (cdp_generation_card){
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    CDP_TRY(open_generation(&config, path, sizeof path, dir));
    cdp_status st = CDP_OK;
    int64_t top_k = -1;
    CDP_TRY_GOTO(cdp_json_bool(config, path, "do_sample", &out->do_sample), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, path, "temperature", 0, 1000, &out->temperature), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, path, "top_p", 1e-9, 1, &out->top_p), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, path, "min_p", 0, 1, &out->min_p), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, path, "repetition_penalty", 1e-9, 1000, &out->repetition_penalty),
                 st, done);
    CDP_TRY_GOTO(cdp_json_int(config, path, "top_k", 0, INT32_MAX, &top_k), st, done);
    out->top_k = (int)top_k;
done:
    cJSON_Delete(config);
    return st;
}
