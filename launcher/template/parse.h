/* launcher/template/parse.h - tokens to the tree of a template, by descent.
 *
 *     parse (statements) --> parse_expression (operators) --> parse_operand --> parse_tokens
 *
 * All nodes and names are the machine's memory. What a template may not say ends in tpl_fail, with the place
 * and what was expected there.
 */
#pragma once

#include "launcher/template/lexer.h"
#include "launcher/template/syntax.h"

/* Names seen so far, each once. */
typedef struct tpl_name {
    const char *text;
    struct tpl_name *next;
} tpl_name;

typedef struct tpl_parser {
    tpl_machine *m;
    const tpl_token *tokens; /* the last one is TPL_T_END */
    size_t at;
    int depth;
    int n_loops;             /* around this place, inside of the innermost macro */
    bool is_soft;            /* directly inside of an `if`: unknown filters and tests are put off */
    const tpl_node *unknown; /* a filter or test that has no row, in this tag, not under a condition */
    int uses;                /* TPL_USES_... of the innermost macro */
    tpl_name *names;
} tpl_parser;

/* The whole template as a list of statements. */
tpl_node *tpl_parse(tpl_parser *p);

/* An expression; several with commas are a tuple. */
tpl_node *tpl_parse_expression(tpl_parser *p);
tpl_node *tpl_parse_tuple(tpl_parser *p, bool takes_inline_if);

/* What stands between two operators, whole: sign, primary, what follows it, filters and tests. */
tpl_node *tpl_parse_operand(tpl_parser *p);

/* Its parts that statements take too: a literal, name or bracket; .x [x] (x) behind `node`; `name(...) |
 * name` over `node`. */
tpl_node *tpl_parse_primary(tpl_parser *p);
tpl_node *tpl_parse_postfix(tpl_parser *p, tpl_node *node);
tpl_node *tpl_parse_filters(tpl_parser *p, tpl_node *node);

/* The token that stands here; the same, and go on behind it (never behind the last one). */
const tpl_token *tpl_peek(const tpl_parser *p);
const tpl_token *tpl_take_token(tpl_parser *p);

/* Is it this sign or name? `skip` goes on behind it when it is, `expect` fails when it is not. */
bool tpl_at_sign(const tpl_parser *p, const char *sign);
bool tpl_at_name(const tpl_parser *p, const char *name);
bool tpl_skip_sign(tpl_parser *p, const char *sign);
bool tpl_skip_name(tpl_parser *p, const char *name);
void tpl_expect_sign(tpl_parser *p, const char *sign);
const char *tpl_expect_name(tpl_parser *p, const char *what); /* any name, interned */

/* End with "expected ..., found ...". */
_Noreturn void tpl_unexpected(tpl_parser *p, const char *expected);

/* Around everything that calls itself; p->depth-- leaves again. */
void tpl_descend(tpl_parser *p);

/* A node at this place of the source; the one pointer for the name that `token` spells. */
tpl_node *tpl_node_new(tpl_parser *p, tpl_node_kind kind);
const char *tpl_intern(tpl_parser *p, const tpl_token *token);
