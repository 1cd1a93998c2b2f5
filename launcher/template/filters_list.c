/* Filters of lists and dicts. */
#include <ctype.h>
#include <string.h>

#include "launcher/template/evaluate.h"
#include "launcher/template/sort.h"

static bool flag(tpl_value v) {
    return tpl_given(v) && tpl_truth(v);
}

static tpl_value length(tpl_machine *m, tpl_call *call) {
    return tpl_int((int64_t)tpl_length(m, call->self));
}

static tpl_value first(tpl_machine *m, tpl_call *call) {
    if (call->self.kind == TPL_ITERATOR) {
        tpl_iterator *iterator = call->self.iterator;
        return iterator->at < iterator->n ? iterator->items[iterator->at++] : tpl_undefined(TPL_NO_ITEM);
    }
    size_t n;
    const tpl_value *items = tpl_iterate(m, call->self, &n);
    return n > 0 ? items[0] : tpl_undefined(TPL_NO_ITEM);
}

static void need_reversible(tpl_machine *m, tpl_value v) {
    if (v.kind == TPL_ITERATOR)
        tpl_fail(m, "a generator has no end to begin at: make it a list first");
}

static tpl_value last(tpl_machine *m, tpl_call *call) {
    size_t n;
    need_reversible(m, call->self);
    const tpl_value *items = tpl_iterate(m, call->self, &n);
    return n > 0 ? items[n - 1] : tpl_undefined(TPL_NO_ITEM);
}

static tpl_value list(tpl_machine *m, tpl_call *call) {
    size_t n;
    const tpl_value *items = tpl_iterate(m, call->self, &n);
    return tpl_items_value(TPL_LIST, items, n);
}

static tpl_value reverse(tpl_machine *m, tpl_call *call) {
    size_t n;
    const bool is_text = call->self.kind == TPL_TEXT;
    const tpl_value *items = tpl_iterate(m, call->self, &n);
    tpl_value *turned = tpl_take_values(m, n);
    tpl_builder b = tpl_builder_of(m);
    for (size_t i = 0; i < n; i++) {
        turned[i] = items[n - 1 - i];
        if (is_text)
            tpl_add_text(&b, turned[i]);
    }
    return is_text ? tpl_built(&b) : tpl_iterator_over(m, turned, n);
}

static tpl_value items(tpl_machine *m, tpl_call *call) {
    if (call->self.kind == TPL_UNDEFINED)
        return tpl_iterator_over(m, NULL, 0);
    if (call->self.kind != TPL_DICT)
        tpl_fail(m, "items needs a dict, not %s", tpl_type(call->self));
    const tpl_value pairs = tpl_dict_items(m, call->self.dict, TPL_LIST);
    return tpl_iterator_over(m, pairs.items, pairs.n);
}

/* One part of "a.b.0" as an index. */
static tpl_value part_of(tpl_value path, size_t begin, size_t end) {
    const tpl_value part = tpl_text_slice(path, begin, end);
    int64_t number = 0;
    for (size_t i = 0; i < part.n; i++) {
        if (!isdigit((unsigned char)part.bytes[i]) || i > 9)
            return part;
        number = number * 10 + (part.bytes[i] - '0');
    }
    return part.n > 0 ? tpl_int(number) : part;
}

/* item.a.b; what is not there becomes `otherwise`, where that is given, at every step. */
static tpl_value follow(tpl_machine *m, tpl_value item, tpl_value path, tpl_value otherwise) {
    if (path.kind != TPL_TEXT)
        return tpl_item(m, item, path);
    for (size_t begin = 0; begin <= path.n;) {
        const size_t dot = tpl_text_find(path, tpl_word("."), begin), end = dot != SIZE_MAX ? dot : path.n;
        item = tpl_item(m, item, part_of(path, begin, end));
        if (item.kind == TPL_UNDEFINED && tpl_given(otherwise) && otherwise.kind != TPL_NONE)
            item = otherwise;
        begin = end + 1;
    }
    return item;
}

