#include "planner/rope.h"

#include <math.h>
#include <string.h>

#include "planner/json.h"

/* The keys of a rope dictionary after all spellings are folded together. */
typedef struct rope_keys {
    const cJSON *dict; /* rope_scaling, else rope_parameters, else NULL */
    const char *path;
    char type[16];
    double theta, factor, attention_factor, low, high, beta_fast, beta_slow, mscale, mscale_all_dim;
    int64_t original;
    bool truncate;
} rope_keys;

enum { NOT_GIVEN = -1 };
#define ROPE_TYPES "default, linear, llama3, yarn or longrope"

/* The dictionary that holds: rope_scaling, if it says anything, replaces rope_parameters as a whole. One that
 * is nested by layer type has frequencies of its own for each, which no family here works with. */
static cdp_status find_dict(rope_keys *k, const cJSON *config) {
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2; i++) {
        const cJSON *dict = cdp_json_get(config, keys[i]);
        char shown[96];
        if (dict == NULL || cJSON_IsNull(dict))
            continue;
        if (!cJSON_IsObject(dict))
            return cdp_fail(CDP_BAD_MODEL, "%s: %s is %s, expected an object", k->path, keys[i],
                            cdp_json_shown(shown, sizeof shown, dict));
        if (cdp_json_get(dict, "full_attention") != NULL || cdp_json_get(dict, "sliding_attention") != NULL)
            return cdp_fail(CDP_BAD_MODEL, "%s: %s by layer type is not supported for this model_type",
                            k->path, keys[i]);
        if (k->dict == NULL && dict->child != NULL)
            k->dict = dict;
    }
    return CDP_OK;
}

/* Older files have these keys at the top level; inside the dictionary they win. */
static cdp_status read_key(const rope_keys *k, const cJSON *config, const char *key, double low, double high,
                           double *value) {
    CDP_TRY(cdp_json_double(config, k->path, key, low, high, value));
    return cdp_json_double(k->dict, k->path, key, low, high, value);
}

static cdp_status read_type(rope_keys *k, const cdp_family *family) {
    strcpy(k->type, "default");
    char shown[96];
    const cJSON *type = cdp_json_get(k->dict, "rope_type");
    if (type == NULL || cJSON_IsNull(type))
        type = cdp_json_get(k->dict, "type"); /* the old spelling */
    if (type == NULL || cJSON_IsNull(type))
        return CDP_OK;
    if (!cJSON_IsString(type) || strlen(type->valuestring) >= sizeof k->type)
        return cdp_fail(CDP_BAD_MODEL, "%s: rope_type is %s, expected " ROPE_TYPES, k->path,
                        cdp_json_shown(shown, sizeof shown, type));
    strcpy(k->type, type->valuestring);
    if (family->calls_yarn_longrope && (strcmp(k->type, "su") == 0 || strcmp(k->type, "yarn") == 0))
        strcpy(k->type, "longrope");
    return CDP_OK;
}

static cdp_status read_keys(rope_keys *k, const cJSON *config, int max_positions) {
    const double huge = 1e12;
    CDP_TRY(cdp_json_double(k->dict, k->path, "factor", 1e-6, huge, &k->factor));
    CDP_TRY(cdp_json_double(k->dict, k->path, "attention_factor", 1e-6, huge, &k->attention_factor));
    CDP_TRY(cdp_json_double(k->dict, k->path, "low_freq_factor", 1e-6, huge, &k->low));
    CDP_TRY(cdp_json_double(k->dict, k->path, "high_freq_factor", 1e-6, huge, &k->high));
    CDP_TRY(cdp_json_double(k->dict, k->path, "beta_fast", 1e-6, huge, &k->beta_fast));
    CDP_TRY(cdp_json_double(k->dict, k->path, "beta_slow", 1e-6, huge, &k->beta_slow));
    CDP_TRY(cdp_json_double(k->dict, k->path, "mscale", 0, huge, &k->mscale));
    CDP_TRY(cdp_json_double(k->dict, k->path, "mscale_all_dim", 0, huge, &k->mscale_all_dim));
    CDP_TRY(cdp_json_bool(k->dict, k->path, "truncate", &k->truncate));
    /* The top level wins for the original length: that is how Phi-3 files have it. */
    k->original = max_positions;
    CDP_TRY(cdp_json_int(k->dict, k->path, "original_max_position_embeddings", 1, INT32_MAX, &k->original));
    return cdp_json_int(config, k->path, "original_max_position_embeddings", 1, INT32_MAX, &k->original);
}

