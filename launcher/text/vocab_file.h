/* launcher/text/vocab_file.h - the two big values of tokenizer.json, read where they stand.
 *
 *     {"model": {"vocab": {"a": 0, ...}, "merges": ["a b", ["a", "b"], ...], ...}, ...}
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/bpe.h"

/* Where the values stand in a text, brackets included; {0, 0}: not found. */
typedef struct cdp_big_values {
    cdp_span vocab, merges;
} cdp_big_values;

/* A text that cannot be followed gives nothing: the strict reader of the rest says why. */
cdp_big_values cdp_vocab_file_find(const char *text, size_t n);

/* Entries of the vocabulary, and its largest id + 1. Every token has a text and an id below CDP_MAX_TOKEN_ID.
 */
cdp_status cdp_vocab_file_count(const char *name, const char *text, cdp_span vocab, size_t *n_out,
                                int *n_tokens_out);

/* All tokens; a text or an id that comes twice is refused. */
cdp_status cdp_vocab_file_read(cdp_vocabulary *out, const char *name, const char *text, cdp_span vocab);

/* All merges, in the order of their ranks. Parts and product have to be in the vocabulary. */
cdp_status cdp_merges_file_read(cdp_bpe *bpe, const char *name, const char *text, cdp_span merges);
