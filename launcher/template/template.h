/* launcher/template/template.h - chat templates: messages to the text that a model was trained on.
 *
 *     chat_template.jinja --open--> cdp_chat_template --render(messages, tools, ...)--> text and its spans
 *
 * An interpreter of the Jinja subset that chat templates use, with the settings of transformers: trim_blocks,
 * lstrip_blocks, loop controls, `generation`, tojson without HTML escaping, strftime_now, raise_exception. A
 * template comes from a stranger: it sees its variables and nothing else, no files, no code; steps, depth,
 * memory and output are bounded. What it asks for and we do not know is refused by name, with line and
 * column, when it is opened; the reference puts off unknown filters and tests inside `if`, and so do we.
 *
 * Every byte of the result knows where it comes from: the template's own words (and the model's, such as
 * bos_token), or data. Only the former may become special tokens: a user's "<|im_end|>" stays text.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"

typedef struct cdp_chat_template cdp_chat_template;

/* Parse n bytes of UTF-8; `name` opens every message. CDP_BAD_MODEL with line and column. The caller closes
 * it; a template may be rendered by several threads at once. */
cdp_status cdp_chat_template_open(cdp_chat_template **out, const char *name, const char *text, size_t n);
void cdp_chat_template_close(cdp_chat_template *t); /* NULL is fine */

/* What the template sees under `name`: a value as JSON text. Numbers keep their form (1 and 1.0 differ),
 * objects their order. */
typedef struct cdp_variable {
    const char *name;
    const char *json;
    size_t n_json;
    const char *file; /* where it was read from, for messages; NULL: they call it by its name */
    bool is_own;      /* the model's own words, not data: may become special tokens */
    /* A list of messages, which transformers completes before it renders them: the first that is not null of
     * reasoning_content, thinking and reasoning becomes reasoning_content, and thinking where that is not
     * there. */
    bool is_messages;
} cdp_variable;

/* The clock of strftime_now, as local time reads. */
typedef struct cdp_clock {
    int year, month, day, hour, minute, second; /* month and day from 1 */
} cdp_clock;

/* Now; or what CDPIPE_NOW says ("2026-03-07T15:04:05"), CDP_USAGE when it says something else. */
cdp_status cdp_clock_read(cdp_clock *out);

typedef struct cdp_rendered {
    char *text; /* n bytes and a NUL */
    size_t n;
    cdp_spans own; /* ascending, disjoint: the bytes that are the template's own */
} cdp_rendered;

/* Render; the caller gives *out back with cdp_rendered_close, also after a failure. CDP_BAD_DATA: what
 * raise_exception says, word for word (a sentence of ours where it says nothing), or a fault with line and
 * column. */
cdp_status cdp_chat_template_render(const cdp_chat_template *t, const cdp_variable *variables,
                                    int n_variables, const cdp_clock *clock, cdp_rendered *out);
void cdp_rendered_close(cdp_rendered *rendered);
