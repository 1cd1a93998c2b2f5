#include "launcher/text/decoder.h"

#include <ctype.h>

#include "launcher/text/bpe.h"
#include "launcher/text/utf8.h"
#include "planner/json.h"

/* Which step may follow: Replace, ByteFallback, Fuse, Strip, each at most once but Replace. */
typedef enum stage { REPLACES, BYTES, FUSED, DONE } stage;

static cdp_status refuse(const char *name, const char *what) {
    return cdp_fail(
        CDP_BAD_MODEL,
        "%s: decoder: %s is not supported, expected ByteLevel, Metaspace, or a Sequence of Replace, "
        "ByteFallback, Fuse and Strip in this order",
        name, what);
}

static cdp_status copy_text(cdp_bytes *out, const char *name, const char *what, const cJSON *json) {
    if (!cJSON_IsString(json) || json->valuestring[0] == '\0')
        return cdp_fail(CDP_BAD_MODEL, "%s: decoder: %s is no text", name, what);
    cdp_bytes_add(out, json->valuestring, strlen(json->valuestring));
    return out->is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory for the decoder", name) : CDP_OK;
}

static cdp_status open_replace(cdp_decoder *d, const char *name, const cJSON *json) {
    const cJSON *from = cdp_json_get(cdp_json_get(json, "pattern"), "String");
    const cJSON *to = cdp_json_get(json, "content");
    if (from == NULL || !cJSON_IsString(to))
        return refuse(name, "Replace of a pattern");
    if (d->n_replaces == CDP_MAX_REPLACES)
        return refuse(name, "this number of Replace");
    const int i = d->n_replaces++;
    cdp_bytes_add(&d->replaces[i].to, to->valuestring, strlen(to->valuestring));
    return copy_text(&d->replaces[i].from, name, "Replace: pattern", from);
}

static cdp_status open_strip(cdp_decoder *d, const char *name, const cJSON *json) {
    int64_t start = 0, stop = 0;
    CDP_TRY(cdp_json_int(json, name, "start", 0, 1024, &start));
    CDP_TRY(cdp_json_int(json, name, "stop", 0, 1024, &stop));
    if (stop > 0) /* nobody who streams knows where a text ends */
        return refuse(name, "Strip at the end of a text");
    d->n_strips = (size_t)start;
    return copy_text(&d->strip, name, "Strip: content", cdp_json_get(json, "content"));
}

/* Old files say add_prefix_space where newer ones say prepend_scheme. */
static cdp_status open_metaspace(cdp_decoder *d, const char *name, const cJSON *json) {
    const cJSON *scheme = cdp_json_get(json, "prepend_scheme");
    bool adds_space = true;
    CDP_TRY(cdp_json_bool(json, name, "add_prefix_space", &adds_space));
    d->drops_first = cJSON_IsString(scheme) ? strcmp(scheme->valuestring, "never") != 0 : adds_space;
    d->n_replaces = 1;
    cdp_bytes_add(&d->replaces[0].to, " ", 1);
    return copy_text(&d->replaces[0].from, name, "Metaspace: replacement", cdp_json_get(json, "replacement"));
}

static cdp_status open_step(cdp_decoder *d, const char *name, const cJSON *json, stage *at) {
    const cJSON *type = cdp_json_get(json, "type"), *step;
    const char *word = cJSON_IsString(type) ? type->valuestring : "null";
    const stage before = *at;
    char shown[64];
    if (strcmp(word, "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "decoders")) CDP_TRY(open_step(d, name, step, at));
        return CDP_OK;
    }
    if (before == REPLACES && strcmp(word, "Replace") == 0)
        return open_replace(d, name, json);
    if (before < BYTES && strcmp(word, "ByteFallback") == 0) {
        *at = BYTES;
        d->has_bytes = true;
        return CDP_OK;
    }
    if (before < FUSED && strcmp(word, "Fuse") == 0) {
        *at = FUSED;
        return CDP_OK;
    }
    *at = DONE;
    if (before == FUSED && strcmp(word, "Strip") == 0)
        return open_strip(d, name, json);
    if (before == REPLACES && d->n_replaces == 0 && strcmp(word, "Metaspace") == 0)
        return open_metaspace(d, name, json);
    if (before == REPLACES && d->n_replaces == 0 && strcmp(word, "ByteLevel") == 0) {
        d->is_byte_level = true;
        return CDP_OK;
    }
    return refuse(name, cdp_escape(shown, sizeof shown, word, strlen(word)));
}

cdp_status cdp_decoder_open(cdp_decoder *out, const char *name, const cJSON *json) {
    stage at = REPLACES;
    CDP_TRY(open_step(out, name, json, &at));
    return at != REPLACES || out->n_replaces > 0 ? CDP_OK : refuse(name, "an empty Sequence");
}

void cdp_decoder_close(cdp_decoder *d) {
    for (int i = 0; i < d->n_replaces; i++) {
        free(d->replaces[i].from.data);
        free(d->replaces[i].to.data);
    }
    free(d->strip.data);
    *d = (cdp_decoder){0};
}

/* The bytes that the characters stand for, if each stands for one; else the text itself. */
static void add_bytes(const char *text, size_t n, cdp_bytes *out) {
    const size_t start = out->n;
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t code;
        cdp_utf8_next((const unsigned char *)text + i, n - i, &length, &code);
        const int byte = cdp_char_byte(code);
        if (byte < 0) {
            out->n = start;
            cdp_bytes_add(out, text, n);
            return;
        }
        cdp_bytes_add(out, &(char){(char)byte}, 1);
    }
}

static void add_replaced(const cdp_decoder *d, const char *text, size_t n, bool is_first, cdp_bytes *out) {
    const size_t start = out->n;
    cdp_bytes_add(out, text, n);
    for (int i = 0; i < d->n_replaces && !out->is_failed; i++) {
        const cdp_bytes *from = &d->replaces[i].from, *to = &d->replaces[i].to;
        if (memmem(out->data + start, out->n - start, from->data, from->n) == NULL)
            continue;
        cdp_spans found = {0};
        cdp_bytes before = {0};
        cdp_bytes_add(&before, out->data + start, out->n - start);
        cdp_find_fixed(from->data, from->n, before.data, 0, before.n, &found);
        size_t kept = 0;
        out->n = start;
        for (size_t k = 0; k < found.n; k++) {
            cdp_bytes_add(out, before.data + kept, found.data[k].begin - kept);
            cdp_bytes_add(out, to->data, is_first && d->drops_first ? 0 : to->n);
            kept = found.data[k].end;
        }
        cdp_bytes_add(out, before.data + kept, before.n - kept);
        out->is_failed |= before.is_failed || found.is_failed;
        free(before.data);
        free(found.data);
    }
}

bool cdp_decoder_add(const cdp_decoder *d, const char *text, size_t n, bool is_first, cdp_bytes *out) {
    const size_t start = out->n;
    if (d->is_byte_level) {
        add_bytes(text, n, out);
        return false;
    }
    add_replaced(d, text, n, is_first, out);
    const char *made = out->data + start;
    if (!d->has_bytes || out->is_failed || out->n - start != 6 || memcmp(made, "<0x", 3) != 0 ||
        made[5] != '>' || !isxdigit((unsigned char)made[3]) || !isxdigit((unsigned char)made[4]))
        return false;
    const char digits[3] = {made[3], made[4], '\0'};
    out->n = start;
    cdp_bytes_add(out, &(char){(char)strtol(digits, NULL, 16)}, 1);
    return true;
}
