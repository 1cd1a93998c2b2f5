#include "launcher/text/model_file.h"

#include "launcher/text/utf8.h"
#include "planner/json.h"

static cdp_status unsupported(const char *name, const char *what, const cJSON *json, const char *expected) {
    char shown[64];
    const cJSON *type = cdp_json_get(json, "type");
    const char *word = cJSON_IsString(type) ? type->valuestring : "?";
    return cdp_fail(CDP_BAD_MODEL, "%s: %s %s is not supported, expected %s", name, what,
                    cdp_escape(shown, sizeof shown, word, strlen(word)), expected);
}

static bool has_type(const cJSON *json, const char *word) {
    const cJSON *type = cdp_json_get(json, "type");
    return cJSON_IsString(type) && strcmp(type->valuestring, word) == 0;
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
    int number = 0;
    *n_tokens = 0;
    *n_texts = 0;
    cJSON_ArrayForEach(item, vocab) {
        if (!is_id(item) || item->string[0] == '\0')
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: token \"%s\" is empty or has no id from 0 to %d", name,
                            cdp_escape(shown, sizeof shown, item->string, strlen(item->string)),
                            CDP_MAX_TOKEN_ID - 1);
        *n_tokens = item->valueint >= *n_tokens ? item->valueint + 1 : *n_tokens;
        ++*n_texts;
    }
    cJSON_ArrayForEach(item, added) {
        const cJSON *id = cdp_json_get(item, "id"), *content = cdp_json_get(item, "content");
        if (!is_id(id) || !cJSON_IsString(content) || content->valuestring[0] == '\0')
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: added_tokens: entry %d needs an id from 0 to %d and a content", name, number,
                            CDP_MAX_TOKEN_ID - 1);
        *n_tokens = id->valueint >= *n_tokens ? id->valueint + 1 : *n_tokens;
        ++*n_texts;
        number++;
    }
    return CDP_OK;
}

static cdp_status read_vocab(cdp_tokenizer *t, const char *name, const cJSON *vocab) {
    const cJSON *item;
    char shown[96];
    cJSON_ArrayForEach(item, vocab) {
        if (t->vocabulary.tokens[item->valueint].is_there)
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: id %d of \"%s\" has another token already", name,
                            item->valueint,
                            cdp_escape(shown, sizeof shown, item->string, strlen(item->string)));
        CDP_TRY(cdp_vocabulary_set(&t->vocabulary, item->valueint, item->string, strlen(item->string)));
    }
    return CDP_OK;
}

/* Every byte that UTF-8 can hold needs a token, or parts of a text would vanish. C0, C1 and F5 to FF never
 * occur. */
static cdp_status check_alphabet(const cdp_tokenizer *t, const char *name) {
    for (int byte = 0; byte < 0xF5; byte++)
        if (t->bpe.byte_ids[byte] < 0 && byte != 0xC0 && byte != 0xC1)
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: byte 0x%02X has no token", name, (unsigned)byte);
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

/* One merge; `joined` is room that is kept from one to the next. */
static cdp_status read_merge(cdp_tokenizer *t, const char *name, const cJSON *item, int32_t rank,
                             cdp_bytes *joined) {
    const char *a = NULL, *b = NULL;
    size_t n_a = 0, n_b = 0;
    char shown[96];
    if (!merge_parts(item, &a, &n_a, &b, &n_b))
        return cdp_fail(CDP_BAD_MODEL, "%s: merge %d is no pair of texts", name, rank);
    joined->n = 0;
    cdp_bytes_add(joined, a, n_a);
    cdp_bytes_add(joined, b, n_b);
    if (joined->is_failed)
        return cdp_fail(CDP_SYSTEM, "%s: no memory for merge %d", name, rank);
    const int32_t left = cdp_vocabulary_find(&t->vocabulary, a, n_a),
                  right = cdp_vocabulary_find(&t->vocabulary, b, n_b),
                  product = cdp_vocabulary_find(&t->vocabulary, joined->data, joined->n);
    if (left < 0 || right < 0 || product < 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: merge %d: \"%s\" or a part of it is not in the vocabulary", name,
                        rank, cdp_escape(shown, sizeof shown, joined->data, joined->n));
    cdp_bpe_add(&t->bpe, left, right, rank, product);
    return CDP_OK;
}

static cdp_status read_merges(cdp_tokenizer *t, const char *name, const cJSON *merges) {
    static const char version[] = "#version"; /* a line of merges.txt that got into some files */
    const cJSON *item;
    cdp_bytes joined = {0};
    int32_t rank = 0;
    cdp_status st = CDP_OK;
    cJSON_ArrayForEach(item, merges) {
        if (cJSON_IsString(item) && strncmp(item->valuestring, version, sizeof version - 1) == 0)
            continue;
        CDP_TRY_GOTO(read_merge(t, name, item, rank++, &joined), st, done);
    }
done:
    free(joined.data);
    return st;
}

static bool is_empty(const cJSON *item) {
    return item == NULL || cJSON_IsNull(item) || (cJSON_IsString(item) && item->valuestring[0] == '\0');
}

/* Keys that would change the ids in ways we do not follow. unk_token and fuse_unk never act: every byte has a
 * token. */
static cdp_status check_model(const char *name, const cJSON *model) {
    double dropout = 0;
    bool has_fallback = false;
    if (cdp_json_get(model, "type") != NULL && !has_type(model, "BPE"))
        return unsupported(name, "model", model, "BPE");
    if (!is_empty(cdp_json_get(model, "continuing_subword_prefix")))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: continuing_subword_prefix is not supported", name);
    if (!is_empty(cdp_json_get(model, "end_of_word_suffix")))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: end_of_word_suffix is not supported", name);
    CDP_TRY(cdp_json_double(model, name, "dropout", 0, 1, &dropout));
    if (dropout > 0)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: model: dropout is not supported: the same text has to give the "
                        "same ids",
                        name);
    CDP_TRY(cdp_json_bool(model, name, "byte_fallback", &has_fallback));
    return has_fallback ? cdp_fail(CDP_BAD_MODEL, "%s: model: byte_fallback is not supported", name) : CDP_OK;
}

