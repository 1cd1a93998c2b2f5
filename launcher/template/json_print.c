/* JSON as Python's json.dumps writes it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launcher/template/print.h"
#include "launcher/template/sort.h"

static void add_escape(tpl_builder *b, uint32_t code, bool is_own) {
    char text[16];
    if (code >= 0x10000)
        snprintf(text, sizeof text, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((code - 0x10000) >> 10)),
                 (unsigned)(0xDC00 + ((code - 0x10000) & 0x3FF)));
    else
        snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
    tpl_add_word(b, text, is_own);
}

static void print_code(tpl_builder *b, tpl_value text, size_t at, const tpl_json_style *style) {
    static const char shorts[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    const uint32_t code = tpl_text_code(text, at);
    const bool is_own = tpl_is_own_at(text, at);
    const char *found = code != 0 && code < 0x80 ? strchr(shorts, (int)code) : NULL;
    if (found != NULL) {
        const char escaped[2] = {'\\', letters[found - shorts]};
        tpl_add_bytes(b, escaped, 2, is_own);
    } else if (code < 0x20 || (code > 0x7F && style->escapes_unicode)) {
        add_escape(b, code, is_own);
    } else {
        tpl_add_slice(b, text, at, tpl_text_next(text, at));
    }
}

static void print_text(tpl_builder *b, tpl_value text, const tpl_json_style *style) {
    const bool is_own = text.is_own && text.marks == NULL;
    tpl_add_word(b, "\"", is_own);
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at))
        print_code(b, text, at, style);
    tpl_add_word(b, "\"", is_own);
}

static void print_scalar(tpl_builder *b, tpl_value v) {
    if (v.kind == TPL_FLOAT && !isfinite(v.f))
        tpl_add_word(b, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity", v.is_own);
    else if (v.kind == TPL_NONE || v.kind == TPL_BOOL)
        tpl_add_word(b, v.kind == TPL_NONE ? "null" : v.b ? "true" : "false", v.is_own);
    else
        tpl_print(b, v);
}

/* Keys are texts; other scalars become what they look like in JSON. */
static void print_key(tpl_builder *b, tpl_value key, const tpl_json_style *style) {
    if (key.kind == TPL_TEXT) {
        print_text(b, key, style);
        return;
    }
    if (key.kind != TPL_NONE && !tpl_is_number(key))
        tpl_fail(b->m, "%s cannot be a key in JSON", tpl_type(key));
    tpl_add_word(b, "\"", key.is_own);
    print_scalar(b, key);
    tpl_add_word(b, "\"", key.is_own);
}

static void new_line(tpl_builder *b, const tpl_json_style *style, size_t level, bool is_own) {
    if (!style->is_indented)
        return;
    tpl_add_word(b, "\n", is_own);
    tpl_add_repeated(b, style->indent, level);
}

static void separate(tpl_builder *b, tpl_value separator, const tpl_json_style *style, bool is_own) {
    separator.is_own = style->has_separators ? separator.is_own : is_own;
    tpl_add_text(b, separator);
}

static void print_value(tpl_builder *b, tpl_value v, const tpl_json_style *style, size_t level);

static void print_dict(tpl_builder *b, tpl_value v, const tpl_json_style *style, size_t level) {
    const size_t *order = style->sorts_keys ? tpl_sort(b->m, v.dict->keys, v.dict->n, false) : NULL;
    tpl_add_word(b, "{", v.is_own);
    for (size_t i = 0; i < v.dict->n; i++) {
        const size_t at = order != NULL ? order[i] : i;
        if (i > 0)
            separate(b, style->item_separator, style, v.is_own);
        new_line(b, style, level + 1, v.is_own);
        print_key(b, v.dict->keys[at], style);
        separate(b, style->key_separator, style, v.is_own);
        print_value(b, v.dict->values[at], style, level + 1);
    }
    if (v.dict->n > 0)
        new_line(b, style, level, v.is_own);
    tpl_add_word(b, "}", v.is_own);
}

static void print_list(tpl_builder *b, tpl_value v, const tpl_json_style *style, size_t level) {
    tpl_add_word(b, "[", v.is_own);
    for (size_t i = 0; i < v.n; i++) {
        if (i > 0)
            separate(b, style->item_separator, style, v.is_own);
        new_line(b, style, level + 1, v.is_own);
        print_value(b, v.items[i], style, level + 1);
    }
    if (v.n > 0)
        new_line(b, style, level, v.is_own);
    tpl_add_word(b, "]", v.is_own);
}

static void print_value(tpl_builder *b, tpl_value v, const tpl_json_style *style, size_t level) {
    tpl_enter(b->m);
    switch (v.kind) {
    case TPL_NONE:
    case TPL_BOOL:
    case TPL_INT:
    case TPL_FLOAT:
        print_scalar(b, v);
        break;
    case TPL_TEXT:
        print_text(b, v, style);
        break;
    case TPL_LIST:
    case TPL_TUPLE:
        print_list(b, v, style, level);
        break;
    case TPL_DICT:
        print_dict(b, v, style, level);
        break;
    default:
        tpl_fail(b->m, "%s cannot be written as JSON", tpl_type(v));
    }
    tpl_leave(b->m);
}

void tpl_print_json(tpl_builder *b, tpl_value v, const tpl_json_style *style) {
    print_value(b, v, style, 0);
}
