/* Statements: text, {{ }}, and one function a tag. */
#include "launcher/template/parse.h"

#include <string.h>

/* The end of a tag. */
static void end_tag(tpl_parser *p, tpl_token_kind kind) {
    if (tpl_peek(p)->kind != kind)
        tpl_unexpected(p, kind == TPL_T_PRINT_END ? "'}}'" : "'%}'");
    if (p->unknown != NULL) {
        p->m->at = p->unknown->at;
        tpl_fail_unknown(p->m, p->unknown->kind == TPL_N_FILTER, p->unknown->name);
    }
    tpl_take_token(p);
}
static void end_block(tpl_parser *p) {
    end_tag(p, TPL_T_BLOCK_END);
}

static tpl_node *statements(tpl_parser *p, const char *opened, size_t opened_at, const char *const *ends);

/* The body of a tag whose %} comes next, up to {% end %}; both are taken. Bodies are places of their own:
 * what is under a condition outside is not inside. */
static tpl_node *body(tpl_parser *p, const char *opened, size_t at, const char *end) {
    const char *const ends[] = {end, NULL};
    const bool was_soft = p->is_soft;
    const int n_loops = p->n_loops;
    end_block(p);
    p->is_soft = false;
    if (strcmp(opened, "with") != 0)
        p->n_loops = 0; /* a body whose text is caught cannot be left by a jump */
    tpl_node *list = statements(p, opened, at, ends);
    p->n_loops = n_loops;
    p->is_soft = was_soft;
    tpl_take_token(p);
    end_block(p);
    return list;
}

static tpl_node *target(tpl_parser *p);

static tpl_node *one_target(tpl_parser *p) {
    if (tpl_skip_sign(p, "(")) {
        tpl_node *inside = target(p);
        tpl_expect_sign(p, ")");
        return inside;
    }
    tpl_node *node = tpl_node_new(p, TPL_N_NAME);
    node->name = tpl_expect_name(p, "a name");
    return node;
}

/* name, or several with commas, with or without brackets. */
static tpl_node *target(tpl_parser *p) {
    tpl_descend(p);
    tpl_node *node = one_target(p);
    if (tpl_at_sign(p, ",")) {
        tpl_node *tuple = tpl_node_new(p, TPL_N_TUPLE), **end = &node->next;
        tuple->a = node;
        while (tpl_skip_sign(p, ",") && !tpl_at_name(p, "in") && !tpl_at_sign(p, "=") &&
               !tpl_at_sign(p, ")")) {
            *end = one_target(p);
            end = &(*end)->next;
        }
        node = tuple;
    }
    p->depth--;
    return node;
}

/* What `set` writes to: also an attribute of a namespace. */
static tpl_node *set_target(tpl_parser *p) {
    tpl_node *node = target(p);
    if (node->kind != TPL_N_NAME || !tpl_at_sign(p, "."))
        return node;
    tpl_node *attribute = tpl_node_new(p, TPL_N_ATTR);
    tpl_take_token(p);
    attribute->a = node;
    attribute->name = tpl_expect_name(p, "the name of an attribute");
    return attribute;
}

static tpl_node *parse_if(tpl_parser *p, size_t at) {
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    tpl_node *node = tpl_node_new(p, TPL_N_IF), *branch = node;
    const bool was_soft = p->is_soft;
    p->is_soft = true;
    for (;;) {
        branch->a = tpl_parse_tuple(p, false);
        end_block(p);
        branch->b = statements(p, "if", at, ends);
        if (!tpl_skip_name(p, "elif"))
            break;
        branch = branch->c = tpl_node_new(p, TPL_N_IF);
    }
    if (tpl_skip_name(p, "else")) {
        end_block(p);
        branch->c = statements(p, "if", at, last);
    }
    p->is_soft = was_soft;
    tpl_take_token(p); /* endif */
    end_block(p);
    return node;
}

