#include "launcher/template/call.h"

#include <string.h>

#include "launcher/template/evaluate.h"

const tpl_row *tpl_find_row(const tpl_row *table, const char *name, size_t n) {
    for (; table->name != NULL; table++)
        if (strlen(table->name) == n && memcmp(table->name, name, n) == 0)
            return table;
    return NULL;
}

const tpl_row *tpl_find_filter(const char *name, size_t n) {
    const tpl_row *row = tpl_find_row(tpl_filter_rows, name, n);
    return row != NULL ? row : tpl_find_row(tpl_list_filter_rows, name, n);
}

void tpl_fail_unknown(tpl_machine *m, bool is_filter, const char *name) {
    const size_t n = strlen(name);
    const tpl_row *row = is_filter ? tpl_find_filter(name, n) : tpl_find_row(tpl_test_rows, name, n);
    tpl_fail(m, row != NULL ? "the %s '%s' is not supported" : "there is no %s named '%s'",
             is_filter ? "filter" : "test", name);
}

/* The place of a parameter in "a b c", -1 when there is none; *count_out: how many there are. */
static int place_of(const char *parameters, const char *name, size_t n, int *count_out) {
    int place = -1;
    *count_out = 0;
    while (*parameters != '\0') {
        const size_t length = strcspn(parameters, " ");
        if (name != NULL && length == n && memcmp(parameters, name, n) == 0)
            place = *count_out;
        (*count_out)++;
        parameters += length + (parameters[length] == ' ');
    }
    return place;
}

/* Where the argument of that name belongs. */
static tpl_value *slot_of(tpl_machine *m, const tpl_row *row, tpl_call *call, tpl_value name) {
    int count;
    const int place = place_of(row->parameters, name.bytes, name.n, &count);
    if (place >= 0 && !tpl_given(call->a[place]))
        return &call->a[place];
    tpl_fail(m, "%s takes no argument '%.*s'%s", row->name, (int)(name.n < 40 ? name.n : 40), name.bytes,
             place < 0 ? "" : " twice");
}

static void bind(tpl_machine *m, const tpl_row *row, tpl_call *call, const tpl_args *args) {
    int count;
    place_of(row->parameters, NULL, 0, &count);
    for (int i = 0; i < TPL_MAX_PARAMETERS; i++)
        call->a[i] = (tpl_value){.kind = TPL_ABSENT};
    if (args->n > (size_t)count)
        tpl_fail(m, "%s takes at most %d argument%s, %zu given", row->name, count, count == 1 ? "" : "s",
                 args->n);
    if (args->n > 0)
        memcpy(call->a, args->values, args->n * sizeof *call->a);
    for (size_t i = 0; i < args->n_named; i++)
        *slot_of(m, row, call, args->names[i]) = args->named[i];
    for (int i = 0; i < row->n_required; i++)
        if (!tpl_given(call->a[i]))
            tpl_fail(m, "%s needs %d argument%s", row->name, row->n_required,
                     row->n_required == 1 ? "" : "s");
}

tpl_value tpl_call_row(tpl_machine *m, const tpl_row *row, tpl_value self, const tpl_args *args) {
    tpl_call call = {.name = row->name, .self = self, .args = args};
    if (row->run == NULL)
        tpl_fail(m, "'%s' is not supported in chat templates", row->name);
    if (strcmp(row->parameters, "*") != 0)
        bind(m, row, &call, args);
    /* cppcheck-suppress returnDanglingLifetime ; a value never points to its call */
    return row->run(m, &call);
}

tpl_value tpl_call_value(tpl_machine *m, tpl_value callee, const tpl_args *args) {
    tpl_need(m, callee);
    switch (callee.kind) {
    case TPL_FUNCTION:
        return tpl_call_row(m, callee.function->row, callee.function->self, args);
    case TPL_MACRO:
        return tpl_call_macro(m, callee.macro, args);
    case TPL_LOOP:
        return tpl_call_loop(m, callee.loop, args);
    default:
        tpl_fail(m, "%s cannot be called", tpl_type(callee));
    }
}

static tpl_value no_attribute(tpl_value v, tpl_why why, const char *name, size_t n) {
    tpl_value nothing = tpl_undefined(why);
    nothing.owner = (unsigned char)v.kind;
    nothing.bytes = name;
    nothing.n = n;
    return nothing;
}

/* Methods that would change a value: the reference's sandbox hides them. */
static bool is_hidden(tpl_value v, const char *name, size_t n) {
    static const char *const of_list[] = {"append", "insert", "pop",  "extend",
                                          "remove", "clear",  "sort", "reverse"},
                             *const of_dict[] = {"pop", "update", "setdefault", "popitem", "clear"};
    const tpl_value word = {.kind = TPL_TEXT, .bytes = name, .n = n};
    for (size_t i = 0; v.kind == TPL_LIST && i < sizeof of_list / sizeof of_list[0]; i++)
        if (tpl_is(word, of_list[i]))
            return true;
    for (size_t i = 0; v.kind == TPL_DICT && i < sizeof of_dict / sizeof of_dict[0]; i++)
        if (tpl_is(word, of_dict[i]))
            return true;
    return false;
}

