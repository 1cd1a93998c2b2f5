#include "launcher/text/tokenizer.h"

#include "launcher/text/model_file.h"
#include "launcher/text/utf8.h"
#include "planner/file.h"
#include "planner/json.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

cdp_status cdp_tokenizer_open(cdp_tokenizer **out, const char *dir) {
    char path[4200];
    cJSON *root = NULL;
    *out = NULL;
    if (!cdp_file_join(path, sizeof path, dir, "tokenizer.json"))
        return cdp_fail(CDP_NO_INPUT, "the path of tokenizer.json is longer than %zu bytes", sizeof path);
    CDP_TRY(cdp_json_read(&root, path, &cdp_json_tokenizer_limits));
    cdp_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    cdp_status st = tokenizer == NULL ? cdp_fail(CDP_SYSTEM, "no memory for the tokenizer")
                                      : cdp_tokenizer_fill(tokenizer, path, root);
    cJSON_Delete(root);
    if (st != CDP_OK)
        cdp_tokenizer_close(tokenizer);
    else
        *out = tokenizer;
    return st;
}

void cdp_tokenizer_close(cdp_tokenizer *t) {
    if (t == NULL)
        return;
    cdp_pretokenizer_close(&t->pretokenizer);
    cdp_added_close(&t->raw);
    cdp_added_close(&t->normalized);
    cdp_bpe_close(&t->bpe);
    cdp_vocabulary_close(&t->vocabulary);
    free(t->bytes.data);
    free(t->byte_offsets);
    free(t);
}

int cdp_tokenizer_size(const cdp_tokenizer *t) {
    return t->vocabulary.n_tokens;
}

/* Replace what is no UTF-8, one U+FFFD a maximal subpart. */
static void make_valid(cdp_bytes *out, const char *text, size_t n) {
    for (size_t at = 0; at < n;) {
        size_t length;
        uint32_t code;
        const cdp_utf8_kind kind = cdp_utf8_next((const unsigned char *)text + at, n - at, &length, &code);
        if (kind == CDP_UTF8_WHOLE)
            cdp_bytes_add(out, text + at, length);
        else
            cdp_bytes_add(out, replacement, 3);
        at += length;
    }
}

/* A stretch without added tokens: pieces, then merges. */
static cdp_status encode_plain(const cdp_tokenizer *t, const char *text, size_t n, cdp_ids *ids) {
    cdp_spans pieces = {0};
    cdp_bytes spaced = {0};
    if (n == 0)
        return CDP_OK;
    if (t->pretokenizer.adds_space && text[0] != ' ') {
        cdp_bytes_add(&spaced, " ", 1);
        cdp_bytes_add(&spaced, text, n);
        if (spaced.is_failed)
            return cdp_fail(CDP_SYSTEM, "no memory to tokenize %zu bytes", n);
        text = spaced.data;
        n = spaced.n;
    }
    cdp_status st = cdp_pretokenizer_split(&t->pretokenizer, text, n, &pieces);
    for (size_t i = 0; st == CDP_OK && i < pieces.n; i++)
        st = cdp_bpe_encode(&t->bpe, text + pieces.data[i].begin, pieces.data[i].end - pieces.data[i].begin,
                            ids);
    free(pieces.data);
    free(spaced.data);
    return st;
}

typedef cdp_status (*encode_stretch)(const cdp_tokenizer *t, const char *text, size_t n, cdp_ids *ids);

/* Cut the set's tokens out of the text; `rest` takes what lies between them. */
static cdp_status cut_added(const cdp_tokenizer *t, const cdp_added_set *set, encode_stretch rest,
                            const char *text, size_t n, cdp_ids *ids) {
    size_t at = 0;
    cdp_span place;
    const cdp_added_token *token;
    while ((token = cdp_added_next(set, text, n, at, &place)) != NULL) {
        CDP_TRY(rest(t, text + at, place.begin - at, ids));
        cdp_ids_add(ids, token->id);
        at = place.end;
    }
    return rest(t, text + at, n - at, ids);
}

/* Normalise, then cut the tokens that match the normalised text. */
static cdp_status encode_normalized(const cdp_tokenizer *t, const char *text, size_t n, cdp_ids *ids) {
    if (n == 0)
        return CDP_OK;
    if (!t->normalizes_nfc)
        return cut_added(t, &t->normalized, encode_plain, text, n, ids);
    cdp_bytes normal = {0};
    cdp_status st = cdp_normalize_nfc(&normal, text, n);
    if (st == CDP_OK && normal.is_failed)
        st = cdp_fail(CDP_SYSTEM, "no memory to normalise %zu bytes", n);
    if (st == CDP_OK)
        st = cut_added(t, &t->normalized, encode_plain, normal.data, normal.n, ids);
    free(normal.data);
    return st;
}

