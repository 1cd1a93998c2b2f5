/* x is ... */
#include <string.h>

#include "launcher/template/evaluate.h"

static tpl_value is_defined(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind != TPL_UNDEFINED);
}
static tpl_value is_undefined(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_UNDEFINED);
}
static tpl_value is_none(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_NONE);
}
static tpl_value is_true(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_BOOL && call->self.b);
}
static tpl_value is_false(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_BOOL && !call->self.b);
}
static tpl_value is_boolean(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_BOOL);
}
static tpl_value is_integer(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_INT);
}
static tpl_value is_float(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_FLOAT);
}
static tpl_value is_number(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(tpl_is_number(call->self));
}
static tpl_value is_string(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_TEXT);
}
static tpl_value is_mapping(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_DICT);
}
/* What has a length and items: undefined too, and dicts; not an iterator. */
static tpl_value is_sequence(tpl_machine *m, tpl_call *call) {
    const tpl_kind kind = call->self.kind;
    (void)m;
    return tpl_bool(kind == TPL_UNDEFINED || kind == TPL_TEXT || kind == TPL_LIST || kind == TPL_TUPLE ||
                    kind == TPL_RANGE || kind == TPL_DICT);
}
static tpl_value is_iterable(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(tpl_is_iterable(call->self));
}
static tpl_value is_callable(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(call->self.kind == TPL_FUNCTION || call->self.kind == TPL_MACRO ||
                    call->self.kind == TPL_LOOP || call->self.kind == TPL_UNDEFINED);
}

static tpl_value remainder_is(tpl_machine *m, tpl_value v, tpl_value by, int64_t rest) {
    return tpl_bool(tpl_equal(m, tpl_binary(m, '%', v, by), tpl_int(rest)));
}
static tpl_value is_odd(tpl_machine *m, tpl_call *call) {
    return remainder_is(m, call->self, tpl_int(2), 1);
}
static tpl_value is_even(tpl_machine *m, tpl_call *call) {
    return remainder_is(m, call->self, tpl_int(2), 0);
}
static tpl_value is_divisible(tpl_machine *m, tpl_call *call) {
    return remainder_is(m, call->self, call->a[0], 0);
}

static tpl_value is_equal(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, TPL_OP_EQUAL, call->self, call->a[0]);
}
static tpl_value is_unequal(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, TPL_OP_UNEQUAL, call->self, call->a[0]);
}
static tpl_value is_greater(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, '>', call->self, call->a[0]);
}
static tpl_value is_at_least(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, TPL_OP_AT_LEAST, call->self, call->a[0]);
}
static tpl_value is_less(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, '<', call->self, call->a[0]);
}
static tpl_value is_at_most(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, TPL_OP_AT_MOST, call->self, call->a[0]);
}
static tpl_value is_in(tpl_machine *m, tpl_call *call) {
    return tpl_binary(m, TPL_OP_IN, call->self, call->a[0]);
}
static tpl_value is_same(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_bool(tpl_same(call->self, call->a[0]));
}

/* Letters, and all of them of one case; the others do not count. */
static bool all_letters(tpl_machine *m, tpl_value v, tpl_value (*convert)(tpl_machine *, tpl_value)) {
    const tpl_value text = tpl_string(m, v);
    bool has_letter = false;
    for (size_t at = 0; at < text.n && !has_letter; at = tpl_text_next(text, at))
        has_letter = tpl_is_cased(tpl_text_code(text, at));
    return has_letter && tpl_equal(m, convert(m, text), text);
}
static tpl_value is_lower(tpl_machine *m, tpl_call *call) {
    return tpl_bool(all_letters(m, call->self, tpl_lower));
}
static tpl_value is_upper(tpl_machine *m, tpl_call *call) {
    return tpl_bool(all_letters(m, call->self, tpl_upper));
}

static tpl_value is_filter(tpl_machine *m, tpl_call *call) {
    const tpl_value name = tpl_text_argument(m, call->self, "");
    const tpl_row *row = tpl_find_filter(name.bytes, name.n);
    return tpl_bool(row != NULL && row->run != NULL);
}
static tpl_value is_test(tpl_machine *m, tpl_call *call) {
    const tpl_value name = tpl_text_argument(m, call->self, "");
    return tpl_bool(tpl_find_row(tpl_test_rows, name.bytes, name.n) != NULL);
}

const tpl_row tpl_test_rows[] = {
    {"defined", is_defined, "", 0},
    {"undefined", is_undefined, "", 0},
    {"none", is_none, "", 0},
    {"true", is_true, "", 0},
    {"false", is_false, "", 0},
    {"boolean", is_boolean, "", 0},
    {"integer", is_integer, "", 0},
    {"float", is_float, "", 0},
    {"number", is_number, "", 0},
    {"string", is_string, "", 0},
    {"mapping", is_mapping, "", 0},
    {"sequence", is_sequence, "", 0},
    {"iterable", is_iterable, "", 0},
    {"callable", is_callable, "", 0},
    {"odd", is_odd, "", 0},
    {"even", is_even, "", 0},
    {"divisibleby", is_divisible, "num", 1},
    {"eq", is_equal, "other", 1},
    {"equalto", is_equal, "other", 1},
    {"==", is_equal, "other", 1},
    {"ne", is_unequal, "other", 1},
    {"!=", is_unequal, "other", 1},
    {"gt", is_greater, "other", 1},
    {"greaterthan", is_greater, "other", 1},
    {">", is_greater, "other", 1},
    {"ge", is_at_least, "other", 1},
    {">=", is_at_least, "other", 1},
    {"lt", is_less, "other", 1},
    {"lessthan", is_less, "other", 1},
    {"<", is_less, "other", 1},
    {"le", is_at_most, "other", 1},
    {"<=", is_at_most, "other", 1},
    {"in", is_in, "seq", 1},
    {"sameas", is_same, "other", 1},
    {"lower", is_lower, "", 0},
    {"upper", is_upper, "", 0},
    {"filter", is_filter, "", 0},
    {"test", is_test, "", 0},
    {"escaped", NULL, "", 0},
    {0},
};