static cdp_status check_unknown(const cdp_tokenizer *t, const char *name, const cJSON *unknown) {
    char shown[96];
    if (is_empty(unknown))
        return CDP_OK;
    const char *text = cJSON_IsString(unknown) ? unknown->valuestring : "?";
    if (cdp_vocabulary_find(&t->vocabulary, text, strlen(text)) >= 0)
        return CDP_OK;
    return cdp_fail(CDP_BAD_MODEL, "%s: model: unk_token \"%s\" is not in the vocabulary", name,
                    cdp_escape(shown, sizeof shown, text, strlen(text)));
}

static cdp_status read_model(cdp_tokenizer *t, const char *name, const cJSON *model) {
    const cJSON *merges = cdp_json_get(model, "merges");
    CDP_TRY(read_vocab(t, name, cdp_json_get(model, "vocab")));
    CDP_TRY(cdp_bpe_open(&t->bpe, &t->vocabulary, (size_t)cJSON_GetArraySize(merges)));
    CDP_TRY(cdp_json_bool(model, name, "ignore_merges", &t->bpe.ignores_merges));
    CDP_TRY(check_alphabet(t, name));
    CDP_TRY(check_unknown(t, name, cdp_json_get(model, "unk_token")));
    return read_merges(t, name, merges);
}

/* An added token and the vocabulary agree about id and text. */
static cdp_status check_added(const cdp_tokenizer *t, const char *name, const char *text, int32_t id) {
    size_t n;
    char shown[96];
    const size_t n_text = strlen(text);
    const char *there = cdp_vocabulary_text(&t->vocabulary, id, &n);
    const int32_t found = cdp_vocabulary_find(&t->vocabulary, text, n_text);
    if ((found < 0 || found == id) && (there == NULL || (n == n_text && memcmp(there, text, n) == 0)))
        return CDP_OK;
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: added_tokens: \"%s\" with id %d: the id has another text, or the text "
                    "another id",
                    name, cdp_escape(shown, sizeof shown, text, n_text), id);
}

static cdp_status given_twice(const char *name, const char *text, size_t n) {
    char shown[96];
    return cdp_fail(CDP_BAD_MODEL, "%s: added_tokens: \"%s\" is given twice", name,
                    cdp_escape(shown, sizeof shown, text, n));
}

/* Enter an added token: as the file writes it, and as it is found in a text. */
static cdp_status set_added(cdp_tokenizer *t, const char *name, const cdp_added_token *token,
                            bool is_normalized, cdp_text written, cdp_text found) {
    if (found.n == 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: added_tokens: the normalizer leaves nothing of id %d", name,
                        token->id);
    if (cdp_added_find(&t->raw, found.data, found.n) != NULL ||
        cdp_added_find(&t->normalized, found.data, found.n) != NULL)
        return given_twice(name, found.data, found.n);
    CDP_TRY(cdp_vocabulary_name(&t->vocabulary, token->id, found.data, found.n));
    CDP_TRY(cdp_added_add(is_normalized ? &t->normalized : &t->raw, token, found.data, found.n));
    /* The reference asks for special tokens by their text as written: where normalising changes it, decoding
     * shows the token. */
    t->vocabulary.tokens[token->id].is_special =
        token->is_special && found.n == written.n && memcmp(found.data, written.data, written.n) == 0;
    return CDP_OK;
}

