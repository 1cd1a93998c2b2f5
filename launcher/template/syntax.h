/* launcher/template/syntax.h - a template as a tree.
 *
 * One kind of node for all: what a, b, c and d mean is said beside each kind. Lists of nodes hang together by
 * `next`. Names are interned: equal names are one pointer.
 */
#pragma once

#include "launcher/template/call.h"

typedef enum tpl_node_kind {
    /* expressions */
    TPL_N_CONST,   /* value */
    TPL_N_NAME,    /* name */
    TPL_N_LIST,    /* a: items */
    TPL_N_TUPLE,   /* a: items */
    TPL_N_DICT,    /* a: PAIRs */
    TPL_N_PAIR,    /* a: b */
    TPL_N_ATTR,    /* a.name */
    TPL_N_ITEM,    /* a[b] */
    TPL_N_SLICE,   /* a:b:c inside of ITEM, each may be NULL */
    TPL_N_CALL,    /* a(b: ARGs) */
    TPL_N_ARG,     /* name = a; op: 0, '*' or 'k' for ** */
    TPL_N_FILTER,  /* a | name(b: ARGs); row NULL: unknown */
    TPL_N_TEST,    /* a is name(b: ARGs) */
    TPL_N_INPUT,   /* what a filter of a block works on */
    TPL_N_NOT,     /* not a */
    TPL_N_NEGATE,  /* -a */
    TPL_N_PLUS,    /* +a */
    TPL_N_BINARY,  /* a op b */
    TPL_N_COMPARE, /* a, then b: OPERANDs */
    TPL_N_OPERAND, /* op a */
    TPL_N_AND,     /* a and b */
    TPL_N_OR,      /* a or b */
    TPL_N_COND,    /* b if a else c (NULL) */
    /* statements */
    TPL_N_TEXT,         /* value */
    TPL_N_PRINT,        /* a */
    TPL_N_IF,           /* a; body b; else c: a list, maybe of one IF */
    TPL_N_FOR,          /* target a in b: body c, else d; test: filter; op: recursive */
    TPL_N_SET,          /* target a = b */
    TPL_N_SET_BLOCK,    /* target a; filter chain b (NULL) over body c */
    TPL_N_MACRO,        /* name(a: PARAMs): body c; op: TPL_USES_... */
    TPL_N_PARAM,        /* name, default a (NULL) */
    TPL_N_CALL_BLOCK,   /* call a; b: the body as MACRO */
    TPL_N_FILTER_BLOCK, /* filter chain b over body c */
    TPL_N_WITH,         /* a: SETs, seen in body c */
    TPL_N_SCOPE,        /* body c; names set in it end with it */
    TPL_N_BREAK,
    TPL_N_CONTINUE,
} tpl_node_kind;

/* What the body of a macro mentions beside its parameters. */
enum { TPL_USES_VARARGS = 1, TPL_USES_KWARGS = 2, TPL_USES_CALLER = 4 };

/* Operators of two letters get a letter of their own. */
enum {
    TPL_OP_POWER = 'P',
    TPL_OP_FLOOR = 'F',
    TPL_OP_EQUAL = 'E',
    TPL_OP_UNEQUAL = 'N',
    TPL_OP_AT_LEAST = 'G',
    TPL_OP_AT_MOST = 'L',
    TPL_OP_IN = 'i',
    TPL_OP_NOT_IN = 'n',
};

typedef struct tpl_node {
    tpl_node_kind kind;
    int op;
    size_t at; /* byte in the source */
    struct tpl_node *next;
    struct tpl_node *a, *b, *c, *d, *test;
    const char *name;
    const tpl_row *row;
    tpl_value value;
} tpl_node;
