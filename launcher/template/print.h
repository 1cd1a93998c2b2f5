/* launcher/template/print.h - values as text: as `{{ }}` prints them, as they look inside a list, as JSON. */
#pragma once

#include "launcher/template/text.h"

/* str(v). Fails on what has only an address to show. */
void tpl_print(tpl_builder *b, tpl_value v);
tpl_value tpl_string(tpl_machine *m, tpl_value v);

/* repr(v) */
void tpl_repr(tpl_builder *b, tpl_value v);

/* Python's shortest decimal that reads back as f: 1e+16, 1000000000000000.0, 2.5. out holds 32 bytes. */
void tpl_float_text(char *out, double f);

typedef struct tpl_json_style {
    bool escapes_unicode, sorts_keys, is_indented;
    bool has_separators; /* given by the template; else they belong to what they separate */
    tpl_value indent;    /* text, of one level */
    tpl_value item_separator, key_separator;
} tpl_json_style;

void tpl_print_json(tpl_builder *b, tpl_value v, const tpl_json_style *style);

/* A value from JSON text. is_own: its texts and numbers are the model's own. */
tpl_value tpl_parse_json(tpl_machine *m, const char *text, size_t n, const char *what, bool is_own);
