/* Operators on values, as Python has them. */
#include <math.h>
#include <string.h>

#include "launcher/template/evaluate.h"

static _Noreturn void no_operation(tpl_machine *m, const char *sign, tpl_value a, tpl_value b) {
    tpl_need(m, a);
    tpl_need(m, b);
    tpl_fail(m, "'%s' does not work between %s and %s", sign, tpl_type(a), tpl_type(b));
}

static _Noreturn void too_large(tpl_machine *m) {
    tpl_fail(m, "a whole number beyond 64 bits");
}

/* a ** b for b >= 0 */
static bool power_overflows(int64_t a, int64_t b, int64_t *out) {
    *out = 1;
    if (a == 0 || a == 1 || a == -1) {
        *out = b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : a;
        return false;
    }
    for (; b > 0; b--)
        if (__builtin_mul_overflow(*out, a, out))
            return true;
    return false;
}

static tpl_value whole_power(tpl_machine *m, int64_t a, int64_t b) {
    int64_t result;
    if (b < 0) {
        if (a == 0)
            tpl_fail(m, "division by zero");
        return tpl_float(pow((double)a, (double)b));
    }
    if (power_overflows(a, b, &result))
        too_large(m);
    return tpl_int(result);
}

/* Rounded down, unlike C. */
static int64_t floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static tpl_value whole_numbers(tpl_machine *m, int op, int64_t a, int64_t b) {
    int64_t result = 0;
    bool is_too_large = false;
    if (strchr("/%F", op) != NULL && b == 0)
        tpl_fail(m, "division by zero");
    switch (op) {
    case '+':
        is_too_large = __builtin_add_overflow(a, b, &result);
        break;
    case '-':
        is_too_large = __builtin_sub_overflow(a, b, &result);
        break;
    case '*':
        is_too_large = __builtin_mul_overflow(a, b, &result);
        break;
    case '/':
        return tpl_float((double)a / (double)b);
    case TPL_OP_POWER:
        return whole_power(m, a, b);
    default:
        is_too_large = a == INT64_MIN && b == -1;
        if (!is_too_large)
            result = op == '%' ? a - floor_divide(a, b) * b : floor_divide(a, b);
    }
    if (is_too_large)
        too_large(m);
    return tpl_int(result);
}

static double float_modulo(double a, double b) {
    const double rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : copysign(rest, rest != 0 ? rest : b);
}

static tpl_value real_numbers(tpl_machine *m, int op, double a, double b) {
    if (strchr("/%F", op) != NULL && b == 0)
        tpl_fail(m, "division by zero");
    switch (op) {
    case '+':
        return tpl_float(a + b);
    case '-':
        return tpl_float(a - b);
    case '*':
        return tpl_float(a * b);
    case '/':
        return tpl_float(a / b);
    case '%':
        return tpl_float(float_modulo(a, b));
    case TPL_OP_FLOOR:
        return tpl_float(floor((a - float_modulo(a, b)) / b + 0.5));
    default:
        if ((a < 0 && b != floor(b)) || (a == 0 && b < 0))
            tpl_fail(m, "no real number is the result of this power");
        return tpl_float(pow(a, b));
    }
}

static tpl_value numbers(tpl_machine *m, int op, tpl_value a, tpl_value b) {
    tpl_value v = tpl_is_whole(a) && tpl_is_whole(b) ? whole_numbers(m, op, tpl_whole(a), tpl_whole(b))
                                                     : real_numbers(m, op, tpl_real(a), tpl_real(b));
    v.is_own = a.is_own && b.is_own;
    return v;
}

static tpl_value join_texts(tpl_machine *m, tpl_value a, tpl_value b) {
    const bool is_safe = a.is_safe || b.is_safe;
    tpl_builder joined = tpl_builder_of(m);
    tpl_add_text(&joined, is_safe ? tpl_escape(m, a) : a);
    tpl_add_text(&joined, is_safe ? tpl_escape(m, b) : b);
    tpl_value v = tpl_built(&joined);
    v.is_safe = is_safe;
    return v;
}

