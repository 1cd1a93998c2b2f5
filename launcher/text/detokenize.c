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

void cdp_detokenizer_start(cdp_detokenizer *stream, const cdp_tokenizer *tokenizer, bool skip_special) {
    *stream = (cdp_detokenizer){
        .tokenizer = tokenizer, .skip_special = skip_special, .n_strips = tokenizer->decoder.n_strips};
}

void cdp_detokenizer_read_on(cdp_detokenizer *stream) {
    stream->is_begun = true;
    stream->n_strips = 0;
}

/* An unknown id stands for nothing, nor does a special one that is skipped. */
static bool is_shown(const cdp_detokenizer *stream, int32_t id) {
    const cdp_vocabulary *v = &stream->tokenizer->vocabulary;
    return id >= 0 && id < v->n_tokens && v->tokens[id].is_there &&
           !(stream->skip_special && v->tokens[id].is_special);
}

/* Append what an id stands for; the first of all may stand for less than it does elsewhere. */
static void add_token(cdp_detokenizer *stream, int32_t id, cdp_bytes *out) {
    const cdp_tokenizer *t = stream->tokenizer;
    size_t n;
    if (!stream->is_begun && t->decoder.drops_first) {
        const char *text = cdp_vocabulary_text(&t->vocabulary, id, &n);
        cdp_decoder_add(&t->decoder, text, n, true, out);
    } else {
        const char *bytes = cdp_tokenizer_bytes(t, id, &n);
        cdp_bytes_add(out, bytes, n);
    }
    stream->is_begun = true;
}

/* Take back what is stripped at the beginning of a text. */
static void strip(cdp_detokenizer *stream, cdp_bytes *out) {
    const cdp_bytes *sign = &stream->tokenizer->decoder.strip;
    size_t n = 0;
    for (; stream->n_strips > 0 && out->n - n >= sign->n && memcmp(out->data + n, sign->data, sign->n) == 0;
         stream->n_strips--)
        n += sign->n;
    if (out->n > n)
        stream->n_strips = 0; /* the text has begun */
    if (n > 0) {
        memmove(out->data, out->data + n, out->n - n);
        out->n -= n;
        out->data[out->n] = '\0';
    }
}

/* One U+FFFD for each of n bytes. */
static void add_bad(cdp_bytes *out, size_t n) {
    for (; n > 0; n--)
        cdp_bytes_add(out, "\xEF\xBF\xBD", 3);
}

static bool is_valid(const cdp_bytes *text) {
    size_t length;
    uint32_t code;
    for (size_t at = 0; at < text->n; at += length)
        if (cdp_utf8_next((const unsigned char *)text->data + at, text->n - at, &length, &code) !=
            CDP_UTF8_WHOLE)
            return false;
    return true;
}

/* A run of <0xNN> has come to its end: characters, or each of its bytes a U+FFFD. */
static void end_run(cdp_bytes *run, cdp_bytes *out) {
    if (is_valid(run))
        cdp_bytes_add(out, run->data, run->n);
    else
        add_bad(out, run->n);
    run->n = 0;
}

/* All tokens: the bytes of a byte-level vocabulary, else text. */
static void add_all(cdp_detokenizer *stream, const int32_t *ids, size_t n_ids, cdp_bytes *out) {
    cdp_bytes run = {0};
    for (size_t i = 0; i < n_ids; i++) {
        if (!is_shown(stream, ids[i]))
            continue;
        const bool is_byte = stream->tokenizer->vocabulary.tokens[ids[i]].is_byte;
        if (!is_byte)
            end_run(&run, out);
        add_token(stream, ids[i], is_byte ? &run : out);
    }
    end_run(&run, out);
    out->is_failed |= run.is_failed;
    free(run.data);
}

cdp_status cdp_tokenizer_decode(const cdp_tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special,
                                char **text_out, size_t *n_out) {
    cdp_detokenizer stream;
    cdp_bytes raw = {0}, text = {0};
    cdp_detokenizer_start(&stream, t, skip_special);
    cdp_bytes_add(&raw, "", 0);
    add_all(&stream, ids, n_ids, &raw);
    strip(&stream, &raw);
    cdp_bytes_add(&text, "", 0);
    cdp_utf8_add_valid(&text, raw.data, raw.n);
    free(raw.data);
    *text_out = text.data;
    *n_out = text.n;
    return raw.is_failed || text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory to decode %zu ids", n_ids)
                                           : CDP_OK;
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

/* Byte level: held and new bytes together, up to a character that is not finished. */
static void push_bytes(cdp_detokenizer *stream, int32_t id, cdp_bytes *out) {
    cdp_bytes raw = {0};
    cdp_bytes_add(&raw, stream->held, stream->n_held);
    add_token(stream, id, &raw);
    const size_t whole = raw.is_failed ? 0 : raw.n - n_unfinished((unsigned char *)raw.data, raw.n);
    cdp_utf8_add_valid(out, raw.data, whole);
    if (!raw.is_failed) {
        stream->n_held = raw.n - whole;
        memcpy(stream->held, raw.data + whole, stream->n_held);
    }
    out->is_failed |= raw.is_failed;
    free(raw.data);
}

/* <0xNN>: what is held and can become a character waits. */
static void push_byte(cdp_detokenizer *stream, char byte, cdp_bytes *out) {
    stream->held[stream->n_held++] = (unsigned char)byte;
    while (stream->n_held > 0 && n_unfinished(stream->held, stream->n_held) != stream->n_held) {
        size_t length;
        uint32_t code;
        if (cdp_utf8_next(stream->held, stream->n_held, &length, &code) == CDP_UTF8_WHOLE)
            cdp_bytes_add(out, stream->held, length);
        else
            add_bad(out, length = 1);
        stream->n_held -= length;
        memmove(stream->held, stream->held + length, stream->n_held);
    }
}

cdp_status cdp_detokenizer_push(cdp_detokenizer *stream, int32_t id, char **text_out, size_t *n_out) {
    const cdp_tokenizer *t = stream->tokenizer;
    cdp_bytes text = {0};
    *text_out = NULL;
    *n_out = 0;
    if (!is_shown(stream, id))
        return CDP_OK;
    if (t->decoder.is_byte_level) {
        push_bytes(stream, id, &text);
    } else if (t->vocabulary.tokens[id].is_byte) {
        push_byte(stream, t->bytes.data[t->byte_offsets[id]], &text);
    } else {
        add_bad(&text, stream->n_held);
        stream->n_held = 0;
        add_token(stream, id, &text);
    }
    strip(stream, &text);
    *text_out = text.data;
    *n_out = text.n;
    return text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the text of a token") : CDP_OK;
}

cdp_status cdp_detokenizer_flush(cdp_detokenizer *stream, char **text_out, size_t *n_out) {
    cdp_bytes text = {0};
    if (stream->tokenizer->decoder.is_byte_level)
        cdp_utf8_add_valid(&text, (const char *)stream->held, stream->n_held);
    else
        add_bad(&text, stream->n_held);
    stream->n_held = 0;
    *text_out = text.data;
    *n_out = text.n;
    return text.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the end of a text") : CDP_OK;
}
