/* Expressions: one function a level of precedence, the tightest first. `~` binds tighter than + and looser
 * than *; all that binds tighter than an operator of two sides is an operand's. */
#include "launcher/template/parse.h"

static tpl_node *binary(tpl_parser *p, size_t at, int op, tpl_node *a, tpl_node *b) {
    tpl_node *node = tpl_node_new(p, TPL_N_BINARY);
    node->at = at;
    node->op = op;
    node->a = a;
    node->b = b;
    return node;
}

static tpl_node *power(tpl_parser *p) {
    tpl_node *left = tpl_parse_operand(p);
    while (tpl_at_sign(p, "**")) { /* from left to right, unlike Python */
        const size_t at = tpl_take_token(p)->at;
        left = binary(p, at, TPL_OP_POWER, left, tpl_parse_operand(p));
    }
    return left;
}

static tpl_node *product(tpl_parser *p) {
    tpl_node *left = power(p);
    for (;;) {
        const int op = tpl_at_sign(p, "*")    ? '*'
                       : tpl_at_sign(p, "/")  ? '/'
                       : tpl_at_sign(p, "//") ? TPL_OP_FLOOR
                       : tpl_at_sign(p, "%")  ? '%'
                                              : 0;
        if (op == 0)
            return left;
        const size_t at = tpl_take_token(p)->at;
        left = binary(p, at, op, left, power(p));
    }
}

static tpl_node *joined(tpl_parser *p) {
    tpl_node *left = product(p);
    while (tpl_at_sign(p, "~")) {
        const size_t at = tpl_take_token(p)->at;
        left = binary(p, at, '~', left, product(p));
    }
    return left;
}

static tpl_node *sum(tpl_parser *p) {
    tpl_node *left = joined(p);
    while (tpl_at_sign(p, "+") || tpl_at_sign(p, "-")) {
        const tpl_token *sign = tpl_take_token(p);
        left = binary(p, sign->at, sign->value.bytes[0], left, joined(p));
    }
    return left;
}

/* The comparison that stands here, taken; 0 when none does. */
static int comparison(tpl_parser *p) {
    static const struct {
        const char *sign;
        int op;
    } signs[] = {{"==", TPL_OP_EQUAL},
                 {"!=", TPL_OP_UNEQUAL},
                 {">=", TPL_OP_AT_LEAST},
                 {"<=", TPL_OP_AT_MOST},
                 {">", '>'},
                 {"<", '<'}};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (tpl_skip_sign(p, signs[i].sign))
            return signs[i].op;
    if (tpl_skip_name(p, "in"))
        return TPL_OP_IN;
    const tpl_token *next = tpl_peek(p);
    if (tpl_at_name(p, "not") && next[1].kind == TPL_T_NAME && tpl_is(next[1].value, "in")) {
        tpl_take_token(p);
        tpl_take_token(p);
        return TPL_OP_NOT_IN;
    }
    return 0;
}

static tpl_node *compare(tpl_parser *p) {
    tpl_node *first = sum(p), *all = NULL, **end = NULL;
    for (;;) {
        const size_t at = tpl_peek(p)->at;
        const int op = comparison(p);
        if (op == 0)
            return all != NULL ? all : first;
        if (all == NULL) {
            all = tpl_node_new(p, TPL_N_COMPARE);
            all->at = at;
            all->a = first;
            end = &all->b;
        }
        tpl_node *operand = tpl_node_new(p, TPL_N_OPERAND);
        operand->at = at;
        operand->op = op;
        operand->a = sum(p);
        *end = operand;
        end = &operand->next;
    }
}

static tpl_node *negation(tpl_parser *p) {
    if (!tpl_at_name(p, "not"))
        return compare(p);
    tpl_node *node = tpl_node_new(p, TPL_N_NOT);
    tpl_take_token(p);
    tpl_descend(p);
    node->a = negation(p);
    p->depth--;
    return node;
}

static tpl_node *conjunction(tpl_parser *p) {
    tpl_node *left = negation(p);
    while (tpl_at_name(p, "and")) {
        tpl_node *node = tpl_node_new(p, TPL_N_AND);
        tpl_take_token(p);
        node->a = left;
        node->b = negation(p);
        left = node;
    }
    return left;
}

static tpl_node *disjunction(tpl_parser *p) {
    tpl_node *left = conjunction(p);
    while (tpl_at_name(p, "or")) {
        tpl_node *node = tpl_node_new(p, TPL_N_OR);
        tpl_take_token(p);
        node->a = left;
        node->b = conjunction(p);
        left = node;
    }
    return left;
}

/* x if test else y: what is only reached under a condition may hold unknown filters. */
tpl_node *tpl_parse_expression(tpl_parser *p) {
    const bool was_soft = p->is_soft;
    const tpl_node *unknown = p->unknown;
    p->unknown = NULL;
    tpl_descend(p);
    tpl_node *left = disjunction(p);
    while (tpl_at_name(p, "if")) {
        tpl_node *node = tpl_node_new(p, TPL_N_COND);
        tpl_take_token(p);
        node->b = left;
        p->unknown = NULL;
        p->is_soft = true;
        node->a = disjunction(p);
        if (tpl_skip_name(p, "else"))
            node->c = tpl_parse_expression(p);
        left = node;
    }
    p->unknown = unknown != NULL ? unknown : p->unknown;
    p->is_soft = was_soft;
    p->depth--;
    return left;
}

static bool ends_tuple(const tpl_parser *p) {
    const tpl_token *t = tpl_peek(p);
    return t->kind == TPL_T_BLOCK_END || t->kind == TPL_T_PRINT_END || t->kind == TPL_T_END ||
           tpl_at_sign(p, ")") || tpl_at_sign(p, "=") || tpl_at_name(p, "in") || tpl_at_name(p, "if") ||
           tpl_at_name(p, "recursive");
}

tpl_node *tpl_parse_tuple(tpl_parser *p, bool takes_inline_if) {
    tpl_node *first = takes_inline_if ? tpl_parse_expression(p) : disjunction(p);
    if (!tpl_at_sign(p, ","))
        return first;
    tpl_node *tuple = tpl_node_new(p, TPL_N_TUPLE), **end = &first->next;
    tuple->at = first->at;
    tuple->a = first;
    while (tpl_skip_sign(p, ",") && !ends_tuple(p)) {
        *end = takes_inline_if ? tpl_parse_expression(p) : disjunction(p);
        end = &(*end)->next;
    }
    return tuple;
}