static tpl_node *parse_for(tpl_parser *p, size_t at) {
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    tpl_node *node = tpl_node_new(p, TPL_N_FOR);
    const bool was_soft = p->is_soft;
    node->a = target(p);
    if (!tpl_skip_name(p, "in"))
        tpl_unexpected(p, "'in'");
    node->b = tpl_parse_tuple(p, false);
    p->is_soft = false;
    if (tpl_skip_name(p, "if"))
        node->test = tpl_parse_expression(p);
    node->op = tpl_skip_name(p, "recursive");
    end_block(p);
    p->n_loops++;
    node->c = statements(p, "for", at, ends);
    p->n_loops--;
    if (tpl_skip_name(p, "else")) {
        end_block(p);
        node->d = statements(p, "for", at, last);
    }
    p->is_soft = was_soft;
    tpl_take_token(p); /* endfor */
    end_block(p);
    return node;
}

static tpl_node *parse_set(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_SET);
    node->a = set_target(p);
    if (tpl_skip_sign(p, "=")) {
        node->b = tpl_parse_tuple(p, true);
        end_block(p);
        return node;
    }
    node->kind = TPL_N_SET_BLOCK;
    if (tpl_skip_sign(p, "|"))
        node->b = tpl_parse_filters(p, tpl_node_new(p, TPL_N_INPUT));
    node->c = body(p, "set", at, "endset");
    return node;
}

/* ( a, b=default ) */
static tpl_node *parameters(tpl_parser *p) {
    tpl_node *first = NULL, **end = &first;
    tpl_expect_sign(p, "(");
    while (!tpl_at_sign(p, ")")) {
        if (first != NULL)
            tpl_expect_sign(p, ",");
        tpl_node *parameter = tpl_node_new(p, TPL_N_PARAM);
        parameter->name = tpl_expect_name(p, "the name of a parameter");
        if (tpl_skip_sign(p, "="))
            parameter->a = tpl_parse_expression(p);
        *end = parameter;
        end = &parameter->next;
    }
    tpl_take_token(p);
    return first;
}

/* The body of a macro or call block. */
static void macro_body(tpl_parser *p, tpl_node *macro, const char *opened, size_t at, const char *end) {
    const int uses = p->uses;
    p->uses = 0;
    macro->c = body(p, opened, at, end);
    macro->op = p->uses;
    p->uses = uses;
}

static tpl_node *parse_macro(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_MACRO);
    node->name = tpl_expect_name(p, "the name of the macro");
    node->a = parameters(p);
    macro_body(p, node, "macro", at, "endmacro");
    return node;
}

static tpl_node *parse_call(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_CALL_BLOCK), *macro = tpl_node_new(p, TPL_N_MACRO);
    macro->name = "caller";
    if (tpl_at_sign(p, "("))
        macro->a = parameters(p);
    node->a = tpl_parse_postfix(p, tpl_parse_primary(p));
    if (node->a->kind != TPL_N_CALL)
        tpl_unexpected(p, "a call of a macro");
    node->b = macro;
    macro_body(p, macro, "call", at, "endcall");
    return node;
}

static tpl_node *parse_filter(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_FILTER_BLOCK);
    node->b = tpl_parse_filters(p, tpl_node_new(p, TPL_N_INPUT));
    node->c = body(p, "filter", at, "endfilter");
    return node;
}

static tpl_node *parse_with(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_WITH), **end = &node->a;
    while (tpl_peek(p)->kind != TPL_T_BLOCK_END) {
        if (node->a != NULL)
            tpl_expect_sign(p, ",");
        tpl_node *set = tpl_node_new(p, TPL_N_SET);
        set->a = tpl_node_new(p, TPL_N_NAME);
        set->a->name = tpl_expect_name(p, "a name");
        tpl_expect_sign(p, "=");
        set->b = tpl_parse_expression(p);
        *end = set;
        end = &set->next;
    }
    node->c = body(p, "with", at, "endwith");
    return node;
}

static tpl_node *parse_generation(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_SCOPE);
    node->c = body(p, "generation", at, "endgeneration");
    return node;
}

