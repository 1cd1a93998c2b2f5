/* "%s of %d" % values, and "{} of {name:>5}".format(values): the plain half of Python's two languages. What
 * goes beyond is refused by name. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/template/evaluate.h"

typedef struct percent {
    bool is_left, has_zeros, has_plus, has_blank, has_form, has_precision;
    int width, precision;
    char letter;
} percent;

static int number_at(tpl_machine *m, tpl_value text, size_t *at) {
    int number = 0;
    while (*at < text.n && isdigit((unsigned char)text.bytes[*at])) {
        number = number * 10 + (text.bytes[(*at)++] - '0');
        if (number > TPL_MAX_RANGE)
            tpl_fail(m, "a width of more than %d", TPL_MAX_RANGE);
    }
    return number;
}

/* The flags, width, precision and letter behind % and its (name). */
static percent read_percent(tpl_machine *m, tpl_value format, size_t *at) {
    percent p = {0};
    for (; *at < format.n && strchr("-0+ #", format.bytes[*at]) != NULL; (*at)++) {
        p.is_left = p.is_left || format.bytes[*at] == '-';
        p.has_zeros = p.has_zeros || format.bytes[*at] == '0';
        p.has_plus = p.has_plus || format.bytes[*at] == '+';
        p.has_blank = p.has_blank || format.bytes[*at] == ' ';
        p.has_form = p.has_form || format.bytes[*at] == '#';
    }
    p.width = number_at(m, format, at);
    if (*at < format.n && format.bytes[*at] == '.') {
        (*at)++;
        p.has_precision = true;
        p.precision = number_at(m, format, at);
    }
    if (*at >= format.n)
        tpl_fail(m, "a format that ends inside of %%");
    p.letter = format.bytes[(*at)++];
    return p;
}

static void pad(tpl_builder *b, tpl_value text, size_t width, bool is_left, tpl_value fill) {
    const size_t n = tpl_text_length(b->m, text), missing = width > n ? width - n : 0;
    if (!is_left)
        tpl_add_repeated(b, fill, missing);
    tpl_add_text(b, text);
    if (is_left)
        tpl_add_repeated(b, fill, missing);
}

static void add_text(tpl_builder *b, const percent *p, tpl_value text) {
    if (p->has_precision)
        text = tpl_text_slice(text, 0, tpl_text_offset(text, (size_t)p->precision));
    pad(b, text, (size_t)p->width, p->is_left, tpl_word(" "));
}

static void add_number(tpl_builder *b, const percent *p, tpl_value v) {
    char spec[16], text[512];
    const bool is_real = strchr("eEfFgG", p->letter) != NULL;
    tpl_need(b->m, v);
    if (!tpl_is_number(v) || (strchr("xXo", p->letter) != NULL && !tpl_is_whole(v)))
        tpl_fail(b->m, "%%%c needs a number, not %s", p->letter, tpl_type(v));
    if (p->precision > 100 ||
        (!is_real && (p->has_precision || p->has_form || (p->letter != 'd' && tpl_real(v) < 0))))
        tpl_fail(b->m, "a format of numbers that is not supported");
    const char letter = p->letter == 'i' || p->letter == 'u' ? 'd' : p->letter;
    snprintf(spec, sizeof spec, "%%%s%s%s%s",
             p->has_plus    ? "+"
             : p->has_blank ? " "
                            : "",
             is_real ? ".*" : "", is_real ? "" : "ll", (const char[]){letter, '\0'});
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (is_real)
        snprintf(text, sizeof text, spec, p->has_precision ? p->precision : 6, tpl_real(v));
    else
        snprintf(text, sizeof text, spec, v.kind == TPL_FLOAT ? (long long)v.f : (long long)tpl_whole(v));
#pragma GCC diagnostic pop
    const size_t n = strlen(text), sign = strchr("+- ", text[0]) != NULL && text[0] != '\0';
    const bool fills_zeros = p->has_zeros && !p->is_left;
    tpl_builder number = tpl_builder_of(b->m);
    if (fills_zeros) {
        tpl_add_bytes(&number, text, sign, v.is_own);
        tpl_add_repeated(&number, tpl_word("0"), (size_t)p->width > n ? (size_t)p->width - n : 0);
        tpl_add_bytes(&number, text + sign, n - sign, v.is_own);
    } else {
        tpl_add_bytes(&number, text, n, v.is_own);
    }
    pad(b, tpl_built(&number), (size_t)p->width, p->is_left, tpl_word(" "));
}

static void add_percent(tpl_builder *b, const percent *p, tpl_value v) {
    if (p->letter == 's') {
        add_text(b, p, tpl_string(b->m, v));
    } else if (p->letter == 'r') {
        tpl_builder shown = tpl_builder_of(b->m);
        tpl_repr(&shown, v);
        add_text(b, p, tpl_built(&shown));
    } else if (p->letter != '\0' && strchr("diuxXoeEfFgG", p->letter) != NULL) {
        add_number(b, p, v);
    } else {
        tpl_fail(b->m, "a format letter that is not supported");
    }
}