static const tpl_value absent = {.kind = TPL_ABSENT};

static tpl_value join(tpl_machine *m, tpl_call *call) {
    size_t n;
    tpl_builder b = tpl_builder_of(m);
    const tpl_value separator = tpl_given(call->a[0]) ? tpl_string(m, call->a[0]) : tpl_word("");
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    for (size_t i = 0; i < n; i++) {
        const bool has_path = tpl_given(call->a[1]) && call->a[1].kind != TPL_NONE;
        if (i > 0)
            tpl_add_text(&b, separator);
        tpl_print(&b, has_path ? follow(m, values[i], call->a[1], absent) : values[i]);
    }
    return tpl_built(&b);
}

static const tpl_value *named(const tpl_call *call, const char *name) {
    for (size_t i = 0; i < call->args->n_named; i++)
        if (tpl_is(call->args->names[i], name))
            return &call->args->named[i];
    return NULL;
}

/* map(attribute=..., default=...) */
static tpl_value map_attribute(tpl_machine *m, tpl_call *call, const tpl_value *items_, size_t n) {
    const tpl_value *path = named(call, "attribute"), *otherwise = named(call, "default");
    tpl_value *out = tpl_take_values(m, n);
    if (path == NULL || call->args->n > 0 || call->args->n_named > 1 + (size_t)(otherwise != NULL))
        tpl_fail(m, "map needs the name of a filter, or attribute and maybe default");
    for (size_t i = 0; i < n; i++)
        out[i] = follow(m, items_[i], *path, otherwise != NULL ? *otherwise : absent);
    return tpl_iterator_over(m, out, n);
}

/* A row by the name in the arguments at `at`; the rest is what it is called with. */
static const tpl_row *row_argument(tpl_machine *m, const tpl_args *args, size_t at, bool is_filter,
                                   tpl_args *rest) {
    const tpl_value name = tpl_text_argument(m, args->values[at], "");
    const tpl_row *row =
        is_filter ? tpl_find_filter(name.bytes, name.n) : tpl_find_row(tpl_test_rows, name.bytes, name.n);
    if (row == NULL)
        tpl_fail(m, "there is no %s named '%.*s'", is_filter ? "filter" : "test",
                 (int)(name.n < 40 ? name.n : 40), name.bytes);
    *rest = *args;
    rest->n -= at + 1;
    rest->values += at + 1;
    return row;
}

static tpl_value map(tpl_machine *m, tpl_call *call) {
    size_t n;
    tpl_args rest;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    if (call->args->n == 0)
        return map_attribute(m, call, values, n);
    const tpl_row *row = row_argument(m, call->args, 0, true, &rest);
    tpl_value *out = tpl_take_values(m, n);
    for (size_t i = 0; i < n; i++)
        out[i] = tpl_call_row(m, row, values[i], &rest);
    return tpl_iterator_over(m, out, n);
}

/* select, reject, selectattr, rejectattr: those that a test (none: truth) is true or false of. */
static tpl_value choose(tpl_machine *m, tpl_call *call, bool wants, bool has_path) {
    size_t n, n_out = 0;
    tpl_args rest;
    const tpl_row *row = NULL;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    if (has_path && call->args->n == 0)
        tpl_fail(m, "%s needs the name of an attribute", call->name);
    if (call->args->n > has_path)
        row = row_argument(m, call->args, has_path, false, &rest);
    tpl_value *out = tpl_take_values(m, n);
    for (size_t i = 0; i < n; i++) {
        const tpl_value v = has_path ? follow(m, values[i], call->args->values[0], absent) : values[i];
        const bool is_true = tpl_truth(row != NULL ? tpl_call_row(m, row, v, &rest) : v);
        if (is_true == wants)
            out[n_out++] = values[i];
    }
    return tpl_iterator_over(m, out, n_out);
}
static tpl_value select_(tpl_machine *m, tpl_call *call) {
    return choose(m, call, true, false);
}
static tpl_value reject(tpl_machine *m, tpl_call *call) {
    return choose(m, call, false, false);
}
static tpl_value selectattr(tpl_machine *m, tpl_call *call) {
    return choose(m, call, true, true);
}
static tpl_value rejectattr(tpl_machine *m, tpl_call *call) {
    return choose(m, call, false, true);
}