static tpl_node *parse_block(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_SCOPE);
    tpl_expect_name(p, "the name of the block");
    node->c = body(p, "block", at, "endblock");
    return node;
}

static tpl_node *parse_print(tpl_parser *p, size_t at) {
    tpl_node *node = tpl_node_new(p, TPL_N_PRINT);
    (void)at;
    node->a = tpl_parse_expression(p);
    while (tpl_skip_sign(p, ",")) { /* {% print a, b %} prints them side by side */
        tpl_node *both = tpl_node_new(p, TPL_N_BINARY);
        both->op = '~';
        both->a = node->a;
        both->b = tpl_parse_expression(p);
        node->a = both;
    }
    end_block(p);
    return node;
}

static tpl_node *parse_jump(tpl_parser *p, size_t at) {
    const bool is_break = tpl_is(p->tokens[p->at - 1].value, "break");
    tpl_node *node = tpl_node_new(p, is_break ? TPL_N_BREAK : TPL_N_CONTINUE);
    if (p->n_loops == 0) {
        p->m->at = at;
        tpl_fail(p->m, "'%s' outside of a loop", is_break ? "break" : "continue");
    }
    end_block(p);
    return node;
}

typedef struct tag {
    const char *name;
    tpl_node *(*parse)(tpl_parser *p, size_t at);
} tag;

static const tag tags[] = {
    {"if", parse_if},       {"for", parse_for},     {"set", parse_set},
    {"macro", parse_macro}, {"call", parse_call},   {"filter", parse_filter},
    {"with", parse_with},   {"print", parse_print}, {"generation", parse_generation},
    {"block", parse_block}, {"break", parse_jump},  {"continue", parse_jump},
};

/* Behind {%: a tag of the table. */
static tpl_node *tag_of(tpl_parser *p) {
    static const char *const refused[] = {"include", "import",     "from", "extends",
                                          "do",      "autoescape", "trans"};
    const tpl_token *token = tpl_peek(p);
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if (tpl_skip_name(p, tags[i].name))
            return tags[i].parse(p, token->at);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (tpl_at_name(p, refused[i])) {
            p->m->at = token->at;
            tpl_fail(p->m, "the tag '%s' is not supported in chat templates", refused[i]);
        }
    tpl_unexpected(p, "a tag");
}

static bool is_end(const tpl_parser *p, const char *const *ends) {
    for (; ends != NULL && *ends != NULL; ends++)
        if (tpl_at_name(p, *ends))
            return true;
    return false;
}

static tpl_node *statement(tpl_parser *p) {
    tpl_node *node;
    if (tpl_peek(p)->kind == TPL_T_TEXT) {
        node = tpl_node_new(p, TPL_N_TEXT);
        node->value = tpl_take_token(p)->value;
    } else if (tpl_peek(p)->kind == TPL_T_PRINT) {
        node = tpl_node_new(p, TPL_N_PRINT);
        tpl_take_token(p);
        node->a = tpl_parse_tuple(p, true);
        end_tag(p, TPL_T_PRINT_END);
    } else {
        tpl_take_token(p);
        node = tag_of(p);
    }
    return node;
}

/* Statements up to one of the ends (its name is next), or up to the end of the template without ends. */
static tpl_node *statements(tpl_parser *p, const char *opened, size_t opened_at, const char *const *ends) {
    tpl_node *first = NULL, **end = &first;
    tpl_descend(p);
    for (;;) {
        if (tpl_peek(p)->kind == TPL_T_END) {
            if (ends == NULL)
                break;
            p->m->at = opened_at;
            tpl_fail(p->m, "'%s' without its end", opened);
        }
        if (tpl_peek(p)->kind == TPL_T_BLOCK) {
            p->at++;
            if (is_end(p, ends))
                break;
            p->at--;
        }
        *end = statement(p);
        end = &(*end)->next;
    }
    p->depth--;
    return first;
}

tpl_node *tpl_parse(tpl_parser *p) {
    return statements(p, "the template", 0, NULL);
}