static tpl_value join_lists(tpl_machine *m, tpl_value a, tpl_value b) {
    tpl_value *items = tpl_take_values(m, a.n + b.n);
    if (a.n > 0)
        memcpy(items, a.items, a.n * sizeof *items);
    if (b.n > 0)
        memcpy(items + a.n, b.items, b.n * sizeof *items);
    return tpl_items_value(a.kind, items, a.n + b.n);
}

static bool is_list(tpl_value v) {
    return v.kind == TPL_LIST || v.kind == TPL_TUPLE;
}

static tpl_value add(tpl_machine *m, tpl_value a, tpl_value b) {
    if (a.kind == TPL_TEXT && b.kind == TPL_TEXT)
        return join_texts(m, a, b);
    if (is_list(a) && a.kind == b.kind)
        return join_lists(m, a, b);
    no_operation(m, "+", a, b);
}

/* times * text or list; a negative number is none. */
static tpl_value repeat(tpl_machine *m, tpl_value v, int64_t times) {
    const size_t n = times > 0 ? (size_t)times : 0;
    if (v.kind == TPL_TEXT) {
        tpl_builder b = tpl_builder_of(m);
        tpl_add_repeated(&b, v, n);
        tpl_value repeated = tpl_built(&b);
        repeated.is_safe = v.is_safe;
        return repeated;
    }
    if (v.n > 0 && n > TPL_MAX_ARENA / v.n)
        tpl_fail(m, "a list of too many items");
    tpl_value *items = tpl_take_values(m, v.n * n);
    for (size_t i = 0; i < n && v.n > 0; i++)
        memcpy(items + i * v.n, v.items, v.n * sizeof *items);
    return tpl_items_value(v.kind, items, v.n * n);
}

static tpl_value multiply(tpl_machine *m, tpl_value a, tpl_value b) {
    if ((a.kind == TPL_TEXT || is_list(a)) && tpl_is_whole(b))
        return repeat(m, a, tpl_whole(b));
    if ((b.kind == TPL_TEXT || is_list(b)) && tpl_is_whole(a))
        return repeat(m, b, tpl_whole(a));
    no_operation(m, "*", a, b);
}

static tpl_value tilde(tpl_machine *m, tpl_value a, tpl_value b) {
    tpl_builder joined = tpl_builder_of(m);
    tpl_print(&joined, a);
    tpl_print(&joined, b);
    return tpl_built(&joined);
}

static tpl_value arithmetic(tpl_machine *m, int op, tpl_value a, tpl_value b) {
    if (tpl_is_number(a) && tpl_is_number(b))
        return numbers(m, op, a, b);
    switch (op) {
    case '+':
        return add(m, a, b);
    case '*':
        return multiply(m, a, b);
    case '%':
        if (a.kind == TPL_TEXT)
            return tpl_format_percent(m, a, b);
        no_operation(m, "%", a, b);
    case '-':
        no_operation(m, "-", a, b);
    case '/':
        no_operation(m, "/", a, b);
    default:
        no_operation(m, op == TPL_OP_POWER ? "**" : "//", a, b);
    }
}

/* What holds no number is less, equal or greater than nothing. */
static bool is_nan(tpl_value v) {
    return v.kind == TPL_FLOAT && isnan(v.f);
}

tpl_value tpl_binary(tpl_machine *m, int op, tpl_value a, tpl_value b) {
    switch (op) {
    case '~':
        return tilde(m, a, b);
    case TPL_OP_EQUAL:
        return tpl_bool(tpl_equal(m, a, b));
    case TPL_OP_UNEQUAL:
        return tpl_bool(!tpl_equal(m, a, b));
    case TPL_OP_IN:
        return tpl_bool(tpl_contains(m, b, a));
    case TPL_OP_NOT_IN:
        return tpl_bool(!tpl_contains(m, b, a));
    case '<':
        return tpl_bool(tpl_compare(m, a, b, "<") < 0 && !is_nan(a) && !is_nan(b));
    case '>':
        return tpl_bool(tpl_compare(m, a, b, ">") > 0 && !is_nan(a) && !is_nan(b));
    case TPL_OP_AT_MOST:
        return tpl_bool(tpl_compare(m, a, b, "<=") <= 0 && !is_nan(a) && !is_nan(b));
    case TPL_OP_AT_LEAST:
        return tpl_bool(tpl_compare(m, a, b, ">=") >= 0 && !is_nan(a) && !is_nan(b));
    default:
        return arithmetic(m, op, a, b);
    }
}

