#include "launcher/text/model_file.h"

#include <utf8proc.h>

#include "launcher/text/utf8.h"
#include "planner/json.h"

cdp_status cdp_normalize_nfc(cdp_bytes *out, const char *text, size_t n) {
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
        return cdp_fail(CDP_SYSTEM, "normalising a text: %s", utf8proc_errmsg(length));
    cdp_bytes_add(out, normal, (size_t)length);
    free(normal);
    return CDP_OK;
}

static const char *type_of(const cJSON *json) {
    const cJSON *type = cdp_json_get(json, "type");
    return cJSON_IsString(type) ? type->valuestring : "?";
}

static cdp_status unsupported(const char *name, const char *what, const cJSON *json, const char *expected) {
    char shown[64];
    const char *type = type_of(json);
    return cdp_fail(CDP_BAD_MODEL, "%s: %s %s is not supported, expected %s", name, what,
                    cdp_escape(shown, sizeof shown, type, strlen(type)), expected);
}

static cdp_status read_normalizer(cdp_tokenizer *t, const char *name, const cJSON *json) {
    const cJSON *step;
    if (json == NULL || cJSON_IsNull(json))
        return CDP_OK;
    if (strcmp(type_of(json), "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "normalizers")) CDP_TRY(read_normalizer(t, name, step));
        return CDP_OK;
    }
    if (strcmp(type_of(json), "NFC") != 0)
        return unsupported(name, "normalizer", json, "NFC or Sequence");
    t->normalizes_nfc = true;
    return CDP_OK;
}

/* An id of the file: a whole number in range. */
static bool is_id(const cJSON *item) {
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < CDP_MAX_TOKEN_ID &&
           item->valuedouble == (double)(int32_t)item->valuedouble;
}

/* Largest id + 1 over vocabulary and added tokens, and how many texts there are. */
static cdp_status count_ids(const cJSON *vocab, const cJSON *added, const char *name, int *n_tokens,
                            size_t *n_texts) {
    const cJSON *item;
    char shown[96];
    *n_tokens = 0;
    *n_texts = 0;
    cJSON_ArrayForEach(item, vocab) {
        if (!is_id(item))
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: \"%s\" has no id from 0 to %d", name,
                            cdp_escape(shown, sizeof shown, item->string, strlen(item->string)),
                            CDP_MAX_TOKEN_ID - 1);
        *n_tokens = item->valueint >= *n_tokens ? item->valueint + 1 : *n_tokens;
        ++*n_texts;
    }
    cJSON_ArrayForEach(item, added) {
        const cJSON *id = cdp_json_get(item, "id"), *content = cdp_json_get(item, "content");
        if (!is_id(id) || !cJSON_IsString(content) || content->valuestring[0] == '\0')
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: added_tokens: entry %zu needs an id from 0 to %d and a content", name,
                            *n_texts, CDP_MAX_TOKEN_ID - 1);
        *n_tokens = id->valueint >= *n_tokens ? id->valueint + 1 : *n_tokens;
        ++*n_texts;
    }
    return CDP_OK;
}

static cdp_status read_vocab(cdp_tokenizer *t, const char *name, const cJSON *vocab) {
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) {
        if (t->vocabulary.tokens[item->valueint].is_there)
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: id %d is given twice", name, item->valueint);
        CDP_TRY(cdp_vocabulary_set(&t->vocabulary, item->valueint, item->string, strlen(item->string)));
    }
    return CDP_OK;
}

/* "a b" (older files) or ["a", "b"]. */
static bool merge_parts(const cJSON *item, const char **a, size_t *n_a, const char **b, size_t *n_b) {
    if (cJSON_IsArray(item)) {
        const cJSON *first = item->child, *second = first != NULL ? first->next : NULL;
        if (!cJSON_IsString(first) || !cJSON_IsString(second) || second->next != NULL)
            return false;
        *a = first->valuestring;
        *b = second->valuestring;
        *n_a = strlen(*a);
    } else {
        const char *blank = cJSON_IsString(item) ? strchr(item->valuestring, ' ') : NULL;
        if (blank == NULL || strchr(blank + 1, ' ') != NULL)
            return false;
        *a = item->valuestring;
        *n_a = (size_t)(blank - item->valuestring);
        *b = blank + 1;
    }
    *n_b = strlen(*b);
    return *n_a > 0 && *n_b > 0;
}

