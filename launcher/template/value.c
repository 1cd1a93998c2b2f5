#include "launcher/template/value.h"

#include <string.h>

#include "launcher/template/text.h"

tpl_value tpl_word(const char *word) {
    return (tpl_value){.kind = TPL_TEXT, .is_own = true, .bytes = word, .n = strlen(word)};
}

int64_t tpl_whole(tpl_value v) {
    return v.kind == TPL_BOOL ? (int64_t)v.b : v.i;
}
double tpl_real(tpl_value v) {
    return v.kind == TPL_FLOAT ? v.f : (double)tpl_whole(v);
}
bool tpl_is(tpl_value text, const char *word) {
    return text.kind == TPL_TEXT && text.n == strlen(word) && memcmp(text.bytes, word, text.n) == 0;
}

const char *tpl_type(tpl_value v) {
    static const char *const names[] = {[TPL_UNDEFINED] = "Undefined", [TPL_NONE] = "NoneType",
                                        [TPL_BOOL] = "bool",           [TPL_INT] = "int",
                                        [TPL_FLOAT] = "float",         [TPL_TEXT] = "str",
                                        [TPL_LIST] = "list",           [TPL_TUPLE] = "tuple",
                                        [TPL_RANGE] = "range",         [TPL_VIEW] = "dict view",
                                        [TPL_ITERATOR] = "generator",  [TPL_DICT] = "dict",
                                        [TPL_NAMESPACE] = "Namespace", [TPL_FUNCTION] = "function",
                                        [TPL_MACRO] = "Macro",         [TPL_LOOP] = "LoopContext",
                                        [TPL_ABSENT] = "nothing"};
    return names[v.kind];
}

void tpl_need(tpl_machine *m, tpl_value v) {
    const int n = (int)(v.n < 80 ? v.n : 80);
    const char *name = v.bytes != NULL ? v.bytes : "";
    if (v.kind != TPL_UNDEFINED)
        return;
    const char *owner = tpl_type((tpl_value){.kind = (tpl_kind)v.owner});
    switch ((tpl_why)v.why) {
    case TPL_NO_NAME:
        tpl_fail(m, "'%.*s' is undefined", n, name);
    case TPL_NO_ATTRIBUTE:
        tpl_fail(m, "%s has no attribute '%.*s'", owner, n, name);
    case TPL_NO_ELEMENT:
        tpl_fail(m, "%s has no such element", owner);
    case TPL_NO_ELSE:
        tpl_fail(m, "an inline if was false and has no else");
    case TPL_UNSAFE:
        tpl_fail(m, "attribute '%.*s' of %s is not safe to use", n, name, owner);
    case TPL_NO_ITEM:
        break;
    }
    tpl_fail(m, "there is no such item");
}

bool tpl_truth(tpl_value v) {
    switch (v.kind) {
    case TPL_UNDEFINED:
    case TPL_NONE:
        return false;
    case TPL_BOOL:
        return v.b;
    case TPL_INT:
        return v.i != 0;
    case TPL_FLOAT:
        return v.f != 0.0;
    case TPL_TEXT:
    case TPL_LIST:
    case TPL_TUPLE:
    case TPL_RANGE:
    case TPL_VIEW:
        return v.n > 0;
    case TPL_DICT:
        return v.dict->n > 0;
    default:
        return true;
    }
}

static bool equal_items(tpl_machine *m, tpl_value a, tpl_value b) {
    bool is_equal = a.n == b.n;
    tpl_enter(m);
    for (size_t i = 0; i < a.n && is_equal; i++)
        is_equal = tpl_equal(m, a.items[i], b.items[i]);
    tpl_leave(m);
    return is_equal;
}

static bool equal_dicts(tpl_machine *m, const tpl_dict *a, const tpl_dict *b) {
    bool is_equal = a->n == b->n;
    tpl_enter(m);
    for (size_t i = 0; i < a->n && is_equal; i++) {
        const tpl_value *other = tpl_dict_find(m, b, a->keys[i]);
        is_equal = other != NULL && tpl_equal(m, a->values[i], *other);
    }
    tpl_leave(m);
    return is_equal;
}

bool tpl_same(tpl_value a, tpl_value b) {
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case TPL_UNDEFINED: /* each look-up makes another one */
        return false;
    case TPL_NONE:
        return true;
    case TPL_BOOL:
        return a.b == b.b;
    case TPL_INT:
        return a.i == b.i;
    case TPL_FLOAT:
        return a.f == b.f;
    default:
        return a.bytes == b.bytes && a.n == b.n;
    }
}

