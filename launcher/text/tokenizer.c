#include "launcher/text/tokenizer.h"

#include "launcher/text/model_file.h"
#include "launcher/text/utf8.h"
#include "planner/file.h"
#include "planner/json.h"

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
    cdp_normalizer_close(&t->normalizer);
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

/* A stretch without added tokens: pieces, then merges. */
static cdp_status encode_plain(const cdp_tokenizer *t, cdp_text text, cdp_ids *ids) {
    cdp_pieces pieces;
    cdp_status st = cdp_pretokenizer_split(&t->pretokenizer, text, &pieces);
    for (size_t i = 0; st == CDP_OK && i < pieces.spans.n; i++) {
        const cdp_span piece = pieces.spans.data[i];
        st = cdp_bpe_encode(&t->bpe, pieces.text + piece.begin, piece.end - piece.begin, ids);
    }
    cdp_pieces_free(&pieces);
    return st;
}

typedef cdp_status (*encode_stretch)(const cdp_tokenizer *t, cdp_text text, cdp_ids *ids);

/* Cut the set's tokens out of the text; `rest` takes what lies between them. */
static cdp_status cut_added(const cdp_tokenizer *t, const cdp_added_set *set, encode_stretch rest,
                            cdp_text text, cdp_ids *ids) {
    cdp_added_search search = {0};
    cdp_span place;
    size_t at = 0;
    const cdp_added_token *token;
    while ((token = cdp_added_next(set, text, &search, &place)) != NULL) {
        if (place.begin > at)
            CDP_TRY(rest(t, cdp_text_slice(text, at, place.begin), ids));
        cdp_ids_add(ids, token->id);
        at = place.end;
    }
    return rest(t, cdp_text_slice(text, at, text.n), ids);
}

/* Normalise, then cut the tokens that match the normalised text. */
static cdp_status encode_normalized(const cdp_tokenizer *t, cdp_text text, cdp_ids *ids) {
    if (text.n == 0)
        return CDP_OK;
    cdp_normal_text normal;
    cdp_status st = cdp_normalizer_run(&t->normalizer, text, &normal);
    if (st == CDP_OK)
        st = cut_added(t, &t->normalized, encode_plain, normal.text, ids);
    cdp_normal_text_free(&normal);
    return st;
}

/* All parts as one text of valid UTF-8. A character that two parts share is replaced in both: no part can
 * finish what another began. */
static cdp_status join_parts(const cdp_text_part *parts, size_t n_parts, cdp_bytes *text,
                             cdp_bytes *foreign) {
    bool has_foreign = false;
    for (size_t i = 0; i < n_parts; i++)
        has_foreign |= !parts[i].may_be_special;
    cdp_bytes_add(text, "", 0);
    for (size_t i = 0; i < n_parts; i++) {
        const size_t begin = text->n;
        const char mark = !parts[i].may_be_special;
        cdp_utf8_add_valid(text, parts[i].text, parts[i].n);
        for (size_t k = begin; has_foreign && k < text->n; k++)
            cdp_bytes_add(foreign, &mark, 1);
    }
    return text->is_failed || foreign->is_failed
               ? cdp_fail(CDP_SYSTEM, "no memory to tokenize %zu bytes", text->n)
               : CDP_OK;
}

static cdp_status encode_all(const cdp_tokenizer *t, const cdp_text_part *parts, size_t n_parts,
                             bool with_special, int32_t **ids_out, size_t *n_ids_out) {
    cdp_bytes text = {0}, foreign = {0};
    cdp_ids ids = {0};
    *ids_out = NULL;
    *n_ids_out = 0;
    for (int i = 0; with_special && i < t->extra.n_before; i++)
        cdp_ids_add(&ids, t->extra.before[i]);
    cdp_status st = join_parts(parts, n_parts, &text, &foreign);
    if (st == CDP_OK)
        st =
            cut_added(t, &t->raw, encode_normalized, (cdp_text){text.data, text.n, foreign.data, true}, &ids);
    for (int i = 0; with_special && i < t->extra.n_after; i++)
        cdp_ids_add(&ids, t->extra.after[i]);
    if (st == CDP_OK && ids.is_failed)
        st = cdp_fail(CDP_SYSTEM, "no memory for the ids of %zu bytes", text.n);
    free(text.data);
    free(foreign.data);
    if (st != CDP_OK) {
        free(ids.data);
        return st;
    }
    *ids_out = ids.data;
    *n_ids_out = ids.n;
    return CDP_OK;
}

cdp_status cdp_tokenizer_encode(const cdp_tokenizer *t, const char *text, size_t n, bool with_special,
                                int32_t **ids_out, size_t *n_ids_out) {
    const cdp_text_part whole = {text, n, true};
    return encode_all(t, &whole, 1, with_special, ids_out, n_ids_out);
}

cdp_status cdp_tokenizer_encode_parts(const cdp_tokenizer *t, const cdp_text_part *parts, size_t n_parts,
                                      int32_t **ids_out, size_t *n_ids_out) {
    return encode_all(t, parts, n_parts, false, ids_out, n_ids_out);
}