tpl_value tpl_negate(tpl_machine *m, tpl_value v, bool is_minus) {
    tpl_need(m, v);
    if (!tpl_is_number(v))
        tpl_fail(m, "a sign does not work on %s", tpl_type(v));
    tpl_value out =
        v.kind == TPL_FLOAT ? tpl_float(is_minus ? -v.f : v.f) : tpl_int(is_minus ? 0 : tpl_whole(v));
    if (is_minus && v.kind != TPL_FLOAT && __builtin_sub_overflow(0, tpl_whole(v), &out.i))
        too_large(m);
    out.is_own = v.is_own;
    return out;
}

static int64_t slice_number(tpl_machine *m, tpl_value v, int64_t otherwise) {
    if (v.kind == TPL_NONE)
        return otherwise;
    tpl_need(m, v);
    if (!tpl_is_whole(v))
        tpl_fail(m, "a slice needs whole numbers, not %s", tpl_type(v));
    return tpl_whole(v) == INT64_MIN ? INT64_MIN + 1 : tpl_whole(v);
}

/* One end of a slice of n items, from `low` to `high`: a negative one counts from the end. */
static int64_t slice_end(tpl_machine *m, tpl_value v, int64_t otherwise, int64_t n, int64_t low,
                         int64_t high) {
    int64_t i = slice_number(m, v, otherwise);
    if (v.kind != TPL_NONE && i < 0)
        i = i < -n ? low : i + n;
    return i < low ? low : i > high ? high : i;
}

static uint64_t magnitude(int64_t i) {
    return i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
}

/* Every `step`th of n items from `from` until before `to`. */
static tpl_value pick(tpl_machine *m, tpl_value v, int64_t from, int64_t to, int64_t step) {
    const uint64_t distance =
        step > 0 ? (from < to ? (uint64_t)(to - from) : 0) : (to < from ? (uint64_t)(from - to) : 0);
    const uint64_t stride = magnitude(step);
    const size_t n = (size_t)((distance + stride - 1) / stride);
    tpl_value *items = tpl_take_values(m, n);
    for (size_t i = 0; i < n; i++)
        items[i] = v.items[from + (int64_t)i * step];
    return tpl_items_value(v.kind == TPL_TUPLE ? TPL_TUPLE : TPL_LIST, items, n);
}

static tpl_value slice_text(tpl_machine *m, tpl_value v, int64_t from, int64_t to, int64_t step) {
    if (step == 1)
        return tpl_text_slice(v, tpl_text_offset(v, (size_t)from),
                              tpl_text_offset(v, (size_t)(from < to ? to : from)));
    size_t n;
    tpl_builder b = tpl_builder_of(m);
    const tpl_value all = {.kind = TPL_LIST, .items = tpl_iterate(m, v, &n)};
    const tpl_value picked = pick(m, all, from, to, step);
    for (size_t i = 0; i < picked.n; i++)
        tpl_add_text(&b, picked.items[i]);
    return tpl_built(&b);
}

tpl_value tpl_slice(tpl_machine *m, tpl_value v, tpl_value from, tpl_value to, tpl_value step) {
    tpl_need(m, v);
    if (v.kind != TPL_TEXT && v.kind != TPL_LIST && v.kind != TPL_TUPLE && v.kind != TPL_RANGE)
        tpl_fail(m, "%s cannot be sliced", tpl_type(v));
    const int64_t stride = slice_number(m, step, 1);
    if (stride == 0)
        tpl_fail(m, "the step of a slice is zero");
    const int64_t n = (int64_t)tpl_length(m, v);
    const int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? n : n - 1;
    const int64_t begin = slice_end(m, from, stride > 0 ? 0 : n - 1, n, low, high);
    const int64_t end = slice_end(m, to, stride > 0 ? n : -1, n, low, high);
    return v.kind == TPL_TEXT ? slice_text(m, v, begin, end, stride) : pick(m, v, begin, end, stride);
}
