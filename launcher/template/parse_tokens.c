/* The parser's hand on the tokens: what stands here, taking it, refusing it; nodes and names. */
#include "launcher/template/parse.h"

#include <string.h>

const tpl_token *tpl_peek(const tpl_parser *p) {
    return &p->tokens[p->at];
}

const tpl_token *tpl_take_token(tpl_parser *p) {
    const tpl_token *token = &p->tokens[p->at];
    if (token->kind != TPL_T_END)
        p->at++;
    return token;
}

static bool is_at(const tpl_parser *p, tpl_token_kind kind, const char *word) {
    return tpl_peek(p)->kind == kind && tpl_is(tpl_peek(p)->value, word);
}
bool tpl_at_sign(const tpl_parser *p, const char *sign) {
    return is_at(p, TPL_T_SIGN, sign);
}
bool tpl_at_name(const tpl_parser *p, const char *name) {
    return is_at(p, TPL_T_NAME, name);
}
bool tpl_skip_sign(tpl_parser *p, const char *sign) {
    const bool is_here = tpl_at_sign(p, sign);
    p->at += is_here;
    return is_here;
}
bool tpl_skip_name(tpl_parser *p, const char *name) {
    const bool is_here = tpl_at_name(p, name);
    p->at += is_here;
    return is_here;
}

void tpl_unexpected(tpl_parser *p, const char *expected) {
    const tpl_token *found = tpl_peek(p);
    p->m->at = found->at;
    if (found->value.kind != TPL_TEXT)
        tpl_fail(p->m, "expected %s, found a number", expected);
    tpl_fail(p->m, "expected %s, found '%.*s'", expected, (int)(found->value.n < 40 ? found->value.n : 40),
             found->value.bytes);
}

void tpl_expect_sign(tpl_parser *p, const char *sign) {
    char expected[16] = {'\'', '\0'};
    if (tpl_skip_sign(p, sign))
        return;
    strcat(strcat(expected, sign), "'");
    tpl_unexpected(p, expected);
}

void tpl_descend(tpl_parser *p) {
    p->m->at = tpl_peek(p)->at;
    tpl_step(p->m, 1);
    if (++p->depth > TPL_MAX_NESTING)
        tpl_fail(p->m, "nested too deeply (%d levels)", TPL_MAX_NESTING);
}

tpl_node *tpl_node_new(tpl_parser *p, tpl_node_kind kind) {
    tpl_node *node = tpl_take(p->m, sizeof *node);
    node->kind = kind;
    node->at = tpl_peek(p)->at;
    return node;
}

const char *tpl_intern(tpl_parser *p, const tpl_token *token) {
    for (const tpl_name *name = p->names; name != NULL; name = name->next)
        if (tpl_is(token->value, name->text))
            return name->text;
    tpl_name *name = tpl_take(p->m, sizeof *name);
    char *text = tpl_take(p->m, token->value.n + 1);
    memcpy(text, token->value.bytes, token->value.n);
    *name = (tpl_name){.text = text, .next = p->names};
    p->names = name;
    return text;
}

const char *tpl_expect_name(tpl_parser *p, const char *what) {
    if (tpl_peek(p)->kind != TPL_T_NAME)
        tpl_unexpected(p, what);
    return tpl_intern(p, tpl_take_token(p));
}
