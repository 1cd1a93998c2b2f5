/* Statements. */
#include <string.h>

#include "launcher/template/evaluate.h"

tpl_value tpl_capture(tpl_machine *m, const tpl_node *list, tpl_scope *scope) {
    tpl_builder text = tpl_builder_of(m), *const outside = m->output;
    tpl_scope *const before = m->scope;
    m->output = &text;
    m->scope = scope;
    tpl_execute(m, list);
    m->output = outside;
    m->scope = before;
    return tpl_built(&text);
}

static void assign_attribute(tpl_machine *m, const tpl_node *target, tpl_value value) {
    const tpl_value of = tpl_evaluate(m, target->a);
    m->at = target->at;
    if (of.kind != TPL_NAMESPACE)
        tpl_fail(m, "cannot set an attribute of %s, only of a namespace", tpl_type(of));
    if (target->name[0] == '_')
        tpl_fail(m, "a namespace takes no name that begins with '_': '%.40s'", target->name);
    tpl_dict_put(m, of.dict, tpl_word(target->name), value);
}

static void assign_all(tpl_machine *m, const tpl_node *target, tpl_value value) {
    size_t n, i = 0;
    tpl_need(m, value);
    const tpl_value *items = tpl_iterate(m, value, &n);
    for (const tpl_node *one = target->a; one != NULL; one = one->next, i++) {
        if (i >= n)
            tpl_fail(m, "not enough values to unpack: %zu", n);
        tpl_assign(m, one, items[i]);
    }
    m->at = target->at;
    if (i < n)
        tpl_fail(m, "too many values to unpack: %zu, expected %zu", n, i);
}

void tpl_assign(tpl_machine *m, const tpl_node *target, tpl_value value) {
    m->at = target->at;
    if (target->kind == TPL_N_NAME)
        tpl_scope_set(m, m->scope, target->name, value);
    else if (target->kind == TPL_N_ATTR)
        assign_attribute(m, target, value);
    else
        assign_all(m, target, value);
}

/* A body's text through a chain of filters. */
static tpl_value filtered(tpl_machine *m, const tpl_node *chain, const tpl_node *list) {
    const tpl_value *const outside = m->input;
    const tpl_value text = tpl_capture(m, list, tpl_scope_open(m, m->scope));
    if (chain == NULL)
        return text;
    m->input = &text;
    const tpl_value v = tpl_evaluate(m, chain);
    m->input = outside;
    return v;
}

static void define_macro(tpl_machine *m, const tpl_node *node) {
    tpl_value v = {.kind = TPL_MACRO, .is_own = true};
    v.macro = tpl_take(m, sizeof *v.macro);
    *v.macro = (tpl_macro){.node = node, .scope = m->scope};
    tpl_scope_set(m, m->scope, node->name, v);
}

/* A body with names of its own; what `with` gives them is seen from outside. */
static int execute_inside(tpl_machine *m, const tpl_node *node) {
    tpl_scope *const outside = m->scope, *inside = tpl_scope_open(m, outside);
    for (const tpl_node *set = node->a; set != NULL; set = set->next)
        tpl_scope_set(m, inside, set->a->name, tpl_evaluate(m, set->b));
    m->scope = inside;
    const int jump = tpl_execute(m, node->c);
    m->scope = outside;
    return jump;
}

/* {% call m() %}body{% endcall %}: the body is a macro that m knows as `caller`. */
static void execute_call(tpl_machine *m, const tpl_node *node) {
    tpl_args args;
    tpl_value caller = {.kind = TPL_MACRO, .is_own = true};
    caller.macro = tpl_take(m, sizeof *caller.macro);
    *caller.macro = (tpl_macro){.node = node->b, .scope = m->scope};
    const tpl_value callee = tpl_evaluate(m, node->a->a);
    tpl_evaluate_arguments(m, node->a->b, &args);
    tpl_value *names = tpl_take_values(m, args.n_named + 1), *named = tpl_take_values(m, args.n_named + 1);
    if (args.n_named > 0) {
        memcpy(names, args.names, args.n_named * sizeof *names);
        memcpy(named, args.named, args.n_named * sizeof *named);
    }
    names[args.n_named] = tpl_word("caller");
    named[args.n_named++] = caller;
    args.names = names;
    args.named = named;
    m->at = node->at;
    tpl_print(m->output, tpl_call_value(m, callee, &args));
}

static int execute_if(tpl_machine *m, const tpl_node *node) {
    const bool is_true = tpl_truth(tpl_evaluate(m, node->a));
    return tpl_execute(m, is_true ? node->b : node->c);
}