cdp_status cdp_tokenizer_encode(const cdp_tokenizer *t, const char *text, size_t n, bool with_special,
                                int32_t **ids_out, size_t *n_ids_out) {
    cdp_bytes valid = {0};
    cdp_ids ids = {0};
    *ids_out = NULL;
    *n_ids_out = 0;
    for (int i = 0; with_special && i < t->n_before; i++)
        cdp_ids_add(&ids, t->before[i]);
    cdp_bytes_add(&valid, "", 0);
    make_valid(&valid, text, n);
    cdp_status st = valid.is_failed ? cdp_fail(CDP_SYSTEM, "no memory to tokenize %zu bytes", n)
                                    : cut_added(t, &t->raw, encode_normalized, valid.data, valid.n, &ids);
    for (int i = 0; with_special && i < t->n_after; i++)
        cdp_ids_add(&ids, t->after[i]);
    free(valid.data);
    if (st == CDP_OK && ids.is_failed)
        st = cdp_fail(CDP_SYSTEM, "no memory for the ids of %zu bytes", n);
    if (st != CDP_OK) {
        free(ids.data);
        return st;
    }
    *ids_out = ids.data;
    *n_ids_out = ids.n;
    return CDP_OK;
}

const char *cdp_tokenizer_bytes(const cdp_tokenizer *t, int32_t id, size_t *n_out) {
    *n_out = 0;
    if (id < 0 || id >= t->vocabulary.n_tokens || !t->vocabulary.tokens[id].is_there)
        return NULL;
    *n_out = t->byte_offsets[id + 1] - t->byte_offsets[id];
    return t->bytes.data + t->byte_offsets[id];
}

bool cdp_tokenizer_is_special(const cdp_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocabulary.n_tokens && t->vocabulary.tokens[id].is_special;
}

cdp_status cdp_tokenizer_decode(const cdp_tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special,
                                char **text_out, size_t *n_out) {
    cdp_bytes raw = {0}, text = {0};
    for (size_t i = 0; i < n_ids; i++) {
        size_t n;
        const char *bytes = cdp_tokenizer_bytes(t, ids[i], &n);
        if (bytes != NULL && !(skip_special && cdp_tokenizer_is_special(t, ids[i])))
            cdp_bytes_add(&raw, bytes, n);
    }
    cdp_bytes_add(&text, "", 0);
    make_valid(&text, raw.data, raw.n);
    free(raw.data);
    *text_out = text.data;
    *n_out = text.n;
    return raw.is_failed || text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory to decode %zu ids", n_ids)
                                           : CDP_OK;
}

void cdp_detokenizer_start(cdp_detokenizer *stream, const cdp_tokenizer *tokenizer, bool skip_special) {
    *stream = (cdp_detokenizer){.tokenizer = tokenizer, .skip_special = skip_special};
}

/* Bytes at the end that a first byte has announced but that are not all here, at most 3. Whether they make a
 * character is judged when they are; a surrogate (ED A0..BF) waits for its third byte, as the reference has
 * it. */
static size_t n_unfinished(const unsigned char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char c = s[n - back];
        if ((c & 0xC0) == 0x80)
            continue;
        const size_t want = c < 0xC2 || c > 0xF4 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
        const unsigned char second = back > 1 ? s[n - back + 1] : 0x80;
        const bool is_hopeless = back > 1 && ((c == 0xE0 && second < 0xA0) || (c == 0xF0 && second < 0x90) ||
                                              (c == 0xF4 && second > 0x8F));
        return want > back && !is_hopeless ? back : 0;
    }
    return 0;
}

cdp_status cdp_detokenizer_push(cdp_detokenizer *stream, int32_t id, char **text_out, size_t *n_out) {
    size_t n;
    const char *bytes = cdp_tokenizer_bytes(stream->tokenizer, id, &n);
    *text_out = NULL;
    *n_out = 0;
    if (bytes == NULL || (stream->skip_special && cdp_tokenizer_is_special(stream->tokenizer, id)))
        return CDP_OK;
    cdp_bytes raw = {0}, text = {0};
    cdp_bytes_add(&raw, stream->held, stream->n_held);
    cdp_bytes_add(&raw, bytes, n);
    const size_t whole = raw.is_failed ? 0 : raw.n - n_unfinished((unsigned char *)raw.data, raw.n);
    make_valid(&text, raw.data, whole);
    stream->n_held = raw.n - whole;
    memcpy(stream->held, raw.data + whole, stream->n_held);
    free(raw.data);
    *text_out = text.data;
    *n_out = text.n;
    return raw.is_failed || text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the text of a token")
                                           : CDP_OK;
}

cdp_status cdp_detokenizer_flush(cdp_detokenizer *stream, char **text_out, size_t *n_out) {
    cdp_bytes text = {0};
    make_valid(&text, (const char *)stream->held, stream->n_held);
    stream->n_held = 0;
    *text_out = text.data;
    *n_out = text.n;
    return text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the end of a text") : CDP_OK;
}
