/* Filters of texts and numbers. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/template/evaluate.h"

static bool flag(tpl_value v) {
    return tpl_given(v) && tpl_truth(v);
}

static tpl_value upper(tpl_machine *m, tpl_call *call) {
    return tpl_upper(m, tpl_string(m, call->self));
}
static tpl_value lower(tpl_machine *m, tpl_call *call) {
    return tpl_lower(m, tpl_string(m, call->self));
}
static tpl_value capitalize(tpl_machine *m, tpl_call *call) {
    return tpl_capitalize(m, tpl_string(m, call->self));
}
static tpl_value title(tpl_machine *m, tpl_call *call) {
    return tpl_title_words(m, tpl_string(m, call->self));
}
static tpl_value string(tpl_machine *m, tpl_call *call) {
    return tpl_string(m, call->self);
}

/* A method of texts on whatever is a text once it is printed. */
static tpl_value as_method(tpl_machine *m, const char *name, tpl_value self, size_t n,
                           const tpl_value *values) {
    const tpl_args args = {.n = n, .values = values};
    return tpl_call_row(m, tpl_find_row(tpl_text_method_rows, name, strlen(name)), tpl_string(m, self),
                        &args);
}

static tpl_value trim(tpl_machine *m, tpl_call *call) {
    return as_method(m, "strip", call->self, tpl_given(call->a[0]), call->a);
}
static tpl_value center(tpl_machine *m, tpl_call *call) {
    const tpl_value width = tpl_given(call->a[0]) ? call->a[0] : tpl_int(80);
    return as_method(m, "center", call->self, 1, &width);
}

static tpl_value replace(tpl_machine *m, tpl_call *call) {
    const bool has_limit = tpl_given(call->a[2]) && call->a[2].kind != TPL_NONE;
    return tpl_replace(m, tpl_string(m, call->self), tpl_string(m, call->a[0]), tpl_string(m, call->a[1]),
                       has_limit ? tpl_int_argument(m, call->a[2], -1) : -1);
}

static tpl_value safe(tpl_machine *m, tpl_call *call) {
    tpl_value v = tpl_string(m, call->self);
    v.is_safe = true;
    return v;
}
static tpl_value escape(tpl_machine *m, tpl_call *call) {
    return tpl_escape(m, tpl_string(m, call->self));
}
static tpl_value force_escape(tpl_machine *m, tpl_call *call) {
    tpl_value v = tpl_string(m, call->self);
    v.is_safe = false;
    return tpl_escape(m, v);
}

static tpl_value format(tpl_machine *m, tpl_call *call) {
    tpl_value values = tpl_items_value(TPL_TUPLE, call->args->values, call->args->n);
    if (call->args->n_named > 0 && call->args->n > 0)
        tpl_fail(m, "format takes values by position or by name, not both");
    if (call->args->n_named > 0) {
        values = tpl_dict_new(m, call->args->n_named);
        for (size_t i = 0; i < call->args->n_named; i++)
            tpl_dict_put(m, values.dict, call->args->names[i], call->args->named[i]);
    }
    return tpl_format_percent(m, tpl_string(m, call->self), values);
}

/* Lines behind the first one (all with `first`) begin with `indention`; empty ones only with `blank`. */
static tpl_value indent(tpl_machine *m, tpl_call *call) {
    tpl_builder b = tpl_builder_of(m), blanks = tpl_builder_of(m), whole = tpl_builder_of(m);
    tpl_value indention = call->a[0];
    if (indention.kind != TPL_TEXT) {
        const int64_t width = tpl_int_argument(m, call->a[0], 4);
        tpl_add_repeated(&blanks, tpl_word(" "), width > 0 ? (size_t)width : 0);
        indention = tpl_built(&blanks);
    }
    tpl_add_text(&whole, tpl_string(m, call->self));
    tpl_add_word(&whole, "\n", true); /* the reference does so too: an empty text has one line */
    const tpl_value lines = tpl_call_row(m, tpl_find_row(tpl_text_method_rows, "splitlines", 10),
                                         tpl_built(&whole), &(tpl_args){0});
    for (size_t i = 0; i < lines.n; i++) {
        const bool is_indented = i == 0 ? flag(call->a[1]) : lines.items[i].n > 0 || flag(call->a[2]);
        if (i > 0)
            tpl_add_word(&b, "\n", true);
        if (is_indented)
            tpl_add_text(&b, indention);
        tpl_add_text(&b, lines.items[i]);
    }
    return tpl_built(&b);
}