static int execute_one(tpl_machine *m, const tpl_node *node) {
    switch (node->kind) {
    case TPL_N_TEXT:
        tpl_add_text(m->output, node->value);
        break;
    case TPL_N_PRINT:
        tpl_print(m->output, tpl_evaluate(m, node->a));
        break;
    case TPL_N_IF:
        return execute_if(m, node);
    case TPL_N_FOR:
        return tpl_execute_for(m, node);
    case TPL_N_SET:
        tpl_assign(m, node->a, tpl_evaluate(m, node->b));
        break;
    case TPL_N_SET_BLOCK:
        tpl_assign(m, node->a, filtered(m, node->b, node->c));
        break;
    case TPL_N_MACRO:
        define_macro(m, node);
        break;
    case TPL_N_CALL_BLOCK:
        execute_call(m, node);
        break;
    case TPL_N_FILTER_BLOCK:
        tpl_print(m->output, filtered(m, node->b, node->c));
        break;
    case TPL_N_WITH:
    case TPL_N_SCOPE:
        return execute_inside(m, node);
    default:
        return (int)node->kind; /* break, continue */
    }
    return 0;
}

int tpl_execute(tpl_machine *m, const tpl_node *list) {
    int jump = 0;
    tpl_enter(m);
    for (; list != NULL && jump == 0; list = list->next) {
        tpl_step(m, 1);
        m->at = list->at;
        jump = execute_one(m, list);
    }
    tpl_leave(m);
    return jump;
}

static tpl_value named_argument(const tpl_args *args, const char *name) {
    for (size_t i = 0; i < args->n_named; i++)
        if (tpl_is(args->names[i], name))
            return args->named[i];
    return (tpl_value){.kind = TPL_ABSENT};
}

/* Parameters into the scope of a call; how many arguments by position they take. */
static size_t bind_parameters(tpl_machine *m, const tpl_macro *macro, const tpl_args *args) {
    size_t i = 0;
    for (const tpl_node *p = macro->node->a; p != NULL; p = p->next, i++) {
        tpl_value v = named_argument(args, p->name);
        if (i < args->n && tpl_given(v))
            tpl_fail(m, "macro '%s' takes '%s' once", macro->node->name, p->name);
        if (i < args->n)
            v = args->values[i];
        if (!tpl_given(v)) {
            v = p->a != NULL ? tpl_evaluate(m, p->a) : tpl_undefined(TPL_NO_NAME);
            if (p->a == NULL) {
                v.bytes = p->name;
                v.n = strlen(p->name);
            }
        }
        tpl_scope_set(m, m->scope, p->name, v);
    }
    return i;
}

static bool is_parameter(const tpl_macro *macro, tpl_value name) {
    for (const tpl_node *p = macro->node->a; p != NULL; p = p->next)
        if (tpl_is(name, p->name))
            return true;
    return false;
}

/* What the parameters leave over: varargs, kwargs, caller, where the body asks for them. */
static void bind_rest(tpl_machine *m, const tpl_macro *macro, const tpl_args *args, size_t n_taken) {
    const char *const *interned = m->special_names;
    const int uses = macro->node->op;
    const size_t n_rest = args->n > n_taken ? args->n - n_taken : 0;
    tpl_value kwargs = tpl_dict_new(m, 0);
    if (n_rest > 0 && (uses & TPL_USES_VARARGS) == 0)
        tpl_fail(m, "macro '%s' takes not more than %zu arguments", macro->node->name, n_taken);
    if ((uses & TPL_USES_VARARGS) != 0)
        tpl_scope_set(m, m->scope, interned[0],
                      tpl_items_value(TPL_TUPLE, n_rest > 0 ? args->values + n_taken : NULL, n_rest));
    for (size_t i = 0; i < args->n_named; i++) {
        const tpl_value name = args->names[i];
        if (is_parameter(macro, name))
            continue;
        if (tpl_is(name, "caller") && (uses & TPL_USES_CALLER) != 0)
            tpl_scope_set(m, m->scope, interned[2], args->named[i]);
        else if ((uses & TPL_USES_KWARGS) != 0)
            tpl_dict_put(m, kwargs.dict, name, args->named[i]);
        else
            tpl_fail(m, "macro '%s' takes no argument '%.*s'", macro->node->name,
                     (int)(name.n < 40 ? name.n : 40), name.bytes);
    }
    if ((uses & TPL_USES_KWARGS) != 0)
        tpl_scope_set(m, m->scope, interned[1], kwargs);
}

tpl_value tpl_call_macro(tpl_machine *m, const tpl_macro *macro, const tpl_args *args) {
    tpl_scope *const outside = m->scope, *inside = tpl_scope_open(m, macro->scope);
    tpl_enter(m);
    m->scope = inside;
    const size_t n_taken = bind_parameters(m, macro, args);
    bind_rest(m, macro, args, n_taken);
    const tpl_value text = tpl_capture(m, macro->node->c, inside);
    m->scope = outside;
    tpl_leave(m);
    return text;
}
