/* What stands between two operators: a literal, a name or a bracket, what follows it (.x [x] (x), a filter, a
 * test) and the sign before it. A sign binds tighter than **, and filters and tests tighter than a sign. */
#include "launcher/template/parse.h"

#include <string.h>

static tpl_node *parenthesis(tpl_parser *p) {
    tpl_node *node = tpl_node_new(p, TPL_N_TUPLE);
    tpl_take_token(p);
    if (tpl_skip_sign(p, ")"))
        return node; /* () */
    node = tpl_parse_tuple(p, true);
    tpl_expect_sign(p, ")");
    return node;
}

static tpl_node *list(tpl_parser *p) {
    tpl_node *node = tpl_node_new(p, TPL_N_LIST), **end = &node->a;
    tpl_take_token(p);
    while (!tpl_at_sign(p, "]")) {
        if (end != &node->a) {
            tpl_expect_sign(p, ",");
            if (tpl_at_sign(p, "]"))
                break;
        }
        *end = tpl_parse_expression(p);
        end = &(*end)->next;
    }
    tpl_take_token(p);
    return node;
}

static tpl_node *dict(tpl_parser *p) {
    tpl_node *node = tpl_node_new(p, TPL_N_DICT), **end = &node->a;
    tpl_take_token(p);
    while (!tpl_at_sign(p, "}")) {
        if (end != &node->a) {
            tpl_expect_sign(p, ",");
            if (tpl_at_sign(p, "}"))
                break;
        }
        tpl_node *pair = tpl_node_new(p, TPL_N_PAIR);
        pair->a = tpl_parse_expression(p);
        tpl_expect_sign(p, ":");
        pair->b = tpl_parse_expression(p);
        *end = pair;
        end = &pair->next;
    }
    tpl_take_token(p);
    return node;
}

/* Strings that stand side by side are one. */
static tpl_node *string(tpl_parser *p) {
    tpl_node *node = tpl_node_new(p, TPL_N_CONST);
    tpl_builder b = tpl_builder_of(p->m);
    while (tpl_peek(p)->kind == TPL_T_STRING)
        tpl_add_text(&b, tpl_take_token(p)->value);
    node->value = tpl_built(&b);
    return node;
}

static tpl_node *name(tpl_parser *p) {
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    const tpl_token *token = tpl_peek(p);
    for (int i = 0; i < 6; i++)
        if (tpl_is(token->value, words[i])) {
            tpl_node *constant = tpl_node_new(p, TPL_N_CONST);
            constant->value = i < 4 ? tpl_bool(i < 2) : tpl_none();
            tpl_take_token(p);
            return constant;
        }
    tpl_node *node = tpl_node_new(p, TPL_N_NAME);
    node->name = tpl_intern(p, tpl_take_token(p));
    p->uses |= strcmp(node->name, "varargs") == 0  ? TPL_USES_VARARGS
               : strcmp(node->name, "kwargs") == 0 ? TPL_USES_KWARGS
               : strcmp(node->name, "caller") == 0 ? TPL_USES_CALLER
                                                   : 0;
    return node;
}

tpl_node *tpl_parse_primary(tpl_parser *p) {
    const tpl_token *token = tpl_peek(p);
    if (token->kind == TPL_T_NAME)
        return name(p);
    if (token->kind == TPL_T_STRING)
        return string(p);
    if (token->kind == TPL_T_NUMBER) {
        tpl_node *node = tpl_node_new(p, TPL_N_CONST);
        node->value = tpl_take_token(p)->value;
        return node;
    }
    if (tpl_at_sign(p, "("))
        return parenthesis(p);
    if (tpl_at_sign(p, "["))
        return list(p);
    if (tpl_at_sign(p, "{"))
        return dict(p);
    tpl_unexpected(p, "an expression");
}

static tpl_node *argument(tpl_parser *p) {
    tpl_node *node = tpl_node_new(p, TPL_N_ARG);
    const tpl_token *token = tpl_peek(p);
    if (tpl_skip_sign(p, "*"))
        node->op = '*';
    else if (tpl_skip_sign(p, "**"))
        node->op = 'k';
    else if (token->kind == TPL_T_NAME && token[1].kind == TPL_T_SIGN && tpl_is(token[1].value, "=")) {
        node->name = tpl_intern(p, tpl_take_token(p));
        tpl_take_token(p);
    }
    node->a = tpl_parse_expression(p);
    return node;
}

/* ( ... ) behind a name: a list of ARGs. */
static tpl_node *arguments(tpl_parser *p) {
    tpl_node *first = NULL, **end = &first;
    bool is_named = false;
    tpl_expect_sign(p, "(");
    while (!tpl_at_sign(p, ")")) {
        if (first != NULL) {
            tpl_expect_sign(p, ",");
            if (tpl_at_sign(p, ")"))
                break;
        }
        *end = argument(p);
        if (is_named && (*end)->name == NULL && (*end)->op == 0)
            tpl_unexpected(p, "no argument without a name behind one with a name");
        is_named = is_named || (*end)->name != NULL || (*end)->op == 'k';
        end = &(*end)->next;
    }
    tpl_take_token(p);
    return first;
}

