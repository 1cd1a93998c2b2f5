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
static cdp_status encode_plain(const cdp_tokenizer *t, const char *text, size_t n, cdp_ids *ids) {
    cdp_pieces pieces;
    cdp_status st = cdp_pretokenizer_split(&t->pretokenizer, text, n, &pieces);
    for (size_t i = 0; st == CDP_OK && i < pieces.spans.n; i++) {
        const cdp_span piece = pieces.spans.data[i];
        st = cdp_bpe_encode(&t->bpe, pieces.text + piece.begin, piece.end - piece.begin, ids);
    }
    cdp_pieces_free(&pieces);
    return st;
}

typedef cdp_status (*encode_stretch)(const cdp_tokenizer *t, const char *text, size_t n, cdp_ids *ids);

/* Cut the set's tokens out of the text; `rest` takes what lies between them. */
static cdp_status cut_added(const cdp_tokenizer *t, const cdp_added_set *set, encode_stretch rest,
                            const char *text, size_t n, cdp_ids *ids) {
    cdp_added_search search = {0};
    cdp_span place;
    size_t at = 0;
    const cdp_added_token *token;
    while ((token = cdp_added_next(set, text, n, &search, &place)) != NULL) {
        if (place.begin > at)
            CDP_TRY(rest(t, text + at, place.begin - at, ids));
        cdp_ids_add(ids, token->id);
        at = place.end;
    }
    return rest(t, text + at, n - at, ids);
}

/* Normalise, then cut the tokens that match the normalised text. */
static cdp_status encode_normalized(const cdp_tokenizer *t, const char *text, size_t n, cdp_ids *ids) {
    if (n == 0 || t->normalizer.n_steps == 0)
        return cut_added(t, &t->normalized, encode_plain, text, n, ids);
    cdp_bytes normal = {0};
    cdp_status st = cdp_normalizer_run(&t->normalizer, text, n, &normal);
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
    for (int i = 0; with_special && i < t->extra.n_before; i++)
        cdp_ids_add(&ids, t->extra.before[i]);
    cdp_bytes_add(&valid, "", 0);
    cdp_utf8_add_valid(&valid, text, n);
    cdp_status st = valid.is_failed ? cdp_fail(CDP_SYSTEM, "no memory to tokenize %zu bytes", n)
                                    : cut_added(t, &t->raw, encode_normalized, valid.data, valid.n, &ids);
    for (int i = 0; with_special && i < t->extra.n_after; i++)
        cdp_ids_add(&ids, t->extra.after[i]);
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
