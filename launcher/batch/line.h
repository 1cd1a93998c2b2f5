/* launcher/batch/line.h - one line of a batch input: who it is and what it asks for.
 *
 *     {"id": "a1", "prompt": "..." | "prompt_ids": [..] | "messages": [..], "temperature": 0.7, ...}
 *     {"custom_id": "a1", "method": "POST", "url": "/v1/completions" | "/v1/chat/completions", "body": {..}}
 *
 * A prompt is sent as it is; messages go through the model's chat template. A line may set what the command
 * line sets for all; the option table knows the bounds of both. `id` is a text of at most 512 bytes, or a
 * whole number, which counts as its digits; left out, it is the line's number. Everything else that a line
 * holds is refused by name: a misspelt parameter must not pass for one that was not given.
 */
#pragma once

#include "launcher/options/options.h"
#include <cjson/cJSON.h>

enum {
    CDP_MAX_LINE_BYTES = 16 << 20,
    CDP_MAX_ID_BYTES = 512,
    CDP_MAX_STOP_BYTES = 4096,
};

typedef enum cdp_line_form {
    CDP_LINE_OWN,
    CDP_LINE_COMPLETION, /* OpenAI, /v1/completions */
    CDP_LINE_CHAT,       /* OpenAI, /v1/chat/completions */
} cdp_line_form;

/* Texts and nodes point into the tree. */
typedef struct cdp_line {
    cJSON *tree;
    const char *text; /* the line, which is the caller's */
    size_t n_text;
    cdp_line_form form;
    uint32_t number;         /* of the line, from 1 */
    const char *id;          /* NULL: none could be read */
    bool id_is_number;       /* written without quotes */
    char digits[24];         /* of such an id, or of the line's number where there is no id */
    bool names_decoding;     /* it says itself how it is to be decoded: known once identified */
    char window[24];         /* tap_window by its digits */
    char seed[24];           /* the digits of a whole seed as it is written, "" otherwise */
    const char *model;       /* of an OpenAI body, NULL */
    const char *prompt;      /* one of these three */
    const cJSON *prompt_ids; /* an array */
    const cJSON *messages;   /* an array */
    char *messages_text;     /* and its JSON as it is written: numbers have more digits than the tree's */
    cdp_options options;     /* the run's, with what the line sets */
} cdp_line;

/* Parse n bytes and find the id. CDP_BAD_DATA "line 7: ..." for what is no JSON object or has no usable id
 * (then out->id is NULL). The caller closes *out in every case. The text must stay until the line is read. */
cdp_status cdp_line_identify(cdp_line *out, const char *text, size_t n, uint32_t number);

/* What it asks for, over the options of the run. CDP_BAD_DATA "line 7: ..." */
cdp_status cdp_line_read(cdp_line *line, const cdp_options *options);

void cdp_line_close(cdp_line *line);
