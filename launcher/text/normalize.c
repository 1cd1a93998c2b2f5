#include "launcher/text/normalize.h"

#include <utf8proc.h>

#include "planner/json.h"

static cdp_status add_nfc(const char *text, size_t n, cdp_bytes *out) {
    bool may_change = false;
    for (size_t i = 0; i < n; i++) /* nothing below U+0300 changes, and those have no byte of 0xCC or more */
        may_change |= (unsigned char)text[i] >= 0xCC;
    if (!may_change) {
        cdp_bytes_add(out, text, n);
        return CDP_OK;
    }
    utf8proc_uint8_t *normal = NULL;
    const utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &normal,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (length < 0)
        return cdp_fail(CDP_SYSTEM, "normalising a text of %zu bytes: %s", n, utf8proc_errmsg(length));
    cdp_bytes_add(out, normal, (size_t)length);
    free(normal);
    return CDP_OK;
}

cdp_status cdp_normalizer_open(cdp_normalizer *out, const char *name, const cJSON *json) {
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
    if (strcmp(word, "NFC") != 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: normalizer %s is not supported, expected NFC or Sequence", name,
                        cdp_escape(shown, sizeof shown, word, strlen(word)));
    if (out->n_steps == CDP_MAX_NORMAL_STEPS)
        return cdp_fail(CDP_BAD_MODEL, "%s: normalizer has more than %d steps", name, CDP_MAX_NORMAL_STEPS);
    out->steps[out->n_steps++] = CDP_NORMAL_NFC;
    return CDP_OK;
}

static cdp_status run_step(cdp_normal_kind kind, const char *text, size_t n, cdp_bytes *out) {
    switch (kind) {
    case CDP_NORMAL_NFC:
        return add_nfc(text, n, out);
    }
    return cdp_fail(CDP_INTERNAL, "normalizer step %d has no meaning", (int)kind);
}

cdp_status cdp_normalizer_run(const cdp_normalizer *normalizer, const char *text, size_t n, cdp_bytes *out) {
    cdp_status st = CDP_OK;
    cdp_bytes_add(out, text, n);
    for (int i = 0; st == CDP_OK && !out->is_failed && i < normalizer->n_steps; i++) {
        cdp_bytes next = {0};
        st = run_step(normalizer->steps[i], out->data, out->n, &next);
        free(out->data);
        *out = next;
    }
    return st == CDP_OK && out->is_failed ? cdp_fail(CDP_SYSTEM, "no memory to normalise %zu bytes", n) : st;
}
