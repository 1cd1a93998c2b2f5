#include "launcher/text/model_file.h"
#include "kernels/log.h"

#include "launcher/text/added_file.h"
#include "launcher/text/vocab_file.h"
#include "planner/json.h"

/* Room for ids that no token has: a file of a few bytes must not ask for tables of 2^24 entries. */
enum { MAX_HOLES = 1 << 20 };

static bool is_empty(const cJSON *item) {
    return item == NULL || cJSON_IsNull(item) || (cJSON_IsString(item) && item->valuestring[0] == '\0');
}

static cdp_status check_type(const char *name, const cJSON *model) {
    const cJSON *type = cdp_json_get(model, "type");
    char shown[64];
    const char *word = cJSON_IsString(type) ? type->valuestring : "?";
    if (type == NULL || strcmp(word, "BPE") == 0)
        return CDP_OK;
    return cdp_fail(CDP_BAD_MODEL, "%s: model %s is not supported, expected BPE", name,
                    cdp_escape(shown, sizeof shown, word, strlen(word)));
}

/* Keys that would change the ids in ways we do not follow. */
static cdp_status check_model(const char *name, const cJSON *model) {
    double dropout = 0;
    CDP_TRY(check_type(name, model));
    if (!is_empty(cdp_json_get(model, "continuing_subword_prefix")))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: continuing_subword_prefix is not supported", name);
    if (!is_empty(cdp_json_get(model, "end_of_word_suffix")))
        return cdp_fail(CDP_BAD_MODEL, "%s: model: end_of_word_suffix is not supported", name);
    CDP_TRY(cdp_json_double(model, name, "dropout", 0, 1, &dropout));
    return dropout == 0
               ? CDP_OK
               : cdp_fail(CDP_BAD_MODEL,
                          "%s: model: dropout is not supported: the same text has to give the same ids",
                          name);
}

/* What can be said of the file before anything is built. */
static cdp_status check_file(const char *name, const cJSON *root, const cdp_big_values *big) {
    const cJSON *version = cdp_json_get(root, "version"), *model = cdp_json_get(root, "model");
    const cJSON *added = cdp_json_get(root, "added_tokens");
    if (!cJSON_IsObject(root) || !cJSON_IsObject(model))
        return cdp_fail(CDP_BAD_MODEL, "%s: expected an object that holds a model", name);
    if (version != NULL && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0))
        return cdp_fail(CDP_BAD_MODEL, "%s: version is not \"1.0\"", name);
    CDP_TRY(check_model(name, model));
    if (big->vocab.end == 0 || big->merges.end == 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: model: expected vocab, an object, and merges, an array", name);
    if (added != NULL && !cJSON_IsNull(added) && !cJSON_IsArray(added))
        return cdp_fail(CDP_BAD_MODEL, "%s: added_tokens is not an array", name);
    return CDP_OK;
}

/* The bytes that every text is made of: line feed, printable ASCII, continuation bytes. */
static bool is_common(int byte) {
    return byte == '\n' || (byte >= ' ' && byte <= '~') || (byte >= 0x80 && byte <= 0xBF);
}

/* A byte without a token vanishes from texts, as in the reference. Real vocabularies (SmolLM2) lack some
 * control characters and lead bytes of unused planes; one without a common byte is broken. C0, C1 and F5 to
 * FF are in no UTF-8. */
static cdp_status check_alphabet(const cdp_bpe *bpe, const char *name) {
    int n_missing = 0, first = 0;
    for (int byte = 0xF4; byte >= 0; byte--) {
        if (bpe->byte_ids[byte] >= 0 || byte == 0xC0 || byte == 0xC1)
            continue;
        if (is_common(byte))
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: byte 0x%02X has no token", name, (unsigned)byte);
        n_missing++;
        first = byte;
    }
    if (n_missing > 0)
        cdp_note("%s: vocab: %d rare bytes have no token (0x%02X is the first): they are left out of texts",
                 name, n_missing, (unsigned)first);
    return CDP_OK;
}

