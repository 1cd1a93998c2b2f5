#include "launcher/text/added_file.h"

#include "planner/json.h"

cdp_status cdp_added_file_count(const char *name, const cJSON *added, size_t *n_out, int *n_tokens) {
    const cJSON *item;
    *n_out = 0;
    cJSON_ArrayForEach(item, added) {
        const cJSON *id = cdp_json_get(item, "id"), *content = cdp_json_get(item, "content");
        if (!cdp_json_is_whole(id) || id->valuedouble < 0 || id->valuedouble >= CDP_MAX_TOKEN_ID ||
            !cJSON_IsString(content) || content->valuestring[0] == '\0')
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: added_tokens: entry %zu needs an id from 0 to %d and a content", name,
                            *n_out, CDP_MAX_TOKEN_ID - 1);
        *n_tokens = id->valueint >= *n_tokens ? id->valueint + 1 : *n_tokens;
        ++*n_out;
    }
    return CDP_OK;
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

cdp_status cdp_added_file_read(cdp_tokenizer *t, const char *name, const cJSON *item) {
    const char *text = cdp_json_get(item, "content")->valuestring;
    cdp_added_token token = {.id = cdp_json_get(item, "id")->valueint};
    bool is_normalized = false;
    cdp_normal_text normal = {0};
    cdp_regex_work work = {.n_bytes = strlen(text)};
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
    CDP_TRY_GOTO(cdp_normalizer_run(is_normalized ? &t->normalizer : &nothing, written, &work, &normal), st,
                 done);
    CDP_TRY_GOTO(set_added(t, name, &token, is_normalized, written, normal.text), st, done);
done:
    cdp_regex_work_free(&work);
    cdp_normal_text_free(&normal);
    return st;
}
