#include "launcher/template/evaluate.h"

#include <string.h>

tpl_scope *tpl_scope_open(tpl_machine *m, tpl_scope *parent) {
    tpl_scope *scope = tpl_take(m, sizeof *scope);
    scope->parent = parent;
    return scope;
}

void tpl_scope_set(tpl_machine *m, tpl_scope *scope, const char *name, tpl_value value) {
    for (tpl_binding *b = scope->first; b != NULL; b = b->next)
        if (b->name == name) {
            b->value = value;
            return;
        }
    tpl_binding *b = tpl_take(m, sizeof *b);
    *b = (tpl_binding){.name = name, .value = value, .next = scope->first};
    scope->first = b;
}

static tpl_value undefined_name(const char *name) {
    tpl_value v = tpl_undefined(TPL_NO_NAME);
    v.bytes = name;
    v.n = strlen(name);
    return v;
}

static tpl_value look_up(tpl_machine *m, const char *name) {
    for (const tpl_scope *scope = m->scope; scope != NULL; scope = scope->parent)
        for (const tpl_binding *b = scope->first; b != NULL; b = b->next)
            if (b->name == name)
                return b->value;
    const tpl_row *row = tpl_find_row(tpl_function_rows, name, strlen(name));
    if (row == NULL)
        return undefined_name(name);
    tpl_value v = {.kind = TPL_FUNCTION, .is_own = true};
    v.function = tpl_take(m, sizeof *v.function);
    v.function->row = row;
    return v;
}

static size_t count(const tpl_node *list) {
    size_t n = 0;
    for (; list != NULL; list = list->next)
        n++;
    return n;
}

static tpl_value list_of(tpl_machine *m, const tpl_node *node) {
    const size_t n = count(node->a);
    tpl_value *items = tpl_take_values(m, n);
    size_t i = 0;
    for (const tpl_node *item = node->a; item != NULL; item = item->next)
        items[i++] = tpl_evaluate(m, item);
    return tpl_items_value(node->kind == TPL_N_LIST ? TPL_LIST : TPL_TUPLE, items, n);
}

static tpl_value dict_of(tpl_machine *m, const tpl_node *node) {
    const tpl_value v = tpl_dict_new(m, count(node->a));
    for (const tpl_node *pair = node->a; pair != NULL; pair = pair->next) {
        const tpl_value key = tpl_evaluate(m, pair->a);
        tpl_dict_put(m, v.dict, key, tpl_evaluate(m, pair->b));
    }
    return v;
}

/* One place among the arguments for every item of a starred list. */
static void add_argument(tpl_machine *m, tpl_args *args, size_t *room, tpl_value value) {
    if (args->n == *room) {
        tpl_value *more = tpl_take_values(m, *room = *room * 2 + 4);
        if (args->n > 0)
            memcpy(more, args->values, args->n * sizeof *more);
        args->values = more;
    }
    ((tpl_value *)args->values)[args->n++] = value;
}

void tpl_evaluate_arguments(tpl_machine *m, const tpl_node *list, tpl_args *out) {
    tpl_value named = tpl_dict_new(m, 0);
    size_t room = 0, n;
    *out = (tpl_args){0};
    for (const tpl_node *arg = list; arg != NULL; arg = arg->next) {
        const tpl_value v = tpl_evaluate(m, arg->a);
        if (arg->op == '*') {
            const tpl_value *items = tpl_iterate(m, v, &n);
            for (size_t i = 0; i < n; i++)
                add_argument(m, out, &room, items[i]);
        } else if (arg->op == 'k') {
            if (v.kind != TPL_DICT)
                tpl_fail(m, "** needs a dict, not %s", tpl_type(v));
            for (size_t i = 0; i < v.dict->n; i++)
                tpl_dict_put(m, named.dict, v.dict->keys[i], v.dict->values[i]);
        } else if (arg->name != NULL) {
            tpl_dict_put(m, named.dict, tpl_word(arg->name), v);
        } else {
            add_argument(m, out, &room, v);
        }
    }
    out->n_named = named.dict->n;
    out->names = named.dict->keys;
    out->named = named.dict->values;
}

