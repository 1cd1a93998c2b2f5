#include "planner/model_card.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    if (cJSON_IsNull(cdp_json_get(config, "num_key_value_heads"))) /* null is not absent */
        card->n_kv_heads = card->n_heads;
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
        return cdp_fail(CDP_BAD_MODEL, "%s: %s has %d entries, expected a list of %d, one a layer", path, key,
                        cJSON_GetArraySize(*out), n_layers);
    return CDP_OK;
}

static cdp_status read_nope(cdp_model_card *card, const cJSON *config, const char *path,
                            const cdp_family *family) {
    const cJSON *list = NULL, *item;
    char shown[96];
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
        if (!cdp_json_is_whole(item) || item->valuedouble < 0 || item->valuedouble > 1)
            return cdp_fail(CDP_BAD_MODEL, "%s: no_rope_layers: entry %d is %s, expected 0 or 1", path, i,
                            cdp_json_shown(shown, sizeof shown, item));
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

/* layer_types is written out: it wins over every rule, and so over use_sliding_window. */
static cdp_status read_layer_types(cdp_model_card *card, const cJSON *types, const char *path, int window) {
    const cJSON *item;
    char shown[96];
    int l = 0;
    cJSON_ArrayForEach(item, types) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        const bool is_sliding = strcmp(type, "sliding_attention") == 0;
        if (!is_sliding && strcmp(type, "full_attention") != 0)
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: layer_types: entry %d is %s, expected full_attention or sliding_attention",
                            path, l, cdp_json_shown(shown, sizeof shown, item));
        if (is_sliding && window == 0)
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: layer_types: entry %d is sliding_attention, but sliding_window is off", path,
                            l);
        card->layers[l++].window = is_sliding ? window : 0;
    }
    return CDP_OK;
}