static tpl_value truncate_(tpl_machine *m, tpl_call *call) {
    const tpl_value text = tpl_string(m, call->self), end = tpl_text_argument(m, call->a[2], "...");
    const int64_t length = tpl_int_argument(m, call->a[0], 255), leeway = tpl_int_argument(m, call->a[3], 5),
                  n = (int64_t)tpl_text_length(m, text), n_end = (int64_t)tpl_text_length(m, end);
    if (length < n_end || leeway < 0)
        tpl_fail(m, "truncate needs room for its end");
    if (n <= length || n - length <= leeway)
        return text;
    tpl_builder b = tpl_builder_of(m);
    size_t cut = tpl_text_offset(text, (size_t)(length - n_end));
    const size_t blank =
        flag(call->a[1]) ? SIZE_MAX : tpl_text_rfind(tpl_text_slice(text, 0, cut), tpl_word(" "), SIZE_MAX);
    tpl_add_slice(&b, text, 0, blank != SIZE_MAX ? blank : cut);
    tpl_add_text(&b, end);
    return tpl_built(&b);
}

static tpl_value wordcount(tpl_machine *m, tpl_call *call) {
    const tpl_value text = tpl_string(m, call->self);
    const tpl_row *is_word = tpl_find_row(tpl_text_method_rows, "isalnum", 7);
    bool is_inside = false;
    int64_t n = 0;
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at)) {
        const tpl_value one = tpl_text_slice(text, at, tpl_text_next(text, at));
        const bool is_now = tpl_is(one, "_") || tpl_truth(tpl_call_row(m, is_word, one, &(tpl_args){0}));
        n += is_now && !is_inside;
        is_inside = is_now;
    }
    return tpl_int(n);
}

static tpl_value default_(tpl_machine *m, tpl_call *call) {
    const bool is_missing = call->self.kind == TPL_UNDEFINED || (flag(call->a[1]) && !tpl_truth(call->self));
    (void)m;
    return !is_missing ? call->self : tpl_given(call->a[0]) ? call->a[0] : tpl_word("");
}

/* A text without blanks around and without _ between digits, as C reads numbers; false when too long. */
static bool number_text(tpl_machine *m, tpl_value v, char *out, size_t room) {
    const tpl_value text = tpl_call_row(m, tpl_find_row(tpl_text_method_rows, "strip", 5), v, &(tpl_args){0});
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        const bool is_between = i > 0 && i + 1 < text.n && text.bytes[i] == '_' && text.bytes[i - 1] != '_';
        if (n + 1 >= room)
            return false;
        if (!is_between)
            out[n++] = text.bytes[i];
    }
    out[n] = '\0';
    return n > 0;
}