/* Where <0xNN> stands for a byte, nothing may look like it and be none. */
static cdp_status check_fallback(const cdp_vocabulary *vocabulary, const char *name) {
    char shown[32];
    for (int32_t id = 0; id < vocabulary->n_tokens; id++) {
        size_t n;
        const char *text = cdp_vocabulary_text(vocabulary, id, &n);
        if (text == NULL || n < 4 || n > 6 || memcmp(text, "<0x", 3) != 0 || text[n - 1] != '>')
            continue;
        if (n != 6 || strspn(text + 3, "0123456789ABCDEFabcdef") != 2)
            return cdp_fail(CDP_BAD_MODEL, "%s: vocab: \"%s\" is no byte, expected two hex digits", name,
                            cdp_escape(shown, sizeof shown, text, n));
    }
    return CDP_OK;
}

static cdp_status read_unknown(cdp_bpe *bpe, const char *name, const cJSON *unknown) {
    char shown[96];
    if (is_empty(unknown))
        return CDP_OK;
    const char *text = cJSON_IsString(unknown) ? unknown->valuestring : "?";
    bpe->unknown_id = cdp_vocabulary_find(bpe->vocabulary, text, strlen(text));
    return bpe->unknown_id >= 0
               ? CDP_OK
               : cdp_fail(CDP_BAD_MODEL, "%s: model: unk_token \"%s\" is not in the vocabulary", name,
                          cdp_escape(shown, sizeof shown, text, strlen(text)));
}

static cdp_status read_model(cdp_tokenizer *t, const char *name, const cJSON *model, const char *text,
                             const cdp_big_values *big) {
    CDP_TRY(cdp_vocab_file_read(&t->vocabulary, name, text, big->vocab));
    CDP_TRY(cdp_bpe_open(&t->bpe, &t->vocabulary, t->pretokenizer.is_byte_level));
    CDP_TRY(cdp_json_bool(model, name, "ignore_merges", &t->bpe.ignores_merges));
    CDP_TRY(cdp_json_bool(model, name, "fuse_unk", &t->bpe.fuses_unknown));
    CDP_TRY(cdp_json_bool(model, name, "byte_fallback", &t->bpe.falls_back));
    if (t->bpe.is_byte_level)
        CDP_TRY(check_alphabet(&t->bpe, name));
    if (t->bpe.falls_back)
        CDP_TRY(check_fallback(&t->vocabulary, name));
    CDP_TRY(read_unknown(&t->bpe, name, cdp_json_get(model, "unk_token")));
    return cdp_merges_file_read(&t->bpe, name, text, big->merges);
}

/* Tables for all ids, of the model and of added tokens. */
static cdp_status open_vocabulary(cdp_tokenizer *t, const char *name, const char *text, cdp_span vocab,
                                  const cJSON *added) {
    size_t n_texts, n_added = 0;
    int n_tokens;
    CDP_TRY(cdp_vocab_file_count(name, text, vocab, &n_texts, &n_tokens));
    CDP_TRY(cdp_added_file_count(name, added, &n_added, &n_tokens));
    if ((size_t)n_tokens > n_texts + n_added + MAX_HOLES)
        return cdp_fail(CDP_BAD_MODEL, "%s: an id of %d, but only %zu tokens", name, n_tokens - 1,
                        n_texts + n_added);
    CDP_TRY(cdp_added_open(&t->raw, (int)n_added));
    CDP_TRY(cdp_added_open(&t->normalized, (int)n_added));
    return cdp_vocabulary_open(&t->vocabulary, n_tokens, n_texts);
}

