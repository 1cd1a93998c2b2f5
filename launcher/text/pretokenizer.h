/* launcher/text/pretokenizer.h - a text cut into the pieces that BPE never merges across. A list of steps,
 * each cutting the pieces of the one before. */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"
#include "launcher/text/regex.h"
#include <cjson/cJSON.h>

typedef enum cdp_pre_kind {
    CDP_PRE_SPLIT,     /* at the matches of a pattern, or of a fixed text */
    CDP_PRE_SPACE,     /* a space in front of each piece that has none */
    CDP_PRE_METASPACE, /* every space becomes `fixed`, which also comes in front of pieces that lack it */
} cdp_pre_kind;

/* What happens to a match of a splitting pattern. */
typedef enum cdp_split_behavior {
    CDP_SPLIT_ISOLATED,    /* a piece of its own */
    CDP_SPLIT_REMOVED,     /* gone */
    CDP_SPLIT_WITH_BEFORE, /* the end of the piece before it */
    CDP_SPLIT_WITH_AFTER,  /* the beginning of the piece after it */
    CDP_SPLIT_CONTIGUOUS,  /* one piece with the matches next to it */
} cdp_split_behavior;

/* Which pieces get a sign in front. */
typedef enum cdp_prepend_scheme {
    CDP_PREPEND_ALWAYS,
    CDP_PREPEND_FIRST, /* the one at the beginning of the whole text */
    CDP_PREPEND_NEVER,
} cdp_prepend_scheme;

typedef struct cdp_pre_step {
    cdp_pre_kind kind;
    cdp_regex *regex; /* SPLIT: NULL for a fixed text */
    cdp_bytes fixed;  /* SPLIT, METASPACE */
    cdp_split_behavior behavior;
    bool is_inverted; /* SPLIT: what does not match is the match */
    cdp_prepend_scheme scheme;
} cdp_pre_step;

enum { CDP_MAX_STEPS = 16 };

typedef struct cdp_pretokenizer {
    int n_steps;
    cdp_pre_step steps[CDP_MAX_STEPS];
    bool is_byte_level;   /* the file ends in ByteLevel: pieces go to BPE as bytes */
    bool is_early_tekken; /* a pattern that conversions of Mistral's files got wrong (model_file.c) */
} cdp_pretokenizer;

/* Pieces of a text, which is the caller's or, once a step has changed it, `own`. */
typedef struct cdp_pieces {
    const char *text;
    bool is_beginning; /* the first piece is the beginning of the whole text */
    cdp_bytes own;
    cdp_spans spans;
} cdp_pieces;

/* From tokenizer.json's "pre_tokenizer" (may be NULL or null). `name` opens messages; what is not supported
 * is refused by name. Closed by cdp_pretokenizer_close, also after a failure. */
cdp_status cdp_pretokenizer_open(cdp_pretokenizer *out, const char *name, const cJSON *json);
void cdp_pretokenizer_close(cdp_pretokenizer *pretokenizer);

/* The pieces of the text, in order, none of them empty. cdp_pieces_free, also after a failure. */
cdp_status cdp_pretokenizer_split(const cdp_pretokenizer *pretokenizer, cdp_text text, cdp_regex_work *work,
                                  cdp_pieces *out);
void cdp_pieces_free(cdp_pieces *pieces);
