#include "launcher/text/added_tokens.h"

#include "launcher/text/utf8.h"

cdp_status cdp_added_open(cdp_added_set *out, int room) {
    *out = (cdp_added_set){.room = room};
    out->tokens = calloc((size_t)room + 1, sizeof *out->tokens);
    CDP_TRY(cdp_vocabulary_open(&out->texts, room, (size_t)room));
    return out->tokens != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d added tokens", room);
}

void cdp_added_close(cdp_added_set *set) {
    for (int i = 0; i < 256; i++)
        free(set->lengths[i]);
    cdp_vocabulary_close(&set->texts);
    free(set->tokens);
    *set = (cdp_added_set){0};
}

/* Keep the lengths of a first byte sorted, longest first, each once. */
static cdp_status note_length(cdp_added_set *set, unsigned char first, uint32_t length) {
    const int n = set->n_lengths[first];
    for (int i = 0; i < n; i++)
        if (set->lengths[first][i] == length)
            return CDP_OK;
    uint32_t *grown = realloc(set->lengths[first], (size_t)(n + 1) * sizeof *grown);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the added tokens");
    int at = n;
    for (; at > 0 && grown[at - 1] < length; at--)
        grown[at] = grown[at - 1];
    grown[at] = length;
    set->lengths[first] = grown;
    set->n_lengths[first] = n + 1;
    return CDP_OK;
}

cdp_status cdp_added_add(cdp_added_set *set, const cdp_added_token *token, const char *text, size_t n) {
    set->tokens[set->n_tokens] = *token;
    CDP_TRY(cdp_vocabulary_set(&set->texts, set->n_tokens, text, n));
    set->n_tokens++;
    return note_length(set, (unsigned char)text[0], (uint32_t)n);
}

const cdp_added_token *cdp_added_find(const cdp_added_set *set, const char *text, size_t n) {
    const int32_t number = cdp_vocabulary_find(&set->texts, text, n);
    return number >= 0 ? &set->tokens[number] : NULL;
}

/* The longest token that begins exactly here. */
static const cdp_added_token *token_at(const cdp_added_set *set, cdp_text text, size_t at,
                                       uint32_t *length_out) {
    const unsigned char first = (unsigned char)text.data[at];
    for (int i = 0; i < set->n_lengths[first]; i++) {
        const uint32_t length = set->lengths[first][i];
        const cdp_added_token *token =
            length <= text.n - at ? cdp_added_find(set, text.data + at, length) : NULL;
        if (token != NULL && !(token->is_special && cdp_text_is_foreign(text, at, at + length))) {
            *length_out = length;
            return token;
        }
    }
    return NULL;
}

/* The code point that ends at `end`, or begins there. */
static uint32_t code_before(const char *text, size_t end) {
    size_t length;
    uint32_t code;
    const size_t begin = cdp_utf8_before((const unsigned char *)text, end);
    cdp_utf8_next((const unsigned char *)text + begin, end - begin, &length, &code);
    return code;
}
static uint32_t code_after(const char *text, size_t n, size_t begin, size_t *length_out) {
    uint32_t code;
    cdp_utf8_next((const unsigned char *)text + begin, n - begin, length_out, &code);
    return code;
}

static bool stands_alone(const char *text, size_t n, cdp_span place) {
    size_t length;
    return (place.begin == 0 || !cdp_is_word(code_before(text, place.begin))) &&
           (place.end == n || !cdp_is_word(code_after(text, n, place.end, &length)));
}

/* Where the blanks end that begin at `begin`. */
static size_t blanks_end(const char *text, size_t n, size_t begin, cdp_span *known) {
    size_t length, end = begin >= known->begin && begin < known->end ? known->end : begin;
    while (end < n && cdp_is_space(code_after(text, n, end, &length)))
        end += length;
    *known = (cdp_span){begin, end};
    return end;
}

static void take_blanks(const cdp_added_token *token, const char *text, size_t n, cdp_added_search *search,
                        cdp_span *place) {
    const size_t floor = search->done;
    if (token->lstrip && place->begin < floor)
        place->begin = floor;
    while (token->lstrip && place->begin > floor && cdp_is_space(code_before(text, place->begin)))
        place->begin = cdp_utf8_before((const unsigned char *)text, place->begin);
    if (token->rstrip)
        place->end = blanks_end(text, n, place->end, &search->blanks);
}

const cdp_added_token *cdp_added_next(const cdp_added_set *set, cdp_text text, cdp_added_search *search,
                                      cdp_span *place_out) {
    while (set->n_tokens > 0 && search->at < text.n) {
        uint32_t length;
        const size_t at = search->at;
        const cdp_added_token *token = token_at(set, text, at, &length);
        search->at += token != NULL ? length : 1;
        *place_out = (cdp_span){at, search->at};
        /* One that does not stand alone was found all the same: what it covers has been passed over. */
        if (token == NULL || (token->single_word && !stands_alone(text.data, text.n, *place_out)))
            continue;
        take_blanks(token, text.data, text.n, search, place_out);
        if (place_out->begin >= place_out->end)
            continue; /* an earlier token has taken all of it as blanks */
        search->done = place_out->end;
        return token;
    }
    return NULL;
}
