/* launcher/text/tokenizer.h - text to token ids and back, as tokenizer.json says.
 *
 *     text -> cut added tokens -> normalise -> cut added tokens -> pre-tokenise -> BPE -> post-process -> ids
 *
 * BPE over bytes (GPT-2, Llama 3, Qwen) or over characters (Llama 2, Gemma); what a file asks for and we
 * cannot do is refused by name (CDP_BAD_MODEL), never ignored. Patterns run in PCRE2 under limits: reaching
 * one is an error of that text (CDP_BAD_DATA), not of the process. Bytes that are not UTF-8 are replaced
 * first. All calls may come from several threads at once.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

typedef struct cdp_tokenizer cdp_tokenizer;

/* Open DIR/tokenizer.json. CDP_NO_INPUT when there is none. The caller closes it. */
cdp_status cdp_tokenizer_open(cdp_tokenizer **out, const char *dir);
/* The same from n bytes of text that a NUL ends; `name` opens messages. */
cdp_status cdp_tokenizer_parse(cdp_tokenizer **out, const char *name, const char *text, size_t n);

void cdp_tokenizer_close(cdp_tokenizer *tokenizer); /* NULL is fine */

/* Largest id + 1. */
int cdp_tokenizer_size(const cdp_tokenizer *tokenizer);

/* Encode n bytes. with_special: let the post-processor add bos and its like. The caller frees *ids_out. */
cdp_status cdp_tokenizer_encode(const cdp_tokenizer *tokenizer, const char *text, size_t n, bool with_special,
                                int32_t **ids_out, size_t *n_ids_out);

/* A part of a text, and whether special tokens may be found in it: true for what a chat template wrote
 * itself, false for what a user did. */
typedef struct cdp_text_part {
    const char *text;
    size_t n;
    bool may_be_special;
} cdp_text_part;

/* Encode the parts as the one text they make together; the post-processor adds nothing (a template writes its
 * bos itself). Only the search for special tokens looks at the parts: a special token is found where all of
 * its bytes may be special. Added tokens that are not special are found everywhere, and normalising,
 * pre-tokenising and merges do not see the borders, so that text without control tokens gets exactly the ids
 * of the whole. The caller frees *ids_out. */
cdp_status cdp_tokenizer_encode_parts(const cdp_tokenizer *tokenizer, const cdp_text_part *parts,
                                      size_t n_parts, int32_t **ids_out, size_t *n_ids_out);

/* Decode all at once; the caller frees *text_out (NUL-terminated, but the text may hold NULs: *n_out counts).
 */
cdp_status cdp_tokenizer_decode(const cdp_tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                                bool skip_special, char **text_out, size_t *n_out);

/* The bytes an id stands for (not always whole characters); NULL and 0 for an unknown id. */
const char *cdp_tokenizer_bytes(const cdp_tokenizer *tokenizer, int32_t id, size_t *n_out);
bool cdp_tokenizer_is_special(const cdp_tokenizer *tokenizer, int32_t id);

/* Streaming: text leaves as soon as it is whole characters. Bytes that can never become one leave as U+FFFD:
 * in a byte-level vocabulary one per maximal subpart, else one per byte. O(1) per id. All pieces together are
 * what cdp_tokenizer_decode gives, but for one case: neighbouring <0xNN> of which only some make characters
 * are all U+FFFD there, as in the reference, which nobody who streams can know. */
typedef struct cdp_detokenizer {
    const cdp_tokenizer *tokenizer;
    bool skip_special;
    bool is_begun;         /* an id has come that stands for something */
    size_t n_strips;       /* so many signs may still be left out at the beginning */
    unsigned char held[8]; /* the start of a character */
    size_t n_held;
} cdp_detokenizer;

void cdp_detokenizer_start(cdp_detokenizer *stream, const cdp_tokenizer *tokenizer, bool skip_special);

/* Other text stands before: what is left out at the beginning of a text is not left out here. */
void cdp_detokenizer_read_on(cdp_detokenizer *stream);

/* Take one id; *text_out (owned by the caller, freed by it, NULL when nothing leaves) holds *n_out bytes. */
cdp_status cdp_detokenizer_push(cdp_detokenizer *stream, int32_t id, char **text_out, size_t *n_out);

/* What is still held, as U+FFFD. */
cdp_status cdp_detokenizer_flush(cdp_detokenizer *stream, char **text_out, size_t *n_out);
