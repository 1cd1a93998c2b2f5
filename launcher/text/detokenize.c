#include "launcher/text/model_file.h"
#include "launcher/text/utf8.h"

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
    cdp_utf8_add_valid(&text, raw.data, raw.n);
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
    cdp_utf8_add_valid(&text, raw.data, whole);
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
    cdp_utf8_add_valid(&text, (const char *)stream->held, stream->n_held);
    stream->n_held = 0;
    *text_out = text.data;
    *n_out = text.n;
    return text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the end of a text") : CDP_OK;
}
