#include "launcher/text/template.h"

#include "planner/json.h"

static cdp_status add_ids(cdp_template *t, bool is_behind, const char *name, const cJSON *ids,
                          const cdp_vocabulary *vocabulary) {
    const cJSON *id;
    size_t n_text;
    int *n = is_behind ? &t->n_after : &t->n_before;
    cJSON_ArrayForEach(id, ids) {
        if (!cJSON_IsNumber(id) || cdp_vocabulary_text(vocabulary, id->valueint, &n_text) == NULL)
            return cdp_fail(CDP_BAD_MODEL, "%s: post_processor: an id is not in the vocabulary", name);
        if (*n == CDP_MAX_EXTRA)
            return cdp_fail(CDP_BAD_MODEL, "%s: post_processor adds more than %d ids, expected a few", name,
                            CDP_MAX_EXTRA);
        (is_behind ? t->after : t->before)[(*n)++] = id->valueint;
    }
    return CDP_OK;
}

/* The ids of one special token, which the template itself has to define. */
static cdp_status add_special(cdp_template *t, bool is_behind, const char *name, const cJSON *json,
                              const cJSON *special, const cdp_vocabulary *vocabulary) {
    const cJSON *id = cdp_json_get(special, "id");
    const char *key = cJSON_IsString(id) ? id->valuestring : "?";
    const cJSON *known = cdp_json_get(cdp_json_get(json, "special_tokens"), key);
    char shown[64];
    if (known == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: post_processor: special token %s is not among special_tokens",
                        name, cdp_escape(shown, sizeof shown, key, strlen(key)));
    return add_ids(t, is_behind, name, cdp_json_get(known, "ids"), vocabulary);
}

/* What is done to a single text: special tokens around one "A". */
static cdp_status read_single(cdp_template *t, const char *name, const cJSON *json,
                              const cdp_vocabulary *vocabulary) {
    const cJSON *item;
    bool is_behind = false;
    cJSON_ArrayForEach(item, cdp_json_get(json, "single")) {
        const cJSON *special = cdp_json_get(item, "SpecialToken"), *id;
        if (special != NULL) {
            CDP_TRY(add_special(t, is_behind, name, json, special, vocabulary));
            continue;
        }
        id = cdp_json_get(cdp_json_get(item, "Sequence"), "id");
        if (is_behind || !cJSON_IsString(id) || strcmp(id->valuestring, "A") != 0)
            return cdp_fail(CDP_BAD_MODEL, "%s: post_processor: single is not the text \"A\" once", name);
        is_behind = true;
    }
    return is_behind ? CDP_OK
                     : cdp_fail(CDP_BAD_MODEL, "%s: post_processor: single does not hold the text", name);
}

cdp_status cdp_template_open(cdp_template *out, const char *name, const cJSON *json,
                             const cdp_vocabulary *vocabulary) {
    const cJSON *type = cdp_json_get(json, "type"), *step;
    char shown[64];
    if (json == NULL || cJSON_IsNull(json))
        return CDP_OK;
    const char *word = cJSON_IsString(type) ? type->valuestring : "?";
    if (strcmp(word, "ByteLevel") == 0)
        return CDP_OK; /* it only trims offsets */
    if (strcmp(word, "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "processors"))
            CDP_TRY(cdp_template_open(out, name, step, vocabulary));
        return CDP_OK;
    }
    if (strcmp(word, "TemplateProcessing") == 0)
        return read_single(out, name, json, vocabulary);
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: post_processor %s is not supported, expected ByteLevel, TemplateProcessing or "
                    "Sequence",
                    name, cdp_escape(shown, sizeof shown, word, strlen(word)));
}