static cdp_status read_merges(cdp_tokenizer *t, const char *name, const cJSON *merges) {
    const cJSON *item;
    cdp_bytes joined = {0};
    int32_t rank = 0;
    cdp_status st = CDP_OK;
    cJSON_ArrayForEach(item, merges) {
        const char *a = NULL, *b = NULL;
        size_t n_a = 0, n_b = 0;
        if (!merge_parts(item, &a, &n_a, &b, &n_b)) {
            st = cdp_fail(CDP_BAD_MODEL, "%s: merge %d is no pair of texts", name, rank);
            break;
        }
        joined.n = 0;
        cdp_bytes_add(&joined, a, n_a);
        cdp_bytes_add(&joined, b, n_b);
        const int32_t left = cdp_vocabulary_find(&t->vocabulary, a, n_a),
                      right = cdp_vocabulary_find(&t->vocabulary, b, n_b);
        const int32_t product =
            joined.is_failed ? -1 : cdp_vocabulary_find(&t->vocabulary, joined.data, joined.n);
        if (left < 0 || right < 0 || product < 0) {
            char shown[96];
            st = cdp_fail(CDP_BAD_MODEL, "%s: merge %d: \"%s\" or a part of it is not in the vocabulary",
                          name, rank, cdp_escape(shown, sizeof shown, joined.data, joined.n));
            break;
        }
        cdp_bpe_add(&t->bpe, left, right, rank++, product);
    }
    free(joined.data);
    return st;
}

