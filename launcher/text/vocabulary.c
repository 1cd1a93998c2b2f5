#include "launcher/text/vocabulary.h"

cdp_status cdp_vocabulary_open(cdp_vocabulary *out, int n_tokens, size_t n_texts) {
    *out = (cdp_vocabulary){.n_tokens = n_tokens, .n_slots = 64};
    while (out->n_slots < 2 * n_texts)
        out->n_slots *= 2;
    out->tokens = calloc((size_t)n_tokens + 1, sizeof *out->tokens);
    out->table = malloc(out->n_slots * sizeof *out->table);
    if (out->tokens == NULL || out->table == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a vocabulary of %d tokens", n_tokens);
    for (uint32_t i = 0; i < out->n_slots; i++)
        out->table[i] = -1;
    return CDP_OK;
}

void cdp_vocabulary_close(cdp_vocabulary *v) {
    free(v->arena.data);
    free(v->tokens);
    free(v->table);
    *v = (cdp_vocabulary){0};
}

const char *cdp_vocabulary_text(const cdp_vocabulary *v, int32_t id, size_t *n_out) {
    *n_out = 0;
    if (id < 0 || id >= v->n_tokens || !v->tokens[id].is_there)
        return NULL;
    *n_out = v->tokens[id].n;
    return v->arena.data + v->tokens[id].offset;
}

/* The slot where the text is, or the free one where it would be. */
static uint32_t slot_of(const cdp_vocabulary *v, const char *text, size_t n) {
    uint32_t slot = cdp_hash(text, n) & (v->n_slots - 1);
    for (; v->table[slot] >= 0; slot = (slot + 1) & (v->n_slots - 1)) {
        const cdp_token *token = &v->tokens[v->table[slot]];
        if (token->n == n && memcmp(v->arena.data + token->offset, text, n) == 0)
            break;
    }
    return slot;
}

cdp_status cdp_vocabulary_name(cdp_vocabulary *v, int32_t id, const char *text, size_t n) {
    v->tokens[id].offset = v->arena.n;
    v->tokens[id].n = (uint32_t)n;
    v->tokens[id].is_there = true;
    cdp_bytes_add(&v->arena, text, n);
    cdp_bytes_add(&v->arena, "", 1);
    return v->arena.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the texts of the vocabulary") : CDP_OK;
}

cdp_status cdp_vocabulary_set(cdp_vocabulary *v, int32_t id, const char *text, size_t n) {
    CDP_TRY(cdp_vocabulary_name(v, id, text, n));
    const uint32_t slot = slot_of(v, text, n);
    if (v->table[slot] < 0)
        v->table[slot] = id;
    return CDP_OK;
}

int32_t cdp_vocabulary_find(const cdp_vocabulary *v, const char *text, size_t n) {
    return v->table[slot_of(v, text, n)];
}
