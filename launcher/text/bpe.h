/* launcher/text/bpe.h - byte-pair merges: a piece of bytes to ids.
 *
 * Starts with one id a byte and merges the pair of lowest rank (leftmost on ties) until none is left. A heap
 * of candidate pairs makes it O(n log n), so a million equal characters are no danger.
 */
#pragma once

#include "launcher/text/vocabulary.h"

typedef struct cdp_merge {
    uint64_t pair; /* left id, right id; all ones: free slot */
    int32_t rank, product;
} cdp_merge;

typedef struct cdp_bpe {
    cdp_merge *table; /* open addressing */
    uint32_t n_slots;
    int32_t byte_ids[256];   /* id of each byte's own token, -1: none */
    char byte_chars[256][2]; /* what cdp_byte_char says of each byte */
    unsigned char byte_lengths[256];
    bool ignores_merges; /* a piece that is in the vocabulary is taken whole */
    const cdp_vocabulary *vocabulary;
} cdp_bpe;

cdp_status cdp_bpe_open(cdp_bpe *out, const cdp_vocabulary *vocabulary, size_t n_merges);
void cdp_bpe_close(cdp_bpe *bpe);

/* The merge of `rank`; of two with the same pair the last one counts, as in the reference. */
void cdp_bpe_add(cdp_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t product);

/* Append the ids of n raw bytes. */
cdp_status cdp_bpe_encode(const cdp_bpe *bpe, const char *bytes, size_t n, cdp_ids *ids);

/* The character that stands for a byte in the vocabulary, as UTF-8 (1 or 2 bytes); and back, -1 for a code
 * point that stands for none. */
size_t cdp_byte_char(unsigned char byte, char out[2]);
int cdp_char_byte(uint32_t code);
