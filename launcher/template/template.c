#include "launcher/template/template.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/template/evaluate.h"
#include "launcher/template/parse.h"

struct cdp_chat_template {
    char *name;
    tpl_machine memory; /* holds source, names and tree */
    const tpl_node *body;
    const tpl_name *names;
    const char *loop_name, *special_names[3];
};

static const char *intern(tpl_parser *p, const char *word) {
    const tpl_token token = {.kind = TPL_T_NAME, .value = tpl_word(word)};
    return tpl_intern(p, &token);
}

static void parse(cdp_chat_template *t, const char *text, size_t n) {
    tpl_machine *m = &t->memory;
    tpl_parser p = {.m = m};
    size_t n_tokens;
    if (n > TPL_MAX_SOURCE)
        tpl_fail(m, "%s: a template of %zu bytes, at most %d are taken", m->name, n, TPL_MAX_SOURCE);
    tpl_lex_normalize(m, text, n);
    p.tokens = tpl_lex(m, &n_tokens);
    t->loop_name = intern(&p, "loop");
    t->special_names[0] = intern(&p, "varargs");
    t->special_names[1] = intern(&p, "kwargs");
    t->special_names[2] = intern(&p, "caller");
    t->body = tpl_parse(&p);
    t->names = p.names;
}

/* Every fault of the parser comes back here. */
static cdp_status parse_guarded(cdp_chat_template *t, const char *text, size_t n) {
    if (setjmp(t->memory.out) != 0)
        return t->memory.fault_code;
    parse(t, text, n);
    return CDP_OK;
}

cdp_status cdp_chat_template_open(cdp_chat_template **out, const char *name, const char *text, size_t n) {
    *out = NULL;
    cdp_chat_template *t = calloc(1, sizeof *t);
    if (t == NULL || (t->name = strdup(name)) == NULL) {
        free(t);
        return cdp_fail(CDP_SYSTEM, "no memory for the chat template");
    }
    t->memory = (tpl_machine){.name = t->name, .fault_code = CDP_BAD_MODEL};
    const cdp_status st = parse_guarded(t, text, n);
    if (st == CDP_OK)
        *out = t;
    else
        cdp_chat_template_close(t);
    return st;
}

void cdp_chat_template_close(cdp_chat_template *t) {
    if (t == NULL)
        return;
    tpl_machine_close(&t->memory);
    free(t->name);
    free(t);
}

static void complete_reasoning(tpl_machine *m, tpl_dict *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const tpl_value *found = tpl_dict_find_word(message, names[i]);
        if (found == NULL || found->kind == TPL_NONE)
            continue;
        const tpl_value reasoning = *found;
        tpl_dict_put(m, message, tpl_word("reasoning_content"), reasoning);
        if (tpl_dict_find_word(message, "thinking") == NULL)
            tpl_dict_put(m, message, tpl_word("thinking"), reasoning);
        return;
    }
}

/* Faults of a variable have no place in the template. */
static tpl_value value_of(tpl_machine *m, const cdp_variable *v) {
    const char *source = m->source;
    m->source = NULL;
    const char *what = v->file != NULL ? v->file : v->name;
    const tpl_value value = tpl_parse_json(m, v->json, v->n_json, what, v->is_own);
    for (size_t i = 0; v->is_messages && i < (value.kind == TPL_LIST ? value.n : 1); i++) {
        if (value.kind != TPL_LIST || value.items[i].kind != TPL_DICT)
            tpl_fail(m, "%s: expected a list of objects", what);
        complete_reasoning(m, value.items[i].dict);
    }
    m->source = source;
    return value;
}

/* Variables whose names the template never mentions are not even read. */
static void set_variables(tpl_machine *m, const cdp_chat_template *t, const cdp_variable *variables, int n) {
    for (int i = 0; i < n; i++)
        for (const tpl_name *name = t->names; name != NULL; name = name->next)
            if (strcmp(name->text, variables[i].name) == 0)
                tpl_scope_set(m, m->scope, name->text, value_of(m, &variables[i]));
}

/* The result out of the arena: text and the spans of its own bytes. */
static cdp_status hand_over(const tpl_builder *output, cdp_rendered *out) {
    const tpl_value text = tpl_built(output);
    out->text = malloc(text.n + 1);
    if (out->text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the rendered text");
    memcpy(out->text, text.bytes, text.n);
    out->text[text.n] = '\0';
    out->n = text.n;
    for (size_t begin = 0, end; begin < text.n; begin = end) {
        const bool is_own = tpl_is_own_at(text, begin);
        for (end = begin + 1; end < text.n && tpl_is_own_at(text, end) == is_own; end++)
            ;
        if (is_own)
            cdp_spans_add(&out->own, begin, end);
    }
    return out->own.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the rendered text") : CDP_OK;
}

/* Every fault of the rendering comes back here. */
static cdp_status render_guarded(tpl_machine *m, const cdp_chat_template *t, const cdp_variable *variables,
                                 int n, cdp_rendered *out) {
    if (setjmp(m->out) != 0)
        return m->fault_code;
    /* What the caller gives is outside, as globals are: a template may set the same name inside. */
    m->scope = tpl_scope_open(m, NULL);
    set_variables(m, t, variables, n);
    m->scope = tpl_scope_open(m, m->scope);
    tpl_execute(m, t->body);
    return hand_over(m->output, out);
}

cdp_status cdp_chat_template_render(const cdp_chat_template *t, const cdp_variable *variables,
                                    int n_variables, const cdp_clock *clock, cdp_rendered *out) {
    *out = (cdp_rendered){0};
    tpl_machine m = {.name = t->name,
                     .source = t->memory.source,
                     .n_source = t->memory.n_source,
                     .fault_code = CDP_BAD_DATA,
                     .clock = clock,
                     .loop_name = t->loop_name};
    memcpy(m.special_names, t->special_names, sizeof m.special_names);
    tpl_builder output = tpl_builder_of(&m);
    m.output = &output;
    const cdp_status st = render_guarded(&m, t, variables, n_variables, out);
    tpl_machine_close(&m);
    return st;
}

void cdp_rendered_close(cdp_rendered *rendered) {
    free(rendered->text);
    free(rendered->own.data);
    *rendered = (cdp_rendered){0};
}