static cdp_status need(const rope_keys *k, double value, const char *key) {
    return value >= 0 ? CDP_OK : cdp_fail(CDP_BAD_MODEL, "%s: rope type %s needs %s", k->path, k->type, key);
}

static void scale_all(cdp_rope_card *r, double factor) {
    for (int i = 0; i < r->dim / 2; i++)
        r->inv[0][i] /= factor;
}

static cdp_status apply_llama3(cdp_rope_card *r, const rope_keys *k) {
    CDP_TRY(need(k, k->factor, "factor"));
    CDP_TRY(need(k, k->low, "low_freq_factor"));
    CDP_TRY(need(k, k->high, "high_freq_factor"));
    const double original = (double)k->original;
    if (k->high <= k->low)
        return cdp_fail(CDP_BAD_MODEL, "%s: high_freq_factor is %g, expected more than low_freq_factor %g",
                        k->path, k->high, k->low);
    for (int i = 0; i < r->dim / 2; i++) {
        const double inv = r->inv[0][i], wave = 2 * M_PI / inv;
        const double ramp = (original / wave - k->low) / (k->high - k->low);
        if (wave > original / k->low)
            r->inv[0][i] = inv / k->factor;
        else if (wave >= original / k->high)
            r->inv[0][i] = inv * ((1 - ramp) / k->factor + ramp);
    }
    return CDP_OK;
}

/* m(f, s) of the YaRN paper: how much attention sharpens with the extension. */
static double yarn_scale(double factor, double s) {
    return factor <= 1 ? 1 : 0.1 * s * log(factor) + 1;
}

/* The pair that turns `rotations` times over the original length. */
static double yarn_pair(const cdp_rope_card *r, const rope_keys *k, double rotations) {
    return r->dim * log((double)k->original / (rotations * 2 * M_PI)) / (2 * log(k->theta));
}

static cdp_status apply_yarn(cdp_rope_card *r, const rope_keys *k) {
    CDP_TRY(need(k, k->factor, "factor"));
    double low = yarn_pair(r, k, k->beta_fast), high = yarn_pair(r, k, k->beta_slow);
    if (k->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, r->dim - 1);
    for (int i = 0; i < r->dim / 2; i++) {
        const double width = high > low ? high - low : 0.001; /* equal bounds: a step */
        const double ramp = fmin(fmax((i - low) / width, 0), 1);
        r->inv[0][i] *= (1 - ramp) + ramp / k->factor;
    }
    if (k->attention_factor >= 0)
        r->factor[0] = k->attention_factor;
    else if (k->mscale > 0 && k->mscale_all_dim > 0)
        r->factor[0] = yarn_scale(k->factor, k->mscale) / yarn_scale(k->factor, k->mscale_all_dim);
    else
        r->factor[0] = yarn_scale(k->factor, 1);
    return CDP_OK;
}

static cdp_status divide_by_list(cdp_rope_card *r, const rope_keys *k, int list, const char *key) {
    const cJSON *array = cdp_json_get(k->dict, key), *item;
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) != r->dim / 2)
        return cdp_fail(CDP_BAD_MODEL, "%s: %s has %d entries, expected %d (half of %d rotated values)",
                        k->path, key, cJSON_IsArray(array) ? cJSON_GetArraySize(array) : 0, r->dim / 2,
                        r->dim);
    int i = 0;
    cJSON_ArrayForEach(item, array) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble > 0))
            return cdp_fail(CDP_BAD_MODEL, "%s: %s: entry %d is no number above 0", k->path, key, i);
        r->inv[list][i++] /= item->valuedouble;
    }
    return CDP_OK;
}

