/* launcher/template/lexer_literals.h - strings and numbers of a template's expressions. */
#pragma once

#include "launcher/template/text.h"

/* The literal that begins at *at of source[0, n); *at moves behind it. */
tpl_value tpl_lex_string(tpl_machine *m, const char *source, size_t n, size_t *at);
tpl_value tpl_lex_number(tpl_machine *m, const char *source, size_t n, size_t *at);