/* What an item is compared by: itself or attributes, texts in small letters unless case counts. */
static tpl_value key_of(tpl_machine *m, tpl_value item, tpl_value path, bool case_counts) {
    tpl_value key = tpl_given(path) && path.kind != TPL_NONE ? follow(m, item, path, absent) : item;
    return key.kind == TPL_TEXT && !case_counts ? tpl_lower(m, key) : key;
}

static tpl_value *keys_of(tpl_machine *m, const tpl_value *values, size_t n, tpl_value path,
                          bool case_counts) {
    tpl_value *keys = tpl_take_values(m, n);
    if (path.kind == TPL_TEXT && tpl_text_find(path, tpl_word(","), 0) != SIZE_MAX)
        tpl_fail(m, "only one attribute is supported here");
    for (size_t i = 0; i < n; i++)
        keys[i] = key_of(m, values[i], path, case_counts);
    return keys;
}

static tpl_value ordered(tpl_machine *m, const tpl_value *values, const tpl_value *keys, size_t n,
                         bool is_reversed) {
    const size_t *order = tpl_sort(m, keys, n, is_reversed);
    tpl_value *out = tpl_take_values(m, n);
    for (size_t i = 0; i < n; i++)
        out[i] = values[order[i]];
    return tpl_items_value(TPL_LIST, out, n);
}

static tpl_value sort(tpl_machine *m, tpl_call *call) {
    size_t n;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    const tpl_value *keys = keys_of(m, values, n, call->a[2], flag(call->a[1]));
    return ordered(m, values, keys, n, flag(call->a[0]));
}

static tpl_value dictsort(tpl_machine *m, tpl_call *call) {
    const tpl_value by = tpl_text_argument(m, call->a[1], "key");
    if (call->self.kind != TPL_DICT || (!tpl_is(by, "key") && !tpl_is(by, "value")))
        tpl_fail(m, "dictsort needs a dict, and by='key' or 'value'");
    const tpl_value pairs = tpl_dict_items(m, call->self.dict, TPL_LIST);
    const tpl_value *keys = keys_of(m, pairs.items, pairs.n, tpl_int(tpl_is(by, "value")), flag(call->a[0]));
    return ordered(m, pairs.items, keys, pairs.n, flag(call->a[2]));
}

static tpl_value unique(tpl_machine *m, tpl_call *call) {
    size_t n, n_out = 0;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    const tpl_value *keys = keys_of(m, values, n, call->a[1], flag(call->a[0]));
    tpl_value *out = tpl_take_values(m, n), seen = tpl_dict_new(m, n);
    for (size_t i = 0; i < n; i++) {
        if (tpl_dict_find(m, seen.dict, keys[i]) != NULL)
            continue;
        tpl_dict_put(m, seen.dict, keys[i], tpl_none());
        out[n_out++] = values[i];
    }
    return tpl_iterator_over(m, out, n_out);
}

static tpl_value extreme(tpl_machine *m, tpl_call *call, int sign) {
    size_t n, best = 0;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    const tpl_value *keys = keys_of(m, values, n, call->a[1], flag(call->a[0]));
    if (n == 0)
        return tpl_undefined(TPL_NO_ITEM);
    for (size_t i = 1; i < n; i++)
        if (tpl_compare(m, keys[i], keys[best], "<") * sign > 0)
            best = i;
    return values[best];
}
static tpl_value min(tpl_machine *m, tpl_call *call) {
    return extreme(m, call, -1);
}
static tpl_value max(tpl_machine *m, tpl_call *call) {
    return extreme(m, call, 1);
}