static cdp_status read_added(cdp_tokenizer *t, const char *name, const cJSON *item) {
    const char *text = cdp_json_get(item, "content")->valuestring;
    cdp_added_token token = {.id = cdp_json_get(item, "id")->valueint};
    bool is_normalized = false;
    cdp_normal_text normal = {0};
    cdp_status st = CDP_OK;
    CDP_TRY(cdp_json_bool(item, name, "single_word", &token.single_word));
    CDP_TRY(cdp_json_bool(item, name, "lstrip", &token.lstrip));
    CDP_TRY(cdp_json_bool(item, name, "rstrip", &token.rstrip));
    CDP_TRY(cdp_json_bool(item, name, "normalized", &is_normalized));
    CDP_TRY(cdp_json_bool(item, name, "special", &token.is_special));
    CDP_TRY(check_added(t, name, text, token.id));
    /* A token that matches the normalised text is itself normalised, also where it is printed. */
    const cdp_normalizer nothing = {0};
    const cdp_text written = {.data = text, .n = strlen(text), .is_beginning = true};
    CDP_TRY_GOTO(cdp_normalizer_run(is_normalized ? &t->normalizer : &nothing, written, &normal), st, done);
    CDP_TRY_GOTO(set_added(t, name, &token, is_normalized, written, normal.text), st, done);
done:
    cdp_normal_text_free(&normal);
    return st;
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

/* What can be said of the file before anything is built. */
static cdp_status check_file(const char *name, const cJSON *root) {
    const cJSON *version = cdp_json_get(root, "version"), *model = cdp_json_get(root, "model");
    const cJSON *decoder = cdp_json_get(root, "decoder"), *added = cdp_json_get(root, "added_tokens");
    if (!cJSON_IsObject(root) || !cJSON_IsObject(model))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected an object that holds a model", name);
    if (version != NULL && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0))
        return cdp_fail(CDP_BAD_MODEL, "%s: version is not \"1.0\"", name);
    CDP_TRY(check_model(name, model));
    if (!cJSON_IsObject(cdp_json_get(model, "vocab")) || !cJSON_IsArray(cdp_json_get(model, "merges")))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: expected vocab, an object, and merges, an array", name);
    if (added != NULL && !cJSON_IsNull(added) && !cJSON_IsArray(added))
        return cdp_fail(CDP_BAD_MODEL, "%s: added_tokens is not an array", name);
    return has_type(decoder, "ByteLevel") ? CDP_OK : unsupported(name, "decoder", decoder, "ByteLevel");
}

cdp_status cdp_tokenizer_fill(cdp_tokenizer *t, const char *name, const cJSON *root) {
    const cJSON *model = cdp_json_get(root, "model"), *added = cdp_json_get(root, "added_tokens"), *item;
    const int n_added = cJSON_IsArray(added) ? cJSON_GetArraySize(added) : 0;
    int n_tokens;
    size_t n_texts;
    CDP_TRY(check_file(name, root));
    CDP_TRY(cdp_normalizer_open(&t->normalizer, name, cdp_json_get(root, "normalizer")));
    CDP_TRY(cdp_pretokenizer_open(&t->pretokenizer, name, cdp_json_get(root, "pre_tokenizer")));
    if (!t->pretokenizer.is_byte_level)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s: pre_tokenizer does not end in ByteLevel: only byte-level BPE is supported",
                        name);
    CDP_TRY(count_ids(cdp_json_get(model, "vocab"), added, name, &n_tokens, &n_texts));
    CDP_TRY(cdp_vocabulary_open(&t->vocabulary, n_tokens, n_texts));
    CDP_TRY(read_model(t, name, model));
    CDP_TRY(cdp_added_open(&t->raw, n_added));
    CDP_TRY(cdp_added_open(&t->normalized, n_added));
    cJSON_ArrayForEach(item, added) CDP_TRY(read_added(t, name, item));
    CDP_TRY(cdp_template_open(&t->extra, name, cdp_json_get(root, "post_processor"), &t->vocabulary));
    return build_bytes(t);
}
