#include "launcher/text/tokenizer.h"

#include "kernels/log.h"
#include "launcher/text/model_file.h"
#include "launcher/text/utf8.h"
#include "planner/file.h"
#include "planner/json.h"

cdp_status cdp_tokenizer_parse(cdp_tokenizer **out, const char *name, const char *text, size_t n) {
    *out = NULL;
    cdp_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the tokenizer");
    const cdp_status st = cdp_tokenizer_fill(tokenizer, name, text, n);
    if (st != CDP_OK)
        cdp_tokenizer_close(tokenizer);
    else
        *out = tokenizer;
    return st;
}

/* Conversions of Mistral's tokenizers shipped the pattern of another family; numbers and some words come out
 * otherwise than in training. The file is followed all the same: models were tuned with it since. */
static void note_early_tekken(const cdp_tokenizer *t, const char *dir, const char *shown) {
    static const char *const families[] = {"mistral", "mistral3", "ministral", "voxtral", "pixtral"};
    char path[4200];
    cJSON *config = NULL;
    if (!t->pretokenizer.is_early_tekken || t->vocabulary.n_tokens <= 100000 || !cdp_log_speaks() ||
        !cdp_file_join(path, sizeof path, dir, "config.json"))
        return;
    if (cdp_json_read(&config, path, &cdp_json_config_limits) != CDP_OK)
        cdp_error_clear(); /* whoever needs config.json says what is wrong with it */
    const cJSON *type = cdp_json_get(config, "model_type");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (cJSON_IsString(type) && strcmp(type->valuestring, families[i]) == 0)
            cdp_note("%s: a %s model with the pattern of an early conversion, which splits numbers and words "
                     "otherwise than Mistral does: better take a newer tokenizer.json",
                     shown, families[i]);
    cJSON_Delete(config);
}

cdp_status cdp_tokenizer_open(cdp_tokenizer **out, const char *dir) {
    char path[4200], shown[CDP_SHOWN_PATH], *text;
    size_t n;
    *out = NULL;
    if (!cdp_file_join(path, sizeof path, dir, "tokenizer.json"))
        return cdp_fail(CDP_NO_INPUT, "the path of tokenizer.json is longer than %zu bytes", sizeof path);
    cdp_escape(shown, sizeof shown, path, strlen(path));
    CDP_TRY(cdp_file_read_text(&text, &n, path, cdp_json_tokenizer_limits.max_bytes));
    const cdp_status st = cdp_tokenizer_parse(out, shown, text, n);
    free(text);
    if (st == CDP_OK)
        note_early_tekken(*out, dir, shown);
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
    cdp_decoder_close(&t->decoder);
    cdp_vocabulary_close(&t->vocabulary);
    free(t->bytes.data);
    free(t->byte_offsets);
    free(t);
}

int cdp_tokenizer_size(const cdp_tokenizer *t) {
    return t->vocabulary.n_tokens;
}

/* One text on its way. */
typedef struct encoder {
    const cdp_tokenizer *t;
    cdp_bpe_work merging;
    cdp_regex_work matching;
    cdp_ids ids;
} encoder;

/* A stretch without added tokens: pieces, then merges. */
static cdp_status encode_plain(encoder *e, cdp_text text) {
    cdp_pieces pieces;
    cdp_status st = cdp_pretokenizer_split(&e->t->pretokenizer, text, &e->matching, &pieces);
    for (size_t i = 0; st == CDP_OK && i < pieces.spans.n; i++) {
        const cdp_span piece = pieces.spans.data[i];
        st = cdp_bpe_encode(&e->t->bpe, &e->merging, pieces.text + piece.begin, piece.end - piece.begin,
                            &e->ids);
    }
    cdp_pieces_free(&pieces);
    return st;
}

typedef cdp_status (*encode_stretch)(encoder *e, cdp_text text);

/* Cut the set's tokens out of the text; `rest` takes what lies between them. */
static cdp_status cut_added(encoder *e, const cdp_added_set *set, encode_stretch rest, cdp_text text) {
    cdp_added_search search = {0};
    cdp_span place;
    size_t at = 0;
    const cdp_added_token *token;
    while ((token = cdp_added_next(set, text, &search, &place)) != NULL) {
        if (place.begin > at)
            CDP_TRY(rest(e, cdp_text_slice(text, at, place.begin)));
        cdp_ids_add(&e->ids, token->id);
        at = place.end;
    }
    return at < text.n ? rest(e, cdp_text_slice(text, at, text.n)) : CDP_OK;
}

/* Normalise, then cut the tokens that match the normalised text. */
static cdp_status encode_normalized(encoder *e, cdp_text text) {
    cdp_normal_text normal;
    cdp_status st = cdp_normalizer_run(&e->t->normalizer, text, &e->matching, &normal);
    if (st == CDP_OK)
        st = cut_added(e, &e->t->normalized, encode_plain, normal.text);
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

/* Texts of this many bytes and more have words that come again. */
enum { CACHED_TEXT = 2048 };

static cdp_status encode_all(const cdp_tokenizer *t, const cdp_text_part *parts, size_t n_parts,
                             bool with_special, int32_t **ids_out, size_t *n_ids_out) {
    cdp_bytes text = {0}, foreign = {0};
    *ids_out = NULL;
    *n_ids_out = 0;
    cdp_status st = join_parts(parts, n_parts, &text, &foreign);
    encoder e = {.t = t, .merging.has_cache = text.n >= CACHED_TEXT, .matching.n_bytes = text.n};
    for (int i = 0; with_special && i < t->extra.n_before; i++)
        cdp_ids_add(&e.ids, t->extra.before[i]);
    if (st == CDP_OK)
        st = cut_added(&e, &t->raw, encode_normalized, (cdp_text){text.data, text.n, foreign.data, true});
    for (int i = 0; with_special && i < t->extra.n_after; i++)
        cdp_ids_add(&e.ids, t->extra.after[i]);
    if (st == CDP_OK && e.ids.is_failed)
        st = cdp_fail(CDP_SYSTEM, "no memory for the ids of %zu bytes", text.n);
    free(text.data);
    free(foreign.data);
    cdp_bpe_work_free(&e.merging);
    cdp_regex_work_free(&e.matching);
    if (st != CDP_OK) {
        free(e.ids.data);
        return st;
    }
    *ids_out = e.ids.data;
    *n_ids_out = e.ids.n;
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