static tpl_value sum(tpl_machine *m, tpl_call *call) {
    size_t n;
    tpl_value total = tpl_given(call->a[1]) ? call->a[1] : tpl_int(0);
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    const bool has_path = tpl_given(call->a[0]) && call->a[0].kind != TPL_NONE;
    for (size_t i = 0; i < n; i++)
        total = tpl_binary(m, '+', total, has_path ? follow(m, values[i], call->a[0], absent) : values[i]);
    return total;
}

static size_t count_argument(tpl_machine *m, const tpl_call *call) {
    const int64_t count = tpl_int_argument(m, call->a[0], 1);
    if (count < 1 || count > TPL_MAX_RANGE)
        tpl_fail(m, "%s takes from 1 to %d", call->name, TPL_MAX_RANGE);
    return (size_t)count;
}

/* Rows of `count` values; the last one filled up. */
static tpl_value batch(tpl_machine *m, tpl_call *call) {
    size_t n, n_rows = 0;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    const bool is_filled = tpl_given(call->a[1]) && call->a[1].kind != TPL_NONE;
    const size_t width = count_argument(m, call);
    tpl_value *rows = tpl_take_values(m, n / width + 1);
    for (size_t at = 0; at < n; at += width) {
        const size_t here = n - at < width ? n - at : width, size = is_filled ? width : here;
        tpl_value *row = tpl_take_values(m, size);
        for (size_t i = 0; i < size; i++)
            row[i] = i < here ? values[at + i] : call->a[1];
        rows[n_rows++] = tpl_items_value(TPL_LIST, row, size);
    }
    return tpl_iterator_over(m, rows, n_rows);
}

/* `count` columns of nearly equal length, the longer ones first; the others filled up. */
static tpl_value slice(tpl_machine *m, tpl_call *call) {
    size_t n, at = 0;
    const tpl_value *values = tpl_iterate(m, call->self, &n);
    const bool is_filled = tpl_given(call->a[1]) && call->a[1].kind != TPL_NONE;
    const size_t n_columns = count_argument(m, call), n_longer = n % n_columns;
    tpl_value *columns = tpl_take_values(m, n_columns);
    for (size_t i = 0; i < n_columns; i++) {
        const size_t here = n / n_columns + (i < n_longer), size = here + (is_filled && i >= n_longer);
        tpl_value *column = tpl_take_values(m, size);
        for (size_t k = 0; k < size; k++)
            column[k] = k < here ? values[at + k] : call->a[1];
        columns[i] = tpl_items_value(TPL_LIST, column, size);
        at += here;
    }
    return tpl_iterator_over(m, columns, n_columns);
}

const tpl_row tpl_list_filter_rows[] = {
    {"batch", batch, "linecount fill_with", 1},
    {"count", length, "", 0},
    {"dictsort", dictsort, "case_sensitive by reverse", 0},
    {"first", first, "", 0},
    {"items", items, "", 0},
    {"join", join, "d attribute", 0},
    {"last", last, "", 0},
    {"length", length, "", 0},
    {"list", list, "", 0},
    {"map", map, "*", 0},
    {"max", max, "case_sensitive attribute", 0},
    {"min", min, "case_sensitive attribute", 0},
    {"reject", reject, "*", 0},
    {"rejectattr", rejectattr, "*", 0},
    {"reverse", reverse, "", 0},
    {"select", select_, "*", 0},
    {"selectattr", selectattr, "*", 0},
    {"slice", slice, "slices fill_with", 1},
    {"sort", sort, "reverse case_sensitive attribute", 0},
    {"sum", sum, "attribute start", 0},
    {"unique", unique, "case_sensitive attribute", 0},
    {"groupby", NULL, "*", 0},
    {"random", NULL, "*", 0},
    {0},
};
