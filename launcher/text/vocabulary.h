/* launcher/text/vocabulary.h - token texts to ids and back: one arena of bytes, one open-addressing table. */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"
#include <stdint.h>

typedef struct cdp_token {
    size_t offset; /* into the arena; NUL-terminated, but `n` counts */
    uint32_t n;
    bool is_there, is_special;
    bool is_byte; /* stands for one byte, and with its neighbours for a character: <0x0A> */
} cdp_token;

typedef struct cdp_vocabulary {
    cdp_bytes arena;
    cdp_token *tokens; /* (n_tokens), by id; ids may have holes */
    int n_tokens;
    int32_t *table; /* (n_slots) id or -1 */
    uint32_t n_slots;
} cdp_vocabulary;

/* Ids end before 2^24; texts, and merges of them, number four million at most: tables of 300 MB. Real files
 * have a tenth of it. */
enum { CDP_MAX_TOKEN_ID = 1 << 24, CDP_MAX_TEXTS = 1 << 22 };

/* Room for ids 0 .. n_tokens-1 and about n_texts texts. */
cdp_status cdp_vocabulary_open(cdp_vocabulary *out, int n_tokens, size_t n_texts);
void cdp_vocabulary_close(cdp_vocabulary *vocabulary);

/* Give `id` this text; the text finds the id from now on (a later text of the same bytes does not replace
 * it). CDP_SYSTEM when there is no memory. */
cdp_status cdp_vocabulary_set(cdp_vocabulary *vocabulary, int32_t id, const char *text, size_t n);

/* The same, but the text does not find the id: an added token that the model itself does not have. */
cdp_status cdp_vocabulary_name(cdp_vocabulary *vocabulary, int32_t id, const char *text, size_t n);

/* The id of a text, -1 when it has none. */
int32_t cdp_vocabulary_find(const cdp_vocabulary *vocabulary, const char *text, size_t n);

/* The text of an id; NULL when there is no such token. */
const char *cdp_vocabulary_text(const cdp_vocabulary *vocabulary, int32_t id, size_t *n_out);