/* Keys that would change the ids in ways we do not follow. */
static cdp_status check_model(const char *name, const cJSON *model) {
    static const char *const empties[] = {"continuing_subword_prefix", "end_of_word_suffix", "unk_token"};
    if (cdp_json_get(model, "type") != NULL && strcmp(type_of(model), "BPE") != 0)
        return unsupported(name, "model", model, "BPE");
    for (size_t i = 0; i < sizeof empties / sizeof empties[0]; i++) {
        const cJSON *item = cdp_json_get(model, empties[i]);
        if (item != NULL && !cJSON_IsNull(item) && !(cJSON_IsString(item) && item->valuestring[0] == '\0'))
            return cdp_fail(CDP_BAD_MODEL, "%s: model: %s is not supported", name, empties[i]);
    }
    const cJSON *dropout = cdp_json_get(model, "dropout");
    if (dropout != NULL && !cJSON_IsNull(dropout) && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: dropout is not supported", name);
    if (cJSON_IsTrue(cdp_json_get(model, "byte_fallback")))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: byte_fallback is not supported", name);
    return CDP_OK;
}

static bool flag(const cJSON *json, const char *key) {
    return cJSON_IsTrue(cdp_json_get(json, key));
}

static cdp_status read_added(cdp_tokenizer *t, const cJSON *item) {
    const char *text = cdp_json_get(item, "content")->valuestring;
    const int32_t id = cdp_json_get(item, "id")->valueint;
    const bool is_normalized = flag(item, "normalized");
    const cdp_added_token token = {id, flag(item, "single_word"), flag(item, "lstrip"), flag(item, "rstrip")};
    cdp_bytes normal = {0};
    cdp_status st = CDP_OK;
    /* A token that matches the normalised text is itself normalised, also where it is printed. */
    if (is_normalized && t->normalizes_nfc)
        CDP_TRY(cdp_normalize_nfc(&normal, text, strlen(text)));
    else
        cdp_bytes_add(&normal, text, strlen(text));
    if (normal.is_failed)
        st = cdp_fail(CDP_SYSTEM, "no memory for the added tokens");
    if (st == CDP_OK)
        st = cdp_vocabulary_name(&t->vocabulary, id, normal.data, normal.n);
    if (st == CDP_OK)
        st = cdp_added_add(is_normalized ? &t->normalized : &t->raw, &token, normal.data, normal.n);
    t->vocabulary.tokens[id].is_special = flag(item, "special");
    free(normal.data);
    return st;
}

/* The ids that a template adds before and behind the text. */
static cdp_status read_template(cdp_tokenizer *t, const char *name, const cJSON *json) {
    const cJSON *item, *id;
    bool is_behind = false;
    cJSON_ArrayForEach(item, cdp_json_get(json, "single")) {
        const cJSON *special = cdp_json_get(item, "SpecialToken");
        if (special == NULL) {
            is_behind = true;
            continue;
        }
        const cJSON *key = cdp_json_get(special, "id");
        const cJSON *known =
            cJSON_IsString(key) ? cdp_json_get(cdp_json_get(json, "special_tokens"), key->valuestring) : NULL;
        if (known == NULL)
            return cdp_fail(CDP_BAD_MODEL, "%s: post_processor names a special token that it does not define",
                            name);
        cJSON_ArrayForEach(id, cdp_json_get(known, "ids")) {
            int *n = is_behind ? &t->n_after : &t->n_before;
            if (!is_id(id) || *n == CDP_MAX_EXTRA)
                return cdp_fail(CDP_BAD_MODEL,
                                "%s: post_processor: an id is out of range, or there are more than %d", name,
                                CDP_MAX_EXTRA);
            (is_behind ? t->after : t->before)[(*n)++] = id->valueint;
        }
    }
    return CDP_OK;
}

static cdp_status read_post_processor(cdp_tokenizer *t, const char *name, const cJSON *json) {
    const cJSON *step;
    if (json == NULL || cJSON_IsNull(json) || strcmp(type_of(json), "ByteLevel") == 0)
        return CDP_OK; /* ByteLevel here only trims offsets */
    if (strcmp(type_of(json), "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "processors"))
            CDP_TRY(read_post_processor(t, name, step));
        return CDP_OK;
    }
    if (strcmp(type_of(json), "TemplateProcessing") == 0)
        return read_template(t, name, json);
    return unsupported(name, "post_processor", json, "ByteLevel, TemplateProcessing or Sequence");
}

/* The bytes an id stands for: mapped back where every character is a byte's, else the text itself. */
static void add_bytes_of(cdp_tokenizer *t, int32_t id) {
    size_t n;
    const char *text = cdp_vocabulary_text(&t->vocabulary, id, &n);
    const size_t start = t->bytes.n;
    for (size_t i = 0; text != NULL && i < n;) {
        size_t length;
        uint32_t code;
        cdp_utf8_next((const unsigned char *)text + i, n - i, &length, &code);
        const int byte = cdp_char_byte(code);
        if (byte < 0) {
            t->bytes.n = start;
            cdp_bytes_add(&t->bytes, text, n);
            return;
        }
        cdp_bytes_add(&t->bytes, &(char){(char)byte}, 1);
        i += length;
    }
}

static cdp_status build_bytes(cdp_tokenizer *t) {
    const int n = t->vocabulary.n_tokens;
    t->byte_offsets = calloc((size_t)n + 1, sizeof *t->byte_offsets);
    for (int id = 0; t->byte_offsets != NULL && id < n; id++) {
        add_bytes_of(t, id);
        t->byte_offsets[id + 1] = t->bytes.n;
    }
    return t->byte_offsets == NULL || t->bytes.is_failed
               ? cdp_fail(CDP_SYSTEM, "no memory for the bytes of %d tokens", n)
               : CDP_OK;
}

static cdp_status check_decoder(const char *name, const cJSON *decoder) {
    if (decoder == NULL || strcmp(type_of(decoder), "ByteLevel") != 0)
        return unsupported(name, "decoder", decoder, "ByteLevel");
    return CDP_OK;
}

cdp_status cdp_tokenizer_fill(cdp_tokenizer *t, const char *name, const cJSON *root) {
    const cJSON *model = cdp_json_get(root, "model"), *vocab = cdp_json_get(model, "vocab");
    const cJSON *merges = cdp_json_get(model, "merges"), *added = cdp_json_get(root, "added_tokens"), *item;
    const cJSON *version = cdp_json_get(root, "version");
    int n_tokens;
    size_t n_texts;
    if (!cJSON_IsObject(root) || !cJSON_IsObject(vocab) || !cJSON_IsArray(merges))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected an object with model.vocab and model.merges", name);
    if (version != NULL && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0))
        return cdp_fail(CDP_BAD_MODEL, "%s: version is not \"1.0\"", name);
    CDP_TRY(check_model(name, model));
    CDP_TRY(check_decoder(name, cdp_json_get(root, "decoder")));
    CDP_TRY(read_normalizer(t, name, cdp_json_get(root, "normalizer")));
    CDP_TRY(cdp_pretokenizer_open(&t->pretokenizer, name, cdp_json_get(root, "pre_tokenizer")));
    if (!t->pretokenizer.is_byte_level)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: pre_tokenizer does not end in ByteLevel: only byte-level BPE is supported",
                        name);
    CDP_TRY(count_ids(vocab, added, name, &n_tokens, &n_texts));
    CDP_TRY(cdp_vocabulary_open(&t->vocabulary, n_tokens, n_texts));
    CDP_TRY(read_vocab(t, name, vocab));
    CDP_TRY(cdp_bpe_open(&t->bpe, &t->vocabulary, (size_t)cJSON_GetArraySize(merges)));
    t->bpe.ignores_merges = flag(model, "ignore_merges");
    CDP_TRY(read_merges(t, name, merges));
    CDP_TRY(cdp_added_open(&t->raw, cJSON_GetArraySize(added)));
    CDP_TRY(cdp_added_open(&t->normalized, cJSON_GetArraySize(added)));
    cJSON_ArrayForEach(item, added) CDP_TRY(read_added(t, item));
    CDP_TRY(read_post_processor(t, name, cdp_json_get(root, "post_processor")));
    return build_bytes(t);
}