static bool read_float(tpl_machine *m, tpl_value v, double *out) {
    char text[400], *end;
    if (tpl_is_number(v)) {
        *out = tpl_real(v);
        return true;
    }
    if (v.kind != TPL_TEXT || !number_text(m, v, text, sizeof text) || strpbrk(text, "xXpP(") != NULL)
        return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static bool read_int(tpl_machine *m, tpl_value v, int base, int64_t *out) {
    char text[100], *end;
    if (!number_text(m, v, text, sizeof text))
        return false;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    const char letter = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : '\0';
    char plain[100];
    snprintf(plain, sizeof plain, "%s%s", text[0] == '-' ? "-" : "",
             digits + (letter != '\0' && digits[0] == '0' && (digits[1] | 32) == letter ? 2 : 0));
    errno = 0;
    *out = strtoll(plain, &end, base);
    if (errno == ERANGE)
        tpl_fail(m, "a whole number beyond 64 bits");
    return *end == '\0' && end != plain && plain[0] != ' ';
}

static tpl_value int_(tpl_machine *m, tpl_call *call) {
    const tpl_value v = call->self, otherwise = tpl_given(call->a[0]) ? call->a[0] : tpl_int(0);
    const int64_t base = tpl_int_argument(m, call->a[1], 10);
    int64_t whole;
    double real;
    tpl_need(m, v);
    if (base < 2 || base > 36)
        tpl_fail(m, "int takes a base from 2 to 36");
    if (tpl_is_whole(v))
        whole = tpl_whole(v);
    else if (v.kind == TPL_TEXT && read_int(m, v, (int)base, &whole))
        ;
    else if (read_float(m, v, &real) && fabs(real) < 0x1p63)
        whole = (int64_t)real;
    else
        return otherwise;
    tpl_value out = tpl_int(whole);
    out.is_own = v.is_own && v.marks == NULL;
    return out;
}

static tpl_value float_(tpl_machine *m, tpl_call *call) {
    double real;
    tpl_need(m, call->self);
    if (!read_float(m, call->self, &real))
        return tpl_given(call->a[0]) ? call->a[0] : tpl_float(0.0);
    tpl_value out = tpl_float(real);
    out.is_own = call->self.is_own && call->self.marks == NULL;
    return out;
}

static tpl_value need_number(tpl_machine *m, tpl_value v, const char *name) {
    tpl_need(m, v);
    if (!tpl_is_number(v))
        tpl_fail(m, "%s needs a number, not %s", name, tpl_type(v));
    return v;
}

static tpl_value abs_(tpl_machine *m, tpl_call *call) {
    const tpl_value v = need_number(m, call->self, "abs");
    return tpl_real(v) < 0 ? tpl_negate(m, v, true) : v.kind == TPL_BOOL ? tpl_int(v.b) : v;
}

static tpl_value round_(tpl_machine *m, tpl_call *call) {
    const tpl_value v = need_number(m, call->self, "round"),
                    method = tpl_text_argument(m, call->a[1], "common");
    const int64_t places = tpl_int_argument(m, call->a[0], 0);
    char text[400];
    if (places < 0 || places > 20)
        tpl_fail(m, "round takes from 0 to 20 places");
    const double scale = pow(10, (double)places);
    if (tpl_is(method, "ceil"))
        return tpl_float(ceil(tpl_real(v) * scale) / scale);
    if (tpl_is(method, "floor"))
        return tpl_float(floor(tpl_real(v) * scale) / scale);
    if (!tpl_is(method, "common"))
        tpl_fail(m, "round knows the methods common, ceil and floor");
    if (tpl_is_whole(v))
        return tpl_int(tpl_whole(v));
    snprintf(text, sizeof text, "%.*f", (int)places, v.f);
    return tpl_float(strtod(text, NULL));
}

static tpl_value tojson(tpl_machine *m, tpl_call *call) {
    tpl_builder b = tpl_builder_of(m), blanks = tpl_builder_of(m);
    const tpl_value indention = call->a[1], separators = call->a[2];
    tpl_json_style style = {.escapes_unicode = flag(call->a[0]),
                            .sorts_keys = flag(call->a[3]),
                            .is_indented = tpl_given(indention) && indention.kind != TPL_NONE,
                            .indent = indention,
                            .key_separator = tpl_word(": ")};
    style.item_separator = tpl_word(style.is_indented ? "," : ", ");
    if (style.is_indented && indention.kind != TPL_TEXT) {
        const int64_t width = tpl_int_argument(m, indention, 0);
        tpl_add_repeated(&blanks, tpl_word(" "), width > 0 ? (size_t)width : 0);
        style.indent = tpl_built(&blanks);
    }
    if (tpl_given(separators) && separators.kind != TPL_NONE) {
        if ((separators.kind != TPL_TUPLE && separators.kind != TPL_LIST) || separators.n != 2)
            tpl_fail(m, "separators of tojson are two texts");
        style.has_separators = true;
        style.item_separator = tpl_text_argument(m, separators.items[0], "");
        style.key_separator = tpl_text_argument(m, separators.items[1], "");
    }
    tpl_print_json(&b, call->self, &style);
    return tpl_built(&b);
}

const tpl_row tpl_filter_rows[] = {
    {"abs", abs_, "", 0},
    {"capitalize", capitalize, "", 0},
    {"center", center, "width", 0},
    {"d", default_, "default_value boolean", 0},
    {"default", default_, "default_value boolean", 0},
    {"e", escape, "", 0},
    {"escape", escape, "", 0},
    {"float", float_, "default", 0},
    {"forceescape", force_escape, "", 0},
    {"format", format, "*", 0},
    {"indent", indent, "width first blank", 0},
    {"int", int_, "default base", 0},
    {"lower", lower, "", 0},
    {"replace", replace, "old new count", 2},
    {"round", round_, "precision method", 0},
    {"safe", safe, "", 0},
    {"string", string, "", 0},
    {"title", title, "", 0},
    {"tojson", tojson, "ensure_ascii indent separators sort_keys", 0},
    {"trim", trim, "chars", 0},
    {"truncate", truncate_, "length killwords end leeway", 0},
    {"upper", upper, "", 0},
    {"wordcount", wordcount, "", 0},
    {"attr", NULL, "*", 0},
    {"filesizeformat", NULL, "*", 0},
    {"pprint", NULL, "*", 0},
    {"striptags", NULL, "*", 0},
    {"urlencode", NULL, "*", 0},
    {"urlize", NULL, "*", 0},
    {"wordwrap", NULL, "*", 0},
    {"xmlattr", NULL, "*", 0},
    {0},
};