static const tpl_row *find_method(tpl_value v, const char *name, size_t n) {
    const tpl_row *table = v.kind == TPL_TEXT                          ? tpl_text_method_rows
                           : v.kind == TPL_DICT                        ? tpl_dict_method_rows
                           : v.kind == TPL_LIST || v.kind == TPL_TUPLE ? tpl_list_method_rows
                                                                       : NULL;
    return table != NULL ? tpl_find_row(table, name, n) : NULL;
}

static tpl_value method(tpl_machine *m, tpl_value self, const tpl_row *row) {
    tpl_value v = {.kind = TPL_FUNCTION, .is_own = true};
    v.function = tpl_take(m, sizeof *v.function);
    *v.function = (tpl_function){.row = row, .self = self};
    return v;
}

static tpl_value macro_attribute(tpl_machine *m, tpl_value v, const char *name, size_t n) {
    const tpl_value word = {.kind = TPL_TEXT, .bytes = name, .n = n};
    if (tpl_is(word, "name"))
        return tpl_word(v.macro->node->name);
    if (!tpl_is(word, "arguments"))
        return no_attribute(v, TPL_NO_ATTRIBUTE, name, n);
    size_t count = 0;
    for (const tpl_node *p = v.macro->node->a; p != NULL; p = p->next)
        count++;
    tpl_value *names = tpl_take_values(m, count);
    count = 0;
    for (const tpl_node *p = v.macro->node->a; p != NULL; p = p->next)
        names[count++] = tpl_word(p->name);
    return tpl_items_value(TPL_TUPLE, names, count);
}

/* What Python finds with a dot on the value itself, before any key: a method. False when there is none. */
static bool own_attribute(tpl_machine *m, tpl_value v, const char *name, size_t n, tpl_value *out) {
    const tpl_row *row = find_method(v, name, n);
    if (is_hidden(v, name, n) || (n > 1 && name[0] == '_' && name[1] == '_'))
        *out = no_attribute(v, TPL_UNSAFE, name, n);
    else if (row != NULL)
        *out = method(m, v, row);
    else if (v.kind == TPL_LOOP)
        *out = tpl_loop_attribute(m, v.loop, name, n);
    else if (v.kind == TPL_MACRO)
        *out = macro_attribute(m, v, name, n);
    else
        return false;
    return true;
}

tpl_value tpl_attribute(tpl_machine *m, tpl_value v, const char *name, size_t n) {
    const tpl_value key = {.kind = TPL_TEXT, .is_own = true, .bytes = name, .n = n};
    tpl_value found;
    tpl_need(m, v);
    if (own_attribute(m, v, name, n, &found))
        return found;
    if (v.kind == TPL_DICT || v.kind == TPL_NAMESPACE) {
        const tpl_value *value = tpl_dict_find(m, v.dict, key);
        if (value != NULL)
            return *value;
    }
    if (tpl_is_number(v) && v.kind != TPL_BOOL && (tpl_is(key, "real") || tpl_is(key, "imag")))
        tpl_fail(m, "the attribute '%s' is not supported", name);
    return no_attribute(v, TPL_NO_ATTRIBUTE, name, n);
}

static tpl_value element(tpl_machine *m, tpl_value v, int64_t i) {
    const int64_t n = (int64_t)tpl_length(m, v);
    if (i < -n || i >= n)
        return no_attribute(v, TPL_NO_ELEMENT, "", 0);
    const size_t at = (size_t)(i < 0 ? i + n : i);
    if (v.kind != TPL_TEXT)
        return v.items[at];
    const size_t offset = tpl_text_offset(v, at);
    return tpl_text_slice(v, offset, tpl_text_next(v, offset));
}

tpl_value tpl_item(tpl_machine *m, tpl_value v, tpl_value index) {
    tpl_value found;
    tpl_need(m, v);
    if (v.kind == TPL_DICT && index.kind != TPL_LIST && index.kind != TPL_DICT) {
        const tpl_value *value = tpl_dict_find(m, v.dict, index);
        if (value != NULL)
            return *value;
    }
    const bool has_elements =
        v.kind == TPL_TEXT || v.kind == TPL_LIST || v.kind == TPL_TUPLE || v.kind == TPL_RANGE;
    if (has_elements && tpl_is_whole(index))
        return element(m, v, tpl_whole(index));
    if (index.kind != TPL_TEXT)
        return no_attribute(v, TPL_NO_ELEMENT, "", 0);
    if (v.kind == TPL_NAMESPACE)
        return tpl_attribute(m, v, index.bytes, index.n);
    if (own_attribute(m, v, index.bytes, index.n, &found))
        return found;
    return no_attribute(v, TPL_NO_ATTRIBUTE, index.bytes, index.n);
}

int64_t tpl_int_argument(tpl_machine *m, tpl_value v, int64_t otherwise) {
    if (!tpl_given(v))
        return otherwise;
    tpl_need(m, v);
    if (!tpl_is_whole(v))
        tpl_fail(m, "a whole number is needed, not %s", tpl_type(v));
    return tpl_whole(v);
}

tpl_value tpl_text_argument(tpl_machine *m, tpl_value v, const char *otherwise) {
    if (!tpl_given(v))
        return tpl_word(otherwise);
    tpl_need(m, v);
    if (v.kind != TPL_TEXT)
        tpl_fail(m, "a str is needed, not %s", tpl_type(v));
    return v;
}
