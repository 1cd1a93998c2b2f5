#include "launcher/template/print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void tpl_float_text(char *out, double f) {
    char digits[40];
    int n_digits = 1, exponent;
    if (!isfinite(f)) {
        snprintf(out, 32, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    do /* the fewest digits that read back as the same number */
        snprintf(digits, sizeof digits, "%.*e", n_digits - 1, f);
    while (strtod(digits, NULL) != f && ++n_digits <= 17);
    exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        const int places = n_digits - 1 - exponent;
        snprintf(out, 32, "%.*f", places > 1 ? places : 1, f);
    } else {
        snprintf(out, 32, "%.31s", digits);
    }
}

static void print_number(tpl_builder *b, tpl_value v) {
    char text[32];
    if (v.kind == TPL_FLOAT)
        tpl_float_text(text, v.f);
    else
        snprintf(text, sizeof text, "%" PRId64, v.i);
    tpl_add_word(b, text, v.is_own);
}

/* Python escapes what is not printable: controls, formats, unassigned, private, blanks but the space. */
static bool is_printable(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code == ' ';
    default:
        return true;
    }
}

static void repr_code(tpl_builder *b, tpl_value text, size_t at, char quote) {
    const uint32_t code = tpl_text_code(text, at);
    const bool is_own = tpl_is_own_at(text, at);
    char escaped[16] = "";
    if (code == '\\' || code == (unsigned char)quote)
        snprintf(escaped, sizeof escaped, "\\%c", (char)code);
    else if (code == '\n' || code == '\r' || code == '\t')
        snprintf(escaped, sizeof escaped, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    else if (!is_printable(code))
        snprintf(escaped, sizeof escaped,
                 code < 0x100     ? "\\x%02x"
                 : code < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                 (unsigned)code);
    if (escaped[0] != '\0')
        tpl_add_word(b, escaped, is_own);
    else
        tpl_add_slice(b, text, at, tpl_text_next(text, at));
}

static void repr_text(tpl_builder *b, tpl_value text) {
    const bool has_single = memchr(text.bytes, '\'', text.n) != NULL;
    const bool has_double = memchr(text.bytes, '"', text.n) != NULL;
    const char quote = has_single && !has_double ? '"' : '\'';
    const bool is_own = text.is_own && text.marks == NULL;
    tpl_add_bytes(b, &quote, 1, is_own);
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at))
        repr_code(b, text, at, quote);
    tpl_add_bytes(b, &quote, 1, is_own);
}

static void repr_items(tpl_builder *b, tpl_value v, const char *open, const char *close) {
    tpl_add_word(b, open, v.is_own);
    for (size_t i = 0; i < v.n; i++) {
        if (i > 0)
            tpl_add_word(b, ", ", v.is_own);
        tpl_repr(b, v.items[i]);
    }
    tpl_add_word(b, v.kind == TPL_TUPLE && v.n == 1 ? ",)" : close, v.is_own);
}

static void repr_dict(tpl_builder *b, tpl_value v) {
    tpl_add_word(b, "{", v.is_own);
    for (size_t i = 0; i < v.dict->n; i++) {
        if (i > 0)
            tpl_add_word(b, ", ", v.is_own);
        tpl_repr(b, v.dict->keys[i]);
        tpl_add_word(b, ": ", v.is_own);
        tpl_repr(b, v.dict->values[i]);
    }
    tpl_add_word(b, "}", v.is_own);
}

void tpl_repr(tpl_builder *b, tpl_value v) {
    tpl_enter(b->m);
    switch (v.kind) {
    case TPL_UNDEFINED:
        tpl_add_word(b, "Undefined", v.is_own);
        break;
    case TPL_NONE:
        tpl_add_word(b, "None", v.is_own);
        break;
    case TPL_BOOL:
        tpl_add_word(b, v.b ? "True" : "False", v.is_own);
        break;
    case TPL_INT:
    case TPL_FLOAT:
        print_number(b, v);
        break;
    case TPL_TEXT:
        repr_text(b, v);
        break;
    case TPL_LIST:
        repr_items(b, v, "[", "]");
        break;
    case TPL_TUPLE:
        repr_items(b, v, "(", ")");
        break;
    case TPL_DICT:
        repr_dict(b, v);
        break;
    default:
        tpl_fail(b->m, "%s cannot be printed: the reference would show an address", tpl_type(v));
    }
    tpl_leave(b->m);
}

void tpl_print(tpl_builder *b, tpl_value v) {
    if (v.kind == TPL_TEXT)
        tpl_add_text(b, v);
    else if (v.kind == TPL_UNDEFINED && v.why == TPL_UNSAFE)
        return; /* as any undefined: harmless until it is used */
    else if (v.kind != TPL_UNDEFINED)
        tpl_repr(b, v);
}

tpl_value tpl_string(tpl_machine *m, tpl_value v) {
    tpl_builder b = tpl_builder_of(m);
    if (v.kind == TPL_TEXT)
        return v;
    tpl_print(&b, v);
    return tpl_built(&b);
}
