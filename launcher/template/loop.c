/* for: its turns, and what `loop` tells inside of them. */
#include <string.h>

#include "launcher/template/evaluate.h"

/* Items that the filter leaves out are skipped when they come, not before: the filter may look at a namespace
 * that the body changes. So only as many are looked at as somebody asked about. */
typedef struct tpl_loop {
    tpl_machine *m;
    const tpl_node *node;
    tpl_scope *scope; /* around the loop */
    const tpl_value *source;
    size_t n_source, n_seen;
    const tpl_value *kept;
    size_t n_kept, room;
    size_t turn; /* from 0 */
    int64_t depth;
    const tpl_value *last; /* what `changed` was asked about */
    size_t n_last;
} tpl_loop;

static bool passes(tpl_loop *loop, tpl_value item) {
    tpl_machine *m = loop->m;
    tpl_scope *const before = m->scope;
    m->scope = tpl_scope_open(m, loop->scope);
    tpl_assign(m, loop->node->a, item);
    const bool is_kept = tpl_truth(tpl_evaluate(m, loop->node->test));
    m->scope = before;
    return is_kept;
}

/* True when there are n items or more. */
static bool has(tpl_loop *loop, size_t n) {
    if (loop->node->test == NULL) {
        loop->kept = loop->source;
        loop->n_kept = loop->n_source;
    }
    while (loop->node->test != NULL && loop->n_kept < n && loop->n_seen < loop->n_source) {
        const tpl_value item = loop->source[loop->n_seen++];
        if (!passes(loop, item))
            continue;
        if (loop->n_kept == loop->room) {
            loop->room = loop->room * 2 + 8;
            tpl_value *more = tpl_take_values(loop->m, loop->room);
            if (loop->n_kept > 0)
                memcpy(more, loop->kept, loop->n_kept * sizeof *more);
            loop->kept = more;
        }
        ((tpl_value *)loop->kept)[loop->n_kept++] = item;
    }
    return loop->n_kept >= n;
}

static size_t length(tpl_loop *loop) {
    has(loop, SIZE_MAX);
    return loop->n_kept;
}

static tpl_value neighbour(const tpl_loop *loop, bool is_there, size_t index) {
    return is_there ? loop->kept[index] : tpl_undefined(TPL_NO_ITEM);
}

static tpl_value cycle(tpl_machine *m, tpl_call *call) {
    const size_t n = call->args->n;
    if (n > 0)
        return call->args->values[call->self.loop->turn % n];
    tpl_fail(m, "cycle needs values");
}

static tpl_value changed(tpl_machine *m, tpl_call *call) {
    tpl_loop *loop = call->self.loop;
    bool is_equal = loop->last != NULL && loop->n_last == call->args->n;
    for (size_t i = 0; is_equal && i < loop->n_last; i++)
        is_equal = tpl_equal(m, loop->last[i], call->args->values[i]);
    loop->last = call->args->n > 0 ? call->args->values : tpl_take_values(m, 1);
    loop->n_last = call->args->n;
    return tpl_bool(!is_equal);
}

static tpl_value method(tpl_loop *loop, const tpl_row *row) {
    tpl_value v = {.kind = TPL_FUNCTION, .is_own = true};
    v.function = tpl_take(loop->m, sizeof *v.function);
    *v.function = (tpl_function){.row = row, .self = {.kind = TPL_LOOP, .loop = loop}};
    return v;
}

tpl_value tpl_loop_attribute(tpl_machine *m, tpl_loop *loop, const char *name, size_t n) {
    static const tpl_row rows[] = {{"cycle", cycle, "*", 0}, {"changed", changed, "*", 0}, {0}};
    const tpl_value word = {.kind = TPL_TEXT, .bytes = name, .n = n};
    const int64_t turn = (int64_t)loop->turn;
    (void)m;
    if (tpl_is(word, "index"))
        return tpl_int(turn + 1);
    if (tpl_is(word, "index0"))
        return tpl_int(turn);
    if (tpl_is(word, "first"))
        return tpl_bool(turn == 0);
    if (tpl_is(word, "last"))
        return tpl_bool(!has(loop, loop->turn + 2));
    if (tpl_is(word, "length"))
        return tpl_int((int64_t)length(loop));
    if (tpl_is(word, "revindex"))
        return tpl_int((int64_t)length(loop) - turn);
    if (tpl_is(word, "revindex0"))
        return tpl_int((int64_t)length(loop) - turn - 1);
    if (tpl_is(word, "depth"))
        return tpl_int(loop->depth + 1);
    if (tpl_is(word, "depth0"))
        return tpl_int(loop->depth);
    if (tpl_is(word, "previtem"))
        return neighbour(loop, turn > 0, loop->turn - 1);
    if (tpl_is(word, "nextitem"))
        return neighbour(loop, has(loop, loop->turn + 2), loop->turn + 1);
    const tpl_row *row = tpl_find_row(rows, name, n);
    if (row != NULL)
        return method(loop, row);
    tpl_value nothing = tpl_undefined(TPL_NO_ATTRIBUTE);
    nothing.owner = TPL_LOOP;
    nothing.bytes = name;
    nothing.n = n;
    return nothing;
}

/* All turns over `over`; writes to the output at hand. A jump in `else` is the outer loop's. */
static int run(tpl_machine *m, const tpl_node *node, tpl_scope *scope, tpl_value over, int64_t depth) {
    tpl_loop *loop = tpl_take(m, sizeof *loop);
    tpl_value self = {.kind = TPL_LOOP, .is_own = true, .loop = loop};
    tpl_scope *const before = m->scope;
    *loop = (tpl_loop){.m = m, .node = node, .scope = scope, .depth = depth};
    loop->source = tpl_iterate(m, over, &loop->n_source);
    for (; has(loop, loop->turn + 1); loop->turn++) {
        m->scope = tpl_scope_open(m, scope);
        tpl_scope_set(m, m->scope, m->loop_name, self);
        tpl_assign(m, node->a, loop->kept[loop->turn]);
        if (tpl_execute(m, node->c) == TPL_N_BREAK)
            break;
    }
    int jump = 0;
    if (loop->n_kept == 0) {
        m->scope = tpl_scope_open(m, scope);
        jump = tpl_execute(m, node->d);
    }
    m->scope = before;
    return jump;
}

int tpl_execute_for(tpl_machine *m, const tpl_node *node) {
    const tpl_value over = tpl_evaluate(m, node->b);
    m->at = node->at;
    return run(m, node, m->scope, over, 0);
}

tpl_value tpl_call_loop(tpl_machine *m, tpl_loop *loop, const tpl_args *args) {
    tpl_builder text = tpl_builder_of(m), *const outside = m->output;
    if (loop->node->op == 0 || args->n != 1 || args->n_named != 0)
        tpl_fail(m, "only a recursive loop can be called, with one argument");
    tpl_enter(m);
    m->output = &text;
    run(m, loop->node, loop->scope, args->values[0], loop->depth + 1);
    m->output = outside;
    tpl_leave(m);
    return tpl_built(&text);
}