bool tpl_equal(tpl_machine *m, tpl_value a, tpl_value b) {
    tpl_step(m, 1);
    if (tpl_is_number(a) && tpl_is_number(b)) {
        if (tpl_is_whole(a) && tpl_is_whole(b))
            return tpl_whole(a) == tpl_whole(b);
        return tpl_real(a) == tpl_real(b);
    }
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case TPL_UNDEFINED:
        return true;
    case TPL_TEXT:
        return a.n == b.n && memcmp(a.bytes, b.bytes, a.n) == 0;
    case TPL_LIST:
    case TPL_TUPLE:
    case TPL_RANGE:
        return equal_items(m, a, b);
    case TPL_DICT:
        return equal_dicts(m, a.dict, b.dict);
    default:
        return tpl_same(a, b);
    }
}

static int compare_bytes(tpl_value a, tpl_value b) {
    const int sign = memcmp(a.bytes, b.bytes, a.n < b.n ? a.n : b.n);
    return sign != 0 ? (sign > 0) - (sign < 0) : (a.n > b.n) - (a.n < b.n);
}

/* The first pair of items that differ decides, else the length. */
static int compare_items(tpl_machine *m, tpl_value a, tpl_value b, const char *sign) {
    int order = (a.n > b.n) - (a.n < b.n);
    tpl_enter(m);
    for (size_t i = 0; i < a.n && i < b.n; i++)
        if (!tpl_equal(m, a.items[i], b.items[i])) {
            order = tpl_compare(m, a.items[i], b.items[i], sign);
            break;
        }
    tpl_leave(m);
    return order;
}

int tpl_compare(tpl_machine *m, tpl_value a, tpl_value b, const char *sign) {
    tpl_step(m, 1);
    if (tpl_is_whole(a) && tpl_is_whole(b))
        return (tpl_whole(a) > tpl_whole(b)) - (tpl_whole(a) < tpl_whole(b));
    if (tpl_is_number(a) && tpl_is_number(b))
        return (tpl_real(a) > tpl_real(b)) - (tpl_real(a) < tpl_real(b));
    if (a.kind == TPL_TEXT && b.kind == TPL_TEXT)
        return compare_bytes(a, b);
    if (a.kind == b.kind && (a.kind == TPL_LIST || a.kind == TPL_TUPLE))
        return compare_items(m, a, b, sign);
    tpl_need(m, a);
    tpl_need(m, b);
    tpl_fail(m, "'%s' does not work between %s and %s", sign, tpl_type(a), tpl_type(b));
}

bool tpl_contains(tpl_machine *m, tpl_value in, tpl_value item) {
    if (in.kind == TPL_TEXT) {
        tpl_need(m, item);
        if (item.kind != TPL_TEXT)
            tpl_fail(m, "'in' a str needs a str on its left, not %s", tpl_type(item));
        tpl_step(m, in.n / 64);
        return item.n == 0 || memmem(in.bytes, in.n, item.bytes, item.n) != NULL;
    }
    if (in.kind == TPL_DICT)
        return tpl_dict_find(m, in.dict, item) != NULL;
    size_t n;
    const tpl_value *items = tpl_iterate(m, in, &n);
    for (size_t i = 0; i < n; i++)
        if (tpl_equal(m, items[i], item))
            return true;
    return false;
}

tpl_value *tpl_take_values(tpl_machine *m, size_t n) {
    if (n > TPL_MAX_ARENA / sizeof(tpl_value))
        tpl_fail(m, "a list of %zu items is too long", n);
    tpl_step(m, n / 4);
    return tpl_take(m, n * sizeof(tpl_value));
}

static const tpl_value *characters(tpl_machine *m, tpl_value text, size_t *n_out) {
    const size_t n = tpl_text_length(m, text);
    tpl_value *items = tpl_take_values(m, n);
    for (size_t i = 0, at = 0; i < n; i++) {
        const size_t next = tpl_text_next(text, at);
        items[i] = tpl_text_slice(text, at, next);
        at = next;
    }
    *n_out = n;
    return items;
}

bool tpl_is_iterable(tpl_value v) {
    return v.kind == TPL_UNDEFINED || (v.kind >= TPL_TEXT && v.kind <= TPL_DICT) || v.kind == TPL_LOOP;
}

