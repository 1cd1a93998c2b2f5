/* launcher/text/pretokenizer.h - a text cut into the pieces that BPE never merges across. A list of steps,
 * each cutting the pieces of the one before. */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"
#include "launcher/text/regex.h"
#include <cjson/cJSON.h>

/* What happens to a match of a splitting pattern. */
typedef enum cdp_split_behavior {
    CDP_SPLIT_ISOLATED,    /* a piece of its own */
    CDP_SPLIT_REMOVED,     /* gone */
    CDP_SPLIT_WITH_BEFORE, /* the end of the piece before it */
    CDP_SPLIT_WITH_AFTER,  /* the beginning of the piece after it */
    CDP_SPLIT_CONTIGUOUS,  /* one piece with the matches next to it */
} cdp_split_behavior;

/* One step: a pattern that splits, or (regex is NULL) a space in front of each piece that has none. */
typedef struct cdp_pre_step {
    cdp_regex *regex;
    cdp_split_behavior behavior;
    bool is_inverted; /* what does not match is the match */
} cdp_pre_step;

enum { CDP_MAX_STEPS = 16 };

typedef struct cdp_pretokenizer {
    int n_steps;
    cdp_pre_step steps[CDP_MAX_STEPS];
    bool is_byte_level; /* the file ends in ByteLevel: pieces go to BPE as bytes */
} cdp_pretokenizer;

/* Pieces of a text, which is the caller's or, once a step has changed it, `own`. */
typedef struct cdp_pieces {
    const char *text;
    cdp_bytes own;
    cdp_spans spans;
} cdp_pieces;

/* From tokenizer.json's "pre_tokenizer" (may be NULL or null). `name` opens messages; what is not supported
 * is refused by name. Closed by cdp_pretokenizer_close, also after a failure. */
cdp_status cdp_pretokenizer_open(cdp_pretokenizer *out, const char *name, const cJSON *json);
void cdp_pretokenizer_close(cdp_pretokenizer *pretokenizer);

/* The pieces of the text, in order, none of them empty. cdp_pieces_free, also after a failure. */
cdp_status cdp_pretokenizer_split(const cdp_pretokenizer *pretokenizer, cdp_text text, cdp_pieces *out);
void cdp_pieces_free(cdp_pieces *pieces);