static tpl_value compare_all(tpl_machine *m, const tpl_node *node) {
    tpl_value left = tpl_evaluate(m, node->a);
    for (const tpl_node *operand = node->b; operand != NULL; operand = operand->next) {
        const tpl_value right = tpl_evaluate(m, operand->a);
        m->at = operand->at;
        if (!tpl_truth(tpl_binary(m, operand->op, left, right)))
            return tpl_bool(false);
        left = right;
    }
    return tpl_bool(true);
}

static tpl_value optional(tpl_machine *m, const tpl_node *node) {
    return node != NULL ? tpl_evaluate(m, node) : tpl_none();
}

static tpl_value item_of(tpl_machine *m, const tpl_node *node) {
    const tpl_value of = tpl_evaluate(m, node->a);
    const tpl_node *index = node->b;
    if (index->kind == TPL_N_SLICE) {
        const tpl_value from = optional(m, index->a), to = optional(m, index->b),
                        step = optional(m, index->c);
        m->at = node->at;
        return tpl_slice(m, of, from, to, step);
    }
    const tpl_value key = tpl_evaluate(m, index);
    m->at = node->at;
    return tpl_item(m, of, key);
}

static tpl_value attribute_of(tpl_machine *m, const tpl_node *node) {
    const tpl_value of = tpl_evaluate(m, node->a);
    m->at = node->at;
    return tpl_attribute(m, of, node->name, strlen(node->name));
}

static tpl_value row_of(tpl_machine *m, const tpl_node *node) {
    tpl_args args;
    if (node->row == NULL) {
        m->at = node->at;
        tpl_fail_unknown(m, node->kind == TPL_N_FILTER, node->name);
    }
    const tpl_value self = tpl_evaluate(m, node->a);
    tpl_evaluate_arguments(m, node->b, &args);
    m->at = node->at;
    return tpl_call_row(m, node->row, self, &args);
}

static tpl_value call_of(tpl_machine *m, const tpl_node *node) {
    tpl_args args;
    const tpl_value callee = tpl_evaluate(m, node->a);
    m->at = node->at;
    tpl_need(m, callee);
    tpl_evaluate_arguments(m, node->b, &args);
    m->at = node->at;
    return tpl_call_value(m, callee, &args);
}

static tpl_value binary_of(tpl_machine *m, const tpl_node *node) {
    const tpl_value a = tpl_evaluate(m, node->a), b = tpl_evaluate(m, node->b);
    m->at = node->at;
    return tpl_binary(m, node->op, a, b);
}

/* and, or, inline if: what is not reached is not looked at. */
static tpl_value chosen(tpl_machine *m, const tpl_node *node) {
    const tpl_value a = tpl_evaluate(m, node->a);
    const bool is_true = tpl_truth(a);
    if (node->kind == TPL_N_COND)
        return is_true           ? tpl_evaluate(m, node->b)
               : node->c != NULL ? tpl_evaluate(m, node->c)
                                 : tpl_undefined(TPL_NO_ELSE);
    return is_true == (node->kind == TPL_N_AND) ? tpl_evaluate(m, node->b) : a;
}

static tpl_value evaluate(tpl_machine *m, const tpl_node *node) {
    switch (node->kind) {
    case TPL_N_CONST:
        return node->value;
    case TPL_N_NAME:
        return look_up(m, node->name);
    case TPL_N_LIST:
    case TPL_N_TUPLE:
        return list_of(m, node);
    case TPL_N_DICT:
        return dict_of(m, node);
    case TPL_N_ATTR:
        return attribute_of(m, node);
    case TPL_N_ITEM:
        return item_of(m, node);
    case TPL_N_CALL:
        return call_of(m, node);
    case TPL_N_FILTER:
    case TPL_N_TEST:
        return row_of(m, node);
    case TPL_N_INPUT:
        return *m->input;
    case TPL_N_NOT:
        return tpl_bool(!tpl_truth(tpl_evaluate(m, node->a)));
    case TPL_N_NEGATE:
    case TPL_N_PLUS:
        return tpl_negate(m, tpl_evaluate(m, node->a), node->kind == TPL_N_NEGATE);
    case TPL_N_BINARY:
        return binary_of(m, node);
    case TPL_N_COMPARE:
        return compare_all(m, node);
    default:
        return chosen(m, node);
    }
}

tpl_value tpl_evaluate(tpl_machine *m, const tpl_node *node) {
    tpl_enter(m);
    m->at = node->at;
    const tpl_value v = evaluate(m, node);
    tpl_leave(m);
    return v;
}