const tpl_value *tpl_iterate(tpl_machine *m, tpl_value v, size_t *n_out) {
    *n_out = v.n;
    switch (v.kind) {
    case TPL_UNDEFINED:
        *n_out = 0;
        return NULL;
    case TPL_TEXT:
        return characters(m, v, n_out);
    case TPL_LIST:
    case TPL_TUPLE:
    case TPL_RANGE:
    case TPL_VIEW:
        return v.items;
    case TPL_DICT:
        *n_out = v.dict->n;
        return v.dict->keys;
    case TPL_ITERATOR: {
        tpl_iterator *iterator = v.iterator;
        *n_out = iterator->n - iterator->at;
        const tpl_value *rest = *n_out > 0 ? iterator->items + iterator->at : NULL;
        iterator->at = iterator->n;
        return rest;
    }
    default:
        tpl_fail(m, "%s cannot be iterated", tpl_type(v));
    }
}

tpl_value tpl_iterator_over(tpl_machine *m, const tpl_value *items, size_t n) {
    tpl_value v = {.kind = TPL_ITERATOR, .is_own = true};
    v.iterator = tpl_take(m, sizeof *v.iterator);
    *v.iterator = (tpl_iterator){.items = items, .n = n};
    return v;
}

size_t tpl_length(tpl_machine *m, tpl_value v) {
    switch (v.kind) {
    case TPL_UNDEFINED:
        return 0;
    case TPL_TEXT:
        return tpl_text_length(m, v);
    case TPL_LIST:
    case TPL_TUPLE:
    case TPL_RANGE:
    case TPL_VIEW:
        return v.n;
    case TPL_DICT:
        return v.dict->n;
    default:
        tpl_fail(m, "%s has no length", tpl_type(v));
    }
}

tpl_value tpl_dict_new(tpl_machine *m, size_t room) {
    tpl_value v = {.kind = TPL_DICT, .is_own = true};
    v.dict = tpl_take(m, sizeof *v.dict);
    v.dict->room = room;
    v.dict->keys = tpl_take_values(m, room);
    v.dict->values = tpl_take_values(m, room);
    return v;
}

static tpl_value *find(tpl_machine *m, const tpl_dict *dict, tpl_value key) {
    for (size_t i = 0; i < dict->n; i++) {
        const tpl_value *k = &dict->keys[i];
        if (key.kind == TPL_TEXT
                ? k->kind == TPL_TEXT && k->n == key.n && memcmp(k->bytes, key.bytes, key.n) == 0
                : tpl_equal(m, *k, key)) {
            tpl_step(m, i / 16);
            return &dict->values[i];
        }
    }
    tpl_step(m, dict->n / 16);
    return NULL;
}

/* Only what Python can hash may be looked up. */
static void need_key(tpl_machine *m, tpl_value key) {
    if (key.kind == TPL_LIST || key.kind == TPL_DICT)
        tpl_fail(m, "%s cannot be the key of a dict", tpl_type(key));
    tpl_enter(m);
    for (size_t i = 0; key.kind == TPL_TUPLE && i < key.n; i++)
        need_key(m, key.items[i]);
    tpl_leave(m);
}

const tpl_value *tpl_dict_find(tpl_machine *m, const tpl_dict *dict, tpl_value key) {
    need_key(m, key);
    return find(m, dict, key);
}

const tpl_value *tpl_dict_find_word(const tpl_dict *dict, const char *word) {
    for (size_t i = 0; i < dict->n; i++)
        if (tpl_is(dict->keys[i], word))
            return &dict->values[i];
    return NULL;
}

void tpl_dict_put(tpl_machine *m, tpl_dict *dict, tpl_value key, tpl_value value) {
    need_key(m, key);
    tpl_value *place = find(m, dict, key);
    if (place != NULL) {
        *place = value;
        return;
    }
    if (dict->n == dict->room) {
        dict->room = dict->room * 2 + 4;
        tpl_value *keys = tpl_take_values(m, dict->room), *values = tpl_take_values(m, dict->room);
        if (dict->n > 0) {
            memcpy(keys, dict->keys, dict->n * sizeof *keys);
            memcpy(values, dict->values, dict->n * sizeof *values);
        }
        dict->keys = keys;
        dict->values = values;
    }
    dict->keys[dict->n] = key;
    dict->values[dict->n++] = value;
}

tpl_value tpl_dict_items(tpl_machine *m, const tpl_dict *dict, tpl_kind kind) {
    tpl_value *items = tpl_take_values(m, dict->n);
    for (size_t i = 0; i < dict->n; i++) {
        tpl_value *pair = tpl_take_values(m, 2);
        pair[0] = dict->keys[i];
        pair[1] = dict->values[i];
        items[i] = tpl_items_value(TPL_TUPLE, pair, 2);
    }
    return tpl_items_value(kind, items, dict->n);
}
