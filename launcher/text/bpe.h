/* launcher/text/bpe.h - byte-pair merges: a piece of a text to ids.
 *
 * A piece becomes symbols: one a byte (a byte-level vocabulary), or one a character. The pair of lowest rank
 * (leftmost on ties) merges until none is left. Few symbols are searched through each time; many are kept in
 * a heap, O(n log n), so a million equal characters are no danger.
 */
#pragma once

#include "launcher/text/pair_queue.h"
#include "launcher/text/vocabulary.h"

typedef struct cdp_merge {
    uint64_t pair; /* left id, right id; all ones: free slot */
    int32_t rank, product;
} cdp_merge;

enum { CDP_BORDER_BITS = 1 << 20 };

typedef struct cdp_bpe {
    const cdp_vocabulary *vocabulary;
    cdp_merge *table; /* open addressing */
    uint32_t n_slots, n_merges;
    bool is_byte_level;    /* one symbol a byte, else one a character */
    bool ignores_merges;   /* a piece that is in the vocabulary is taken whole */
    bool fuses_unknown;    /* a run of unknown characters is one unknown id */
    bool falls_back;       /* an unknown character becomes the tokens <0xNN> of its bytes, if all are there */
    int32_t unknown_id;    /* -1: unknown characters vanish */
    int32_t byte_ids[256]; /* byte level: id of each byte's own token; else of ASCII; -1: none */
    int32_t fallback_ids[256]; /* of <0xNN> */
    char byte_chars[256][2];   /* what cdp_byte_char says of each byte */
    unsigned char byte_lengths[256];
    size_t longest; /* bytes of the longest text of the vocabulary */
    /* A bit for each pair of (last character of a left part, first character of a right part) that some merge
     * has: where it is 0, no merge ever crosses, and a long piece may be cut. */
    unsigned char *borders;
} cdp_bpe;

/* What encoding needs beside the tables, kept from piece to piece of one text. {0} at first; a cache is used
 * where has_cache says that the text is long enough for one. One thread at a time. */
typedef struct cdp_bpe_work {
    bool has_cache;
    struct cdp_cached_piece *cache;
    struct cdp_symbol *symbols;
    cdp_pair_queue queue;
    int32_t *ids;
    size_t room; /* of ids */
    cdp_bytes whole;
} cdp_bpe_work;

void cdp_bpe_work_free(cdp_bpe_work *work);

/* The tables are empty at first; flags and unknown_id are the caller's to set. */
cdp_status cdp_bpe_open(cdp_bpe *out, const cdp_vocabulary *vocabulary, bool is_byte_level);
void cdp_bpe_close(cdp_bpe *bpe);

/* The merge of `rank`; of two with the same pair the last one counts, as in the reference. */
cdp_status cdp_bpe_add(cdp_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t product);

/* Append the ids of a piece of n > 0 bytes, valid UTF-8 where symbols are characters. */
cdp_status cdp_bpe_encode(const cdp_bpe *bpe, cdp_bpe_work *work, const char *piece, size_t n, cdp_ids *ids);

/* The character that stands for a byte in a byte-level vocabulary, as UTF-8 (1 or 2 bytes); and back, -1 for
 * a code point that stands for none. */
size_t cdp_byte_char(unsigned char byte, char out[2]);
int cdp_char_byte(uint32_t code);
