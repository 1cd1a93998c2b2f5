/* How tokenizer.json says what a normalizer does. */
#include "launcher/text/normalize.h"

#include "planner/json.h"

static cdp_status refuse(const char *name, const char *what, const char *expected) {
    return cdp_fail(CDP_BAD_MODEL, "%s: normalizer %s, expected %s", name, what, expected);
}

static cdp_status copy_text(cdp_bytes *out, const char *name, const cJSON *json, const char *what) {
    if (!cJSON_IsString(json))
        return refuse(name, what, "a text");
    cdp_bytes_add(out, json->valuestring, strlen(json->valuestring));
    return out->is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory for a normalizer", name) : CDP_OK;
}

static cdp_status open_replace(cdp_normal_step *step, const char *name, const cJSON *json) {
    const cJSON *pattern = cdp_json_get(json, "pattern");
    const cJSON *regex = cdp_json_get(pattern, "Regex");
    CDP_TRY(copy_text(&step->content, name, cdp_json_get(json, "content"), "Replace: content"));
    if (cJSON_IsString(regex))
        return cdp_regex_open(&step->pattern, name, regex->valuestring, strlen(regex->valuestring));
    CDP_TRY(copy_text(&step->from, name, cdp_json_get(pattern, "String"), "Replace: pattern"));
    return step->from.n > 0 ? CDP_OK : refuse(name, "Replace: pattern is empty", "a text");
}

static cdp_status open_strip(cdp_normal_step *step, const char *name, const cJSON *json) {
    step->strips_left = step->strips_right = true;
    CDP_TRY(cdp_json_bool(json, name, "strip_left", &step->strips_left));
    return cdp_json_bool(json, name, "strip_right", &step->strips_right);
}

static cdp_status open_step(cdp_normal_step *step, const char *name, const cJSON *json) {
    switch (step->kind) {
    case CDP_NORMAL_REPLACE:
        return open_replace(step, name, json);
    case CDP_NORMAL_PREPEND:
        return copy_text(&step->content, name, cdp_json_get(json, "prepend"), "Prepend: prepend");
    case CDP_NORMAL_STRIP:
        return open_strip(step, name, json);
    default:
        return CDP_OK;
    }
}

cdp_status cdp_normalizer_open(cdp_normalizer *out, const char *name, const cJSON *json) {
    static const char *const words[] = {
        [CDP_NORMAL_NFC] = "NFC",         [CDP_NORMAL_NFD] = "NFD",
        [CDP_NORMAL_NFKC] = "NFKC",       [CDP_NORMAL_NFKD] = "NFKD",
        [CDP_NORMAL_STRIP] = "Strip",     [CDP_NORMAL_PREPEND] = "Prepend",
        [CDP_NORMAL_REPLACE] = "Replace", [CDP_NORMAL_LOWERCASE] = "Lowercase",
    };
    const cJSON *type = cdp_json_get(json, "type"), *step;
    char shown[64];
    if (json == NULL || cJSON_IsNull(json))
        return CDP_OK;
    const char *word = cJSON_IsString(type) ? type->valuestring : "?";
    if (strcmp(word, "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "normalizers"))
            CDP_TRY(cdp_normalizer_open(out, name, step));
        return CDP_OK;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i]) != 0)
            continue;
        if (out->n_steps == CDP_MAX_NORMAL_STEPS)
            return cdp_fail(CDP_BAD_MODEL, "%s: normalizer has more than %d steps", name,
                            CDP_MAX_NORMAL_STEPS);
        out->steps[out->n_steps].kind = (cdp_normal_kind)i;
        return open_step(&out->steps[out->n_steps++], name, json);
    }
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: normalizer %s is not supported, expected NFC, NFD, NFKC, NFKD, Replace, Prepend, "
                    "Strip, Lowercase or Sequence",
                    name, cdp_escape(shown, sizeof shown, word, strlen(word)));
}

void cdp_normalizer_close(cdp_normalizer *normalizer) {
    for (int i = 0; i < normalizer->n_steps; i++) {
        cdp_regex_close(normalizer->steps[i].pattern);
        free(normalizer->steps[i].from.data);
        free(normalizer->steps[i].content.data);
    }
    *normalizer = (cdp_normalizer){0};
}
