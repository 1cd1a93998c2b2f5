/* launcher/text/normalize.h - what happens to a text before it is cut into pieces. A list of steps. */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"
#include "launcher/text/regex.h"
#include <cjson/cJSON.h>

typedef enum cdp_normal_kind {
    CDP_NORMAL_NFC,  /* characters composed: e and U+0301 become U+00E9 */
    CDP_NORMAL_NFD,  /* ... or taken apart */
    CDP_NORMAL_NFKC, /* composed, variants of a character made one: U+FB01 becomes fi */
    CDP_NORMAL_NFKD,
    CDP_NORMAL_LOWERCASE,
    CDP_NORMAL_STRIP,   /* white space at the ends goes */
    CDP_NORMAL_PREPEND, /* `content` comes first, unless there is no text */
    CDP_NORMAL_REPLACE, /* each match of `pattern` becomes `content` */
} cdp_normal_kind;

typedef struct cdp_normal_step {
    cdp_normal_kind kind;
    bool strips_left, strips_right;
    cdp_regex *pattern; /* NULL: the fixed text `from` */
    cdp_bytes from, content;
} cdp_normal_step;

enum { CDP_MAX_NORMAL_STEPS = 16 };

typedef struct cdp_normalizer {
    int n_steps; /* 0: the text stays as it is */
    cdp_normal_step steps[CDP_MAX_NORMAL_STEPS];
} cdp_normalizer;

/* A text that has become another one: `text` looks into the two buffers. {0} before the first use. */
typedef struct cdp_normal_text {
    cdp_text text;
    cdp_bytes bytes, foreign;
} cdp_normal_text;

/* From tokenizer.json's "normalizer" (may be NULL or null). What is not supported is refused by name. Closed
 * by cdp_normalizer_close, also after a failure. */
cdp_status cdp_normalizer_open(cdp_normalizer *out, const char *name, const cJSON *json);
void cdp_normalizer_close(cdp_normalizer *normalizer);

/* Normalise. A character made of several is foreign when one of them was. out is freed by
 * cdp_normal_text_free, also after a failure. A pattern at its limit: CDP_BAD_DATA. */
cdp_status cdp_normalizer_run(const cdp_normalizer *normalizer, cdp_text text, cdp_regex_work *work,
                              cdp_normal_text *out);
void cdp_normal_text_free(cdp_normal_text *text);