/* One index, or a slice with up to two colons. */
static tpl_node *subscript(tpl_parser *p) {
    tpl_node *slice = tpl_node_new(p, TPL_N_SLICE), *index = NULL;
    if (!tpl_at_sign(p, ":")) {
        index = tpl_parse_expression(p);
        if (!tpl_at_sign(p, ":"))
            return index;
    }
    slice->a = index;
    tpl_expect_sign(p, ":");
    if (!tpl_at_sign(p, ":") && !tpl_at_sign(p, "]"))
        slice->b = tpl_parse_expression(p);
    if (tpl_skip_sign(p, ":") && !tpl_at_sign(p, "]"))
        slice->c = tpl_parse_expression(p);
    return slice;
}

static tpl_node *dotted(tpl_parser *p, tpl_node *of) {
    tpl_node *node = tpl_node_new(p, TPL_N_ATTR);
    tpl_take_token(p);
    node->a = of;
    if (tpl_peek(p)->kind == TPL_T_NUMBER && tpl_peek(p)->value.kind == TPL_INT) { /* xs.0 */
        node->kind = TPL_N_ITEM;
        node->b = tpl_parse_primary(p);
        return node;
    }
    node->name = tpl_expect_name(p, "the name of an attribute");
    return node;
}

tpl_node *tpl_parse_postfix(tpl_parser *p, tpl_node *node) {
    for (;;) {
        if (tpl_at_sign(p, ".")) {
            node = dotted(p, node);
        } else if (tpl_at_sign(p, "[")) {
            tpl_node *item = tpl_node_new(p, TPL_N_ITEM);
            tpl_take_token(p);
            item->a = node;
            item->b = subscript(p);
            if (tpl_at_sign(p, ","))
                tpl_unexpected(p, "one index");
            tpl_expect_sign(p, "]");
            node = item;
        } else if (tpl_at_sign(p, "(")) {
            tpl_node *call = tpl_node_new(p, TPL_N_CALL);
            call->a = node;
            call->b = arguments(p);
            node = call;
        } else {
            return node;
        }
    }
}

/* The row of a filter or test. One that is not known is remembered: whether it is only reached under a
 * condition is clear at the end of its tag. */
static void take_row(tpl_parser *p, tpl_node *node, const tpl_row *row) {
    if (row != NULL && row->run != NULL)
        node->row = row;
    else if (!p->is_soft && p->unknown == NULL)
        p->unknown = node;
}

static const char *row_name(tpl_parser *p, const char *what) {
    const char *first = tpl_expect_name(p, what);
    if (tpl_at_sign(p, "."))
        tpl_unexpected(p, "a name without a dot");
    return first;
}

static tpl_node *filter(tpl_parser *p, tpl_node *input) {
    tpl_node *node = tpl_node_new(p, TPL_N_FILTER);
    node->a = input;
    node->name = row_name(p, "the name of a filter");
    take_row(p, node, tpl_find_filter(node->name, strlen(node->name)));
    if (tpl_at_sign(p, "("))
        node->b = arguments(p);
    return node;
}

tpl_node *tpl_parse_filters(tpl_parser *p, tpl_node *node) {
    do
        node = filter(p, node);
    while (tpl_skip_sign(p, "|"));
    return node;
}

/* A test takes one argument without brackets, but none of the words that go on with the expression. */
static bool has_bare_argument(const tpl_parser *p) {
    const tpl_token *t = tpl_peek(p);
    if (t->kind == TPL_T_NAME)
        return !tpl_is(t->value, "else") && !tpl_is(t->value, "or") && !tpl_is(t->value, "and") &&
               !tpl_is(t->value, "if") && !tpl_is(t->value, "is") && !tpl_is(t->value, "in") &&
               !tpl_is(t->value, "not") && !tpl_is(t->value, "recursive");
    return t->kind == TPL_T_STRING || t->kind == TPL_T_NUMBER || tpl_at_sign(p, "[") || tpl_at_sign(p, "{");
}

static tpl_node *test(tpl_parser *p, tpl_node *of) {
    tpl_node *node = tpl_node_new(p, TPL_N_TEST);
    tpl_take_token(p); /* is */
    const bool is_negated = tpl_skip_name(p, "not");
    node->a = of;
    node->name = row_name(p, "the name of a test");
    take_row(p, node, tpl_find_row(tpl_test_rows, node->name, strlen(node->name)));
    if (tpl_at_sign(p, "(")) {
        node->b = arguments(p);
    } else if (has_bare_argument(p)) {
        node->b = tpl_node_new(p, TPL_N_ARG);
        node->b->a = tpl_parse_postfix(p, tpl_parse_primary(p));
    }
    if (!is_negated)
        return node;
    tpl_node *negated = tpl_node_new(p, TPL_N_NOT);
    negated->at = node->at;
    negated->a = node;
    return negated;
}

static tpl_node *operand(tpl_parser *p, bool takes_filters) {
    tpl_node *node;
    tpl_descend(p);
    if (tpl_at_sign(p, "-") || tpl_at_sign(p, "+")) {
        node = tpl_node_new(p, tpl_at_sign(p, "-") ? TPL_N_NEGATE : TPL_N_PLUS);
        tpl_take_token(p);
        node->a = operand(p, false);
    } else {
        node = tpl_parse_primary(p);
    }
    node = tpl_parse_postfix(p, node);
    while (takes_filters) {
        if (tpl_skip_sign(p, "|"))
            node = filter(p, node);
        else if (tpl_at_name(p, "is"))
            node = test(p, node);
        else if (tpl_at_sign(p, "("))
            node = tpl_parse_postfix(p, node);
        else
            break;
    }
    p->depth--;
    return node;
}

tpl_node *tpl_parse_operand(tpl_parser *p) {
    return operand(p, true);
}
