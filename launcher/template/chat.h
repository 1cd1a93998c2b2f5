/* launcher/template/chat.h - the chat template of a model folder: messages to text, or straight to ids.
 *
 *     chat_template.jinja, else tokenizer_config.json's chat_template (a text, or a list of named ones)
 *       + the special tokens that tokenizer_config.json names (bos_token, eos_token, image_token, ...)
 *       + messages, tools  --> text --> ids, special tokens only where the template itself wrote them
 */
#pragma once

#include "launcher/template/template.h"
#include "launcher/text/tokenizer.h"

typedef struct cdp_chat cdp_chat;

/* True when the folder brings a template, usable or not. */
bool cdp_chat_exists(const char *dir);

/* Open the templates of a folder. CDP_BAD_MODEL when one cannot be parsed, CDP_NO_INPUT when there is none.
 * The caller closes it; conversations may be rendered by several threads at once. */
cdp_status cdp_chat_open(cdp_chat **out, const char *dir);
void cdp_chat_close(cdp_chat *chat); /* NULL is fine */

/* What is rendered. Nothing is owned. */
typedef struct cdp_conversation {
    const char *messages; /* JSON: a list of {"role", "content", ...} */
    size_t n_messages;    /* bytes */
    const char *tools;    /* JSON: a list, or NULL */
    size_t n_tools;
    const char *messages_file, *tools_file; /* the files they come from, for messages, or NULL */
    bool has_no_generation_prompt;          /* leave out what opens the assistant's answer */
    const cdp_variable *more;               /* further variables; they win over all others of their name */
    int n_more;
} cdp_conversation;

/* The text; given back with cdp_rendered_close, also after a failure. CDP_BAD_DATA: the template refuses the
 * conversation, in its own words, or `messages` is no list of objects. */
cdp_status cdp_chat_render(const cdp_chat *chat, const cdp_conversation *conversation, cdp_rendered *out);

/* Its ids. The template writes bos itself where it wants one, so none is added. The caller frees *ids_out. */
cdp_status cdp_chat_encode(const cdp_chat *chat, const cdp_conversation *conversation,
                           const cdp_tokenizer *tokenizer, int32_t **ids_out, size_t *n_ids_out);

/* The ids of a rendered text: special tokens are found where all their bytes are the template's own. */
cdp_status cdp_rendered_encode(const cdp_rendered *rendered, const cdp_tokenizer *tokenizer,
                               int32_t **ids_out, size_t *n_ids_out);