static cdp_status read_windows(cdp_model_card *card, const cJSON *config, const char *path,
                               const cdp_family *family) {
    int window = family->window, max_window_layers = 28;
    bool is_on = false;
    const cJSON *types = NULL;
    if (cJSON_IsNull(cdp_json_get(config, "sliding_window"))) /* null is off, absent is the default */
        window = 0;
    CDP_TRY(may_int(config, path, "sliding_window", 0, INT32_MAX, &window));
    CDP_TRY(may_int(config, path, "max_window_layers", 0, CDP_MAX_LAYERS, &max_window_layers));
    CDP_TRY(cdp_json_bool(config, path, "use_sliding_window", &is_on));
    CDP_TRY(layer_list(&types, config, path, "layer_types", card->n_layers));
    if (types != NULL)
        return read_layer_types(card, types, path, window);
    is_on = is_on || family->window_rule == CDP_WINDOW_ALL; /* which has no such switch */
    for (int l = 0; l < card->n_layers; l++)
        card->layers[l].window = is_on && slides(card, family, l, max_window_layers) ? window : 0;
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

/* One id or a list of ids; null or an empty list says nothing. */
static cdp_status read_eos(cdp_model_card *card, const cJSON *config, const char *path) {
    const cJSON *eos = cdp_json_get(config, "eos_token_id"), *item;
    char shown[96];
    if (eos == NULL || cJSON_IsNull(eos))
        return CDP_OK;
    const int n = cJSON_IsArray(eos) ? cJSON_GetArraySize(eos) : 1;
    if (n == 0)
        return CDP_OK;
    if (n > CDP_MAX_EOS)
        return cdp_fail(CDP_BAD_MODEL, "%s: eos_token_id lists %d ids, at most %d", path, n, CDP_MAX_EOS);
    card->n_eos = 0;
    for (int i = 0; i < n; i++) {
        item = cJSON_IsArray(eos) ? cJSON_GetArrayItem(eos, i) : eos;
        if (!cdp_json_is_whole(item) || item->valuedouble < 0 || item->valuedouble >= card->vocab)
            return cdp_fail(CDP_BAD_MODEL, "%s: eos_token_id is %s, expected ids from 0 to %d", path,
                            cdp_json_shown(shown, sizeof shown, item), card->vocab - 1);
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
    char shown[96];
    if (dtype == NULL || cJSON_IsNull(dtype))
        dtype = cdp_json_get(config, "torch_dtype");
    card->file_dtype = CDP_BF16;
    if (dtype == NULL || cJSON_IsNull(dtype))
        return CDP_OK;
    for (int i = 0; cJSON_IsString(dtype) && i < 3; i++)
        if (strcmp(dtype->valuestring, names[i]) == 0) {
            card->file_dtype = (cdp_dtype)i;
            return CDP_OK;
        }
    return cdp_fail(CDP_BAD_MODEL, "%s: dtype is %s, expected float32, float16 or bfloat16", path,
                    cdp_json_shown(shown, sizeof shown, dtype));
}

/* Things that would change the arithmetic without a word. */
static cdp_status refuse_unknown(const cJSON *config, const char *path) {
    const cJSON *quantized = cdp_json_get(config, "quantization_config"),
                *act = cdp_json_get(config, "hidden_act");
    char shown[96];
    if (quantized != NULL && !cJSON_IsNull(quantized))
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: quantization_config is not supported: use the bf16, fp16 or fp32 weights", path);
    if (act != NULL && !cJSON_IsNull(act) && (!cJSON_IsString(act) || strcmp(act->valuestring, "silu") != 0))
        return cdp_fail(CDP_BAD_MODEL, "%s: hidden_act is %s, expected silu", path,
                        cdp_json_shown(shown, sizeof shown, act));
    return CDP_OK;
}

static cdp_status find_family(const cdp_family **out, cdp_model_card *card, const cJSON *config,
                              const char *path) {
    const cJSON *type = cdp_json_get(config, "model_type");
    char shown[96];
    *out = cJSON_IsString(type) ? cdp_family_find(type->valuestring) : NULL;
    if (type == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: model_type is missing, expected one of %s", path,
                        cdp_family_list());
    if (*out == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: model_type %s is not supported, expected one of %s", path,
                        cdp_json_shown(shown, sizeof shown, type), cdp_family_list());
    snprintf(card->model_type, sizeof card->model_type, "%s", (*out)->type);
    return CDP_OK;
}

static cdp_status fill(cdp_model_card *card, const cJSON *config, const char *path) {
    const cdp_family *family = NULL;
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

/* DIR/name as JSON, and how messages name it. A generation_config.json may be missing (*out stays NULL). */
static cdp_status open_object(cJSON **out, char shown[CDP_SHOWN_PATH], const char *dir, const char *name,
                              bool may_be_missing) {
    char path[4200];
    *out = NULL;
    if (!cdp_file_join(path, sizeof path, dir, name))
        return cdp_fail(CDP_NO_INPUT, "the path of %s is longer than %zu bytes", name, sizeof path - 1);
    cdp_escape(shown, CDP_SHOWN_PATH, path, strlen(path));
    if (may_be_missing && !cdp_file_exists(path))
        return CDP_OK;
    CDP_TRY(cdp_json_read(out, path, &cdp_json_config_limits));
    if (cJSON_IsObject(*out))
        return CDP_OK;
    cJSON_Delete(*out);
    *out = NULL;
    return cdp_fail(CDP_BAD_MODEL, "%s: expected a JSON object", shown);
}

/* Whether `dir` is a folder of a model at all: people give a hub's name, or a file. */
static cdp_status check_folder(const char *dir) {
    char shown[CDP_SHOWN_PATH], path[4200];
    struct stat info;
    const int error = stat(dir, &info) != 0 ? errno : S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    if (error == 0 && cdp_file_join(path, sizeof path, dir, "config.json") && cdp_file_exists(path))
        return CDP_OK;
    return cdp_fail(CDP_NO_INPUT,
                    "%s: %s: a model is a folder with config.json, *.safetensors, tokenizer.json",
                    cdp_escape(shown, sizeof shown, dir, strlen(dir)),
                    error != 0 ? strerror(error) : "no config.json there");
}

cdp_status cdp_model_card_read(cdp_model_card *out, const char *dir) {
    char shown[CDP_SHOWN_PATH];
    cJSON *config = NULL, *generation = NULL;
    cdp_status st;
    *out = (cdp_model_card){0};
    if (strlen(dir) >= sizeof out->dir)
        return cdp_fail(CDP_NO_INPUT, "the path of the model is longer than %zu bytes", sizeof out->dir - 1);
    strcpy(out->dir, dir);
    CDP_TRY(check_folder(dir));
    CDP_TRY(open_object(&config, shown, dir, "config.json", false));
    CDP_TRY_GOTO(fill(out, config, shown), st, done);
    CDP_TRY_GOTO(open_object(&generation, shown, dir, "generation_config.json", true), st, done);
    CDP_TRY_GOTO(read_eos(out, generation, shown), st, done);
done:
    cJSON_Delete(generation);
    cJSON_Delete(config);
    return st;
}

cdp_status cdp_generation_card_read(cdp_generation_card *out, const char *dir) {
    char shown[CDP_SHOWN_PATH];
    cJSON *config = NULL;
    int64_t top_k = -1;
    cdp_status st;
    *out = (cdp_generation_card){
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    CDP_TRY(open_object(&config, shown, dir, "generation_config.json", true));
    CDP_TRY_GOTO(cdp_json_bool(config, shown, "do_sample", &out->do_sample), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, shown, "temperature", 0, 1000, &out->temperature), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, shown, "top_p", 1e-9, 1, &out->top_p), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, shown, "min_p", 0, 1, &out->min_p), st, done);
    CDP_TRY_GOTO(cdp_json_double(config, shown, "repetition_penalty", 1e-9, 1000, &out->repetition_penalty),
                 st, done);
    CDP_TRY_GOTO(cdp_json_int(config, shown, "top_k", 0, INT32_MAX, &top_k), st, done);
    out->top_k = (int)top_k;
done:
    cJSON_Delete(config);
    return st;
}
