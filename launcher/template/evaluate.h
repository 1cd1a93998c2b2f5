/* launcher/template/evaluate.h - walking the tree: expressions give values, statements write text. */
#pragma once

#include "launcher/template/print.h"
#include "launcher/template/syntax.h"

/* Names and their values. A loop's turn, a macro's call and some blocks have a scope of their own; `if` has
 * none. A name is looked for from the inside out. */
typedef struct tpl_binding {
    const char *name; /* interned */
    tpl_value value;
    struct tpl_binding *next;
} tpl_binding;

typedef struct tpl_scope {
    struct tpl_scope *parent;
    tpl_binding *first;
} tpl_scope;

typedef struct tpl_macro {
    const tpl_node *node;
    tpl_scope *scope; /* where it was defined */
} tpl_macro;

tpl_scope *tpl_scope_open(tpl_machine *m, tpl_scope *parent);
void tpl_scope_set(tpl_machine *m, tpl_scope *scope, const char *name, tpl_value value);

tpl_value tpl_evaluate(tpl_machine *m, const tpl_node *node);
tpl_value tpl_binary(tpl_machine *m, int op, tpl_value a, tpl_value b);
tpl_value tpl_negate(tpl_machine *m, tpl_value v, bool is_minus);
tpl_value tpl_slice(tpl_machine *m, tpl_value v, tpl_value from, tpl_value to, tpl_value step);

/* Python's "..." % values, and "...".format(values) with names, numbers and widths. */
tpl_value tpl_format_percent(tpl_machine *m, tpl_value format, tpl_value values);
tpl_value tpl_format_braces(tpl_machine *m, tpl_call *call);

/* At most `limit` places of `old`, all below 0. */
tpl_value tpl_replace(tpl_machine *m, tpl_value text, tpl_value old, tpl_value with, int64_t limit);

/* Methods that are files of their own. */
tpl_value tpl_split(tpl_machine *m, tpl_call *call);
tpl_value tpl_rsplit(tpl_machine *m, tpl_call *call);
tpl_value tpl_splitlines(tpl_machine *m, tpl_call *call);

/* The arguments of a call, stars unpacked. */
void tpl_evaluate_arguments(tpl_machine *m, const tpl_node *list, tpl_args *out);

/* Statements. The jump that ended them is returned: 0, TPL_N_BREAK or TPL_N_CONTINUE. */
int tpl_execute(tpl_machine *m, const tpl_node *list);
/* What they write, as a text, in a scope of their own. */
tpl_value tpl_capture(tpl_machine *m, const tpl_node *list, tpl_scope *scope);
/* Put a value into a target: a name, an attribute of a namespace, or several of them. */
void tpl_assign(tpl_machine *m, const tpl_node *target, tpl_value value);

tpl_value tpl_call_macro(tpl_machine *m, const tpl_macro *macro, const tpl_args *args);

/* for */
int tpl_execute_for(tpl_machine *m, const tpl_node *node);
tpl_value tpl_loop_attribute(tpl_machine *m, struct tpl_loop *loop, const char *name, size_t n);
tpl_value tpl_call_loop(tpl_machine *m, struct tpl_loop *loop, const tpl_args *args);
