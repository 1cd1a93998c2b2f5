/* launcher/completion/prompt.h - the text a command works on: --prompt, --prompt-file, --prompt-ids or
 * stdin. */
#pragma once

#include "comm/world.h"
#include "launcher/options/options.h"
#include "launcher/template/chat.h"
#include "launcher/text/tokenizer.h"
#include "planner/model_card.h"

typedef struct cdp_prompt {
    char *text; /* NULL when ids were given */
    size_t n_text;
    int32_t *ids;
    size_t n_ids;
} cdp_prompt;

/* Read the text (not the ids) into *out. CDP_NO_INPUT when a file cannot be read, CDP_USAGE when there is
 * nothing to read and stdin is a terminal. While stdin has nothing yet the world, if there is one, is polled.
 */
cdp_status cdp_prompt_read(cdp_prompt *out, const cdp_options *options, cdp_world *world);

/* The text as one message of a user (behind --system) through the model's chat template. False in *done_out
 * when there is nothing to apply: --raw, ids, or a model without a template that can be used, which is said.
 * CDP_BAD_DATA when the template refuses, CDP_USAGE when --system has no template to go through. */
cdp_status cdp_prompt_encode_chat(cdp_prompt *prompt, const cdp_options *options,
                                  const cdp_tokenizer *tokenizer, const cdp_model_card *card, bool *done_out);

/* A conversation to ids through the model's template, checked against the vocabulary. CDP_BAD_DATA when the
 * template refuses it. */
cdp_status cdp_prompt_encode_conversation(cdp_prompt *prompt, const cdp_conversation *conversation,
                                          const cdp_chat *chat, const cdp_tokenizer *tokenizer,
                                          const cdp_model_card *card);

/* Text or ids to ids, checked against the vocabulary. tokenizer may be NULL when ids were given; without one
 * a text is CDP_NO_INPUT. An empty prompt becomes bos where the model has one, else CDP_BAD_DATA. */
cdp_status cdp_prompt_encode(cdp_prompt *prompt, const cdp_options *options, const cdp_tokenizer *tokenizer,
                             const cdp_model_card *card);

void cdp_prompt_close(cdp_prompt *prompt);