/* %(name)s: the value of that key. */
static const tpl_value *keyed(tpl_machine *m, tpl_value format, size_t *at, tpl_value values) {
    const size_t close = tpl_text_find(format, tpl_word(")"), *at);
    if (close == SIZE_MAX || values.kind != TPL_DICT)
        tpl_fail(m, "%%(name) needs its bracket and a dict");
    const tpl_value *found = tpl_dict_find(m, values.dict, tpl_text_slice(format, *at + 1, close));
    if (found == NULL)
        tpl_fail(m, "the dict has no such key");
    *at = close + 1;
    return found;
}

tpl_value tpl_format_percent(tpl_machine *m, tpl_value format, tpl_value values) {
    tpl_builder b = tpl_builder_of(m);
    const bool is_tuple = values.kind == TPL_TUPLE;
    const size_t n = is_tuple ? values.n : 1;
    size_t next = 0;
    bool is_keyed = false;
    for (size_t at = 0; at < format.n;) {
        const size_t found = tpl_text_find(format, tpl_word("%"), at);
        tpl_add_slice(&b, format, at, found != SIZE_MAX ? found : format.n);
        if (found == SIZE_MAX)
            break;
        at = found + 1;
        const tpl_value *value = NULL;
        if (at < format.n && format.bytes[at] == '(') {
            value = keyed(m, format, &at, values);
            is_keyed = true;
        }
        const percent p = read_percent(m, format, &at);
        if (p.letter == '%') {
            tpl_add_slice(&b, format, at - 1, at);
            continue;
        }
        if (value == NULL && next >= n)
            tpl_fail(m, "not enough values for the format");
        if (value == NULL)
            value = is_tuple ? &values.items[next] : &values;
        next += !is_keyed;
        add_percent(&b, &p, *value);
    }
    if (next < n && !is_keyed && values.kind != TPL_DICT)
        tpl_fail(m, "not all values of the format are used");
    return tpl_built(&b);
}

/* The value of a field's first part: "", "0" or "name". */
static tpl_value argument(tpl_machine *m, const tpl_args *args, tpl_value name, size_t *next) {
    size_t number = *next;
    if (name.n > 0 && !isdigit((unsigned char)name.bytes[0])) {
        for (size_t i = 0; i < args->n_named; i++)
            if (tpl_equal(m, args->names[i], name))
                return args->named[i];
        tpl_fail(m, "format has no value '%.*s'", (int)(name.n < 40 ? name.n : 40), name.bytes);
    }
    if (name.n == 0) {
        (*next)++;
    } else {
        size_t at = 0;
        number = (size_t)number_at(m, name, &at);
        if (at != name.n)
            tpl_fail(m, "a field of format that is not supported");
    }
    if (number >= args->n)
        tpl_fail(m, "format has no value number %zu", number);
    return args->values[number];
}

/* "name.attribute.attribute": no more can be reached than with a dot in the template itself. */
static tpl_value field(tpl_machine *m, const tpl_args *args, tpl_value path, size_t *next) {
    size_t dot = tpl_text_find(path, tpl_word("."), 0);
    tpl_value v = argument(m, args, tpl_text_slice(path, 0, dot != SIZE_MAX ? dot : path.n), next);
    while (dot != SIZE_MAX) {
        const size_t begin = dot + 1;
        dot = tpl_text_find(path, tpl_word("."), begin);
        const tpl_value name = tpl_text_slice(path, begin, dot != SIZE_MAX ? dot : path.n);
        v = tpl_attribute(m, v, name.bytes, name.n);
    }
    return v;
}

/* ":>5": side and width; nothing else. */
static void add_field(tpl_builder *b, tpl_value v, tpl_value spec) {
    size_t at = 0;
    bool is_left = !tpl_is_number(v);
    if (spec.n > 0 && (spec.bytes[0] == '<' || spec.bytes[0] == '>'))
        is_left = spec.bytes[at++] == '<';
    const int width = number_at(b->m, spec, &at);
    if (at != spec.n || (spec.n > 0 && spec.bytes[0] == '0'))
        tpl_fail(b->m, "a field of format that is not supported");
    pad(b, tpl_string(b->m, v), (size_t)width, is_left, tpl_word(" "));
}

tpl_value tpl_format_braces(tpl_machine *m, tpl_call *call) {
    tpl_builder b = tpl_builder_of(m);
    const tpl_value format = call->self;
    size_t next = 0;
    for (size_t at = 0; at < format.n;) {
        const char c = format.bytes[at];
        if (c != '{' && c != '}') {
            const size_t end = tpl_text_next(format, at);
            tpl_add_slice(&b, format, at, end);
            at = end;
            continue;
        }
        if (at + 1 < format.n && format.bytes[at + 1] == c) { /* {{ and }} */
            tpl_add_slice(&b, format, at, at + 1);
            at += 2;
            continue;
        }
        const size_t close = tpl_text_find(format, tpl_word("}"), at);
        if (c == '}' || close == SIZE_MAX)
            tpl_fail(m, "a brace alone in a format");
        const tpl_value inside = tpl_text_slice(format, at + 1, close);
        const size_t colon = tpl_text_find(inside, tpl_word(":"), 0);
        const tpl_value name = tpl_text_slice(inside, 0, colon != SIZE_MAX ? colon : inside.n);
        add_field(&b, field(m, call->args, name, &next),
                  colon != SIZE_MAX ? tpl_text_slice(inside, colon + 1, inside.n) : tpl_word(""));
        at = close + 1;
    }
    return tpl_built(&b);
}
