/* launcher/template/value.h - the values a template computes with: Python's, because templates are written
 * against Python's.
 *
 * Lists and dicts never change once made (append and its like are refused, as in the reference's sandbox);
 * only namespaces and iterators do. Texts are valid UTF-8 and know where each byte comes from: `marks` has a
 * 1 for every byte that is the template's own, or is NULL where all bytes are alike and is_own says which.
 * Numbers know it too, because they may be printed.
 */
#pragma once

#include "launcher/template/machine.h"
#include <stdint.h>

typedef enum tpl_kind {
    TPL_UNDEFINED, /* a name that is not there: `why` and bytes tell which */
    TPL_NONE,
    TPL_BOOL,
    TPL_INT,
    TPL_FLOAT,
    TPL_TEXT,
    TPL_LIST,
    TPL_TUPLE,
    TPL_RANGE,
    TPL_VIEW,     /* d.keys(), d.values(), d.items() */
    TPL_ITERATOR, /* of map, select, reverse, ...: is used up by the first who reads it */
    TPL_DICT,
    TPL_NAMESPACE,
    TPL_FUNCTION, /* one of ours: a global, or a method with its receiver */
    TPL_MACRO,
    TPL_LOOP,
    TPL_ABSENT, /* an argument that was not given; no template sees it */
} tpl_kind;

/* Why a value is undefined. */
typedef enum tpl_why {
    TPL_NO_NAME,
    TPL_NO_ATTRIBUTE, /* `owner` has no attribute of that name */
    TPL_NO_ELEMENT,
    TPL_NO_ELSE, /* an inline if without else */
    TPL_UNSAFE,  /* an attribute that the sandbox hides */
    TPL_NO_ITEM, /* first or last of nothing; no neighbour of a loop's item */
} tpl_why;

typedef struct tpl_value {
    tpl_kind kind;
    bool is_own;              /* of scalars and of texts without marks */
    bool is_safe;             /* a text that passed `safe`: + escapes what is put beside it */
    unsigned char why, owner; /* of undefined: tpl_why, tpl_kind */
    size_t n;                 /* bytes of a text, items of a list */
    union {
        bool b;
        int64_t i;
        double f;
        const char *bytes;
        const struct tpl_value *items;
        struct tpl_dict *dict; /* also of a namespace */
        struct tpl_iterator *iterator;
        struct tpl_function *function;
        struct tpl_macro *macro;
        struct tpl_loop *loop;
    };
    const unsigned char *marks;
} tpl_value;

/* Keys are unique and in the order they came. */
typedef struct tpl_dict {
    tpl_value *keys, *values;
    size_t n, room;
} tpl_dict;

typedef struct tpl_iterator {
    const tpl_value *items;
    size_t n, at;
} tpl_iterator;

static inline tpl_value tpl_none(void) {
    return (tpl_value){.kind = TPL_NONE, .is_own = true};
}
static inline tpl_value tpl_bool(bool b) {
    return (tpl_value){.kind = TPL_BOOL, .is_own = true, .b = b};
}
static inline tpl_value tpl_int(int64_t i) {
    return (tpl_value){.kind = TPL_INT, .is_own = true, .i = i};
}
static inline tpl_value tpl_float(double f) {
    return (tpl_value){.kind = TPL_FLOAT, .is_own = true, .f = f};
}
static inline tpl_value tpl_undefined(tpl_why why) {
    return (tpl_value){.kind = TPL_UNDEFINED, .is_own = true, .why = (unsigned char)why};
}
static inline tpl_value tpl_items_value(tpl_kind kind, const tpl_value *items, size_t n) {
    return (tpl_value){.kind = kind, .is_own = true, .items = items, .n = n};
}
/* A NUL-terminated word of our own. */
tpl_value tpl_word(const char *word);

static inline bool tpl_is_number(tpl_value v) {
    return v.kind == TPL_INT || v.kind == TPL_FLOAT || v.kind == TPL_BOOL;
}
static inline bool tpl_is_whole(tpl_value v) {
    return v.kind == TPL_INT || v.kind == TPL_BOOL;
}
int64_t tpl_whole(tpl_value v); /* of an int or bool */
double tpl_real(tpl_value v);   /* of a number */
bool tpl_is(tpl_value text, const char *word);

/* Python's name of the type, as in its messages. */
const char *tpl_type(tpl_value v);

/* Fail with what an undefined value is about; returns where v is defined. */
void tpl_need(tpl_machine *m, tpl_value v);

bool tpl_truth(tpl_value v);
bool tpl_equal(tpl_machine *m, tpl_value a, tpl_value b);
/* a < b, a == b, a > b as -1, 0, 1. Fails on kinds that have no order. */
int tpl_compare(tpl_machine *m, tpl_value a, tpl_value b, const char *sign);
bool tpl_contains(tpl_machine *m, tpl_value in, tpl_value item);
bool tpl_same(tpl_value a, tpl_value b); /* Python's `is` */

/* Room for n values, all zero. */
tpl_value *tpl_take_values(tpl_machine *m, size_t n);

/* All items that a loop over v sees: characters of a text, keys of a dict, nothing of undefined. An iterator
 * is used up. Fails on what cannot be iterated. */
const tpl_value *tpl_iterate(tpl_machine *m, tpl_value v, size_t *n_out);
bool tpl_is_iterable(tpl_value v);
tpl_value tpl_iterator_over(tpl_machine *m, const tpl_value *items, size_t n);

/* len(v). Fails on what has none. */
size_t tpl_length(tpl_machine *m, tpl_value v);

tpl_value tpl_dict_new(tpl_machine *m, size_t room);
/* NULL when the key is not there. */
const tpl_value *tpl_dict_find(tpl_machine *m, const tpl_dict *dict, tpl_value key);
const tpl_value *tpl_dict_find_word(const tpl_dict *dict, const char *word);
/* Put or replace. Fails on a key that has no hash. */
void tpl_dict_put(tpl_machine *m, tpl_dict *dict, tpl_value key, tpl_value value);
/* (key, value) tuples */
tpl_value tpl_dict_items(tpl_machine *m, const tpl_dict *dict, tpl_kind kind);
