/* launcher/template/lexer.h - a template as tokens.
 *
 *     text {% block %} text {{ print }} text {# comment #}
 *
 * Blanks are taken as transformers sets Jinja: trim_blocks takes the newline behind a block or comment,
 * lstrip_blocks the blanks before one that stands first on its line; `-` takes all white space on its side,
 * `+` none. \r\n and \r are \n; one newline at the end is dropped.
 */
#pragma once

#include "launcher/template/text.h"

typedef enum tpl_token_kind {
    TPL_T_TEXT,
    TPL_T_BLOCK, /* {% */
    TPL_T_BLOCK_END,
    TPL_T_PRINT, /* {{ */
    TPL_T_PRINT_END,
    TPL_T_NAME,
    TPL_T_STRING,
    TPL_T_NUMBER,
    TPL_T_SIGN, /* an operator or bracket */
    TPL_T_END,
} tpl_token_kind;

typedef struct tpl_token {
    tpl_token_kind kind;
    size_t at;       /* byte in the source */
    tpl_value value; /* text, decoded string, number; the spelling of names and signs */
} tpl_token;

/* All tokens, the last one TPL_T_END. m->source is the normalised source. */
tpl_token *tpl_lex(tpl_machine *m, size_t *n_out);

/* The source with \n for every line end and without the last one, in the arena: m->source. Fails on bytes
 * that are no UTF-8 text. */
void tpl_lex_normalize(tpl_machine *m, const char *text, size_t n);