static cdp_status apply_longrope(cdp_rope_card *r, const rope_keys *k, int max_positions) {
    memcpy(r->inv[1], r->inv[0], sizeof r->inv[0]);
    CDP_TRY(divide_by_list(r, k, 0, "short_factor"));
    CDP_TRY(divide_by_list(r, k, 1, "long_factor"));
    const double factor = k->factor >= 0 ? k->factor : (double)max_positions / (double)k->original;
    const double grown = factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)k->original));
    r->n_lists = 2;
    r->original_max = (int)k->original;
    r->factor[0] = r->factor[1] = k->attention_factor >= 0 ? k->attention_factor : grown;
    return CDP_OK;
}

static cdp_status apply_type(cdp_rope_card *r, const rope_keys *k, int max_positions) {
    if (strcmp(k->type, "default") == 0 || strcmp(k->type, "mrope") == 0)
        return CDP_OK;
    if (strcmp(k->type, "linear") == 0) {
        CDP_TRY(need(k, k->factor, "factor"));
        scale_all(r, k->factor);
        return CDP_OK;
    }
    if (strcmp(k->type, "llama3") == 0)
        return apply_llama3(r, k);
    if (strcmp(k->type, "yarn") == 0)
        return apply_yarn(r, k);
    if (strcmp(k->type, "longrope") == 0)
        return apply_longrope(r, k, max_positions);
    char shown[64];
    return cdp_fail(CDP_BAD_MODEL, "%s: rope_type \"%s\" is not supported, expected " ROPE_TYPES, k->path,
                    cdp_escape(shown, sizeof shown, k->type, strlen(k->type)));
}

/* Numbers that are each in range may still not work together. */
static cdp_status check_result(const cdp_rope_card *r, const rope_keys *k) {
    bool is_good = true;
    for (int list = 0; list < r->n_lists; list++) {
        is_good = is_good && isfinite(r->factor[list]) && r->factor[list] > 0;
        for (int i = 0; i < r->dim / 2; i++)
            is_good = is_good && isfinite(r->inv[list][i]) && r->inv[list][i] >= 0;
    }
    return is_good ? CDP_OK
                   : cdp_fail(CDP_BAD_MODEL, "%s: rope type %s: its numbers give no finite frequencies",
                              k->path, k->type);
}

cdp_status cdp_rope_read(cdp_rope_card *out, const cJSON *config, const char *path, const cdp_family *family,
                         int head_dim, int max_positions) {
    *out = (cdp_rope_card){.n_lists = 1, .factor = {1, 1}};
    rope_keys k = {.path = path,
                   .theta = family->rope_theta,
                   .factor = NOT_GIVEN,
                   .attention_factor = NOT_GIVEN,
                   .low = NOT_GIVEN,
                   .high = NOT_GIVEN,
                   .beta_fast = 32,
                   .beta_slow = 1,
                   .truncate = true};
    double partial = 1;
    CDP_TRY(find_dict(&k, config));
    CDP_TRY(read_key(&k, config, "rope_theta", 1e-6, 1e15, &k.theta));
    CDP_TRY(read_key(&k, config, "partial_rotary_factor", 0, 1, &partial));
    CDP_TRY(read_type(&k, family));
    CDP_TRY(read_keys(&k, config, max_positions));
    if (k.theta <= 1)
        return cdp_fail(CDP_BAD_MODEL, "%s: rope_theta is %g, expected a number above 1", path, k.theta);
    out->dim = (int)(head_dim * partial);
    strcpy(out->type, k.type);
    if (out->dim % 2 != 0)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: %d rotated values of a head (head_dim %d), expected an even number", path,
                        out->dim, head_dim);
    for (int i = 0; i < out->dim / 2; i++)
        out->inv[0][i] = pow(k.theta, -2.0 * i / out->dim);
    CDP_TRY(apply_type(out, &k, max_positions));
    return check_result(out, &k);
}