static cdp_status build_bytes(cdp_tokenizer *t, const char *name) {
    const int n_tokens = t->vocabulary.n_tokens;
    t->byte_offsets = calloc((size_t)n_tokens + 1, sizeof *t->byte_offsets);
    for (int id = 0; t->byte_offsets != NULL && id < n_tokens; id++) {
        size_t n;
        const char *text = cdp_vocabulary_text(&t->vocabulary, id, &n);
        if (text != NULL)
            t->vocabulary.tokens[id].is_byte = cdp_decoder_add(&t->decoder, text, n, false, &t->bytes);
        if (t->bytes.n > UINT32_MAX)
            return cdp_fail(CDP_BAD_MODEL, "%s: tokens of more than 4 GiB", name);
        t->byte_offsets[id + 1] = (uint32_t)t->bytes.n;
    }
    cdp_bytes_trim(&t->bytes);
    cdp_bytes_trim(&t->vocabulary.arena);
    return t->byte_offsets == NULL || t->bytes.is_failed
               ? cdp_fail(CDP_SYSTEM, "%s: no memory for the bytes of %d tokens", name, n_tokens)
               : CDP_OK;
}

static cdp_status fill(cdp_tokenizer *t, const char *name, const char *text, const cJSON *root,
                       const cdp_big_values *big) {
    const cJSON *added = cdp_json_get(root, "added_tokens"), *item;
    CDP_TRY(check_file(name, root, big));
    CDP_TRY(cdp_normalizer_open(&t->normalizer, name, cdp_json_get(root, "normalizer")));
    CDP_TRY(cdp_pretokenizer_open(&t->pretokenizer, name, cdp_json_get(root, "pre_tokenizer")));
    CDP_TRY(cdp_decoder_open(&t->decoder, name, cdp_json_get(root, "decoder")));
    CDP_TRY(open_vocabulary(t, name, text, big->vocab, added));
    CDP_TRY(read_model(t, name, cdp_json_get(root, "model"), text, big));
    cJSON_ArrayForEach(item, added) CDP_TRY(cdp_added_file_read(t, name, item));
    CDP_TRY(cdp_template_open(&t->extra, name, cdp_json_get(root, "post_processor"), &t->vocabulary));
    return build_bytes(t, name);
}

/* Append text[begin, end) without the inside of the two big values: nothing is left of it, or white space. */
static void add_rest(cdp_bytes *out, const char *text, size_t n, const cdp_big_values *big, bool as_blanks) {
    const bool vocab_first = big->vocab.begin < big->merges.begin;
    const cdp_span spans[] = {vocab_first ? big->vocab : big->merges, vocab_first ? big->merges : big->vocab};
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        if (spans[i].end == 0)
            continue;
        cdp_bytes_add(out, text + at, spans[i].begin + 1 - at);
        at = as_blanks ? spans[i].begin + 1 : spans[i].end - 1;
    }
    cdp_bytes_add(out, text + at, n - at);
    for (int i = 0; as_blanks && !out->is_failed && i < 2; i++)
        if (spans[i].end > 0)
            memset(out->data + spans[i].begin + 1, ' ', spans[i].end - spans[i].begin - 2);
}

static cdp_status parse_rest(cJSON **out, const char *name, const char *text, size_t n,
                             const cdp_big_values *big, bool as_blanks) {
    cdp_bytes rest = {0};
    add_rest(&rest, text, n, big, as_blanks);
    const cdp_status st = rest.is_failed
                              ? cdp_fail(CDP_SYSTEM, "%s: no memory for %zu bytes of JSON", name, n)
                              : cdp_json_parse(out, name, rest.data, rest.n, &cdp_json_tokenizer_limits);
    free(rest.data);
    return st;
}

cdp_status cdp_tokenizer_fill(cdp_tokenizer *t, const char *name, const char *text, size_t n) {
    const cdp_big_values big = cdp_vocab_file_find(text, n);
    cJSON *root = NULL;
    if (parse_rest(&root, name, text, n, &big, false) != CDP_OK) {
        cdp_error_clear(); /* once more, so that the message counts the bytes of the file */
        CDP_TRY(parse_rest(&root, name, text, n, &big, true));
    }
    const cdp_status st = fill(t, name, text, root, &big);
    cJSON_Delete(root);
    return st;
}
