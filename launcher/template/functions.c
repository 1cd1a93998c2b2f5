/* Global functions: range, dict, namespace, raise_exception, strftime_now. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "launcher/template/evaluate.h"

static tpl_value range(tpl_machine *m, tpl_call *call) {
    const bool has_start = tpl_given(call->a[1]);
    const int64_t first = tpl_int_argument(m, call->a[0], 0), second = tpl_int_argument(m, call->a[1], 0),
                  step = tpl_int_argument(m, call->a[2], 1);
    const int64_t start = has_start ? first : 0, stop = has_start ? second : first;
    if (step == 0)
        tpl_fail(m, "the step of range is zero");
    const double length = ((double)stop - (double)start) / (double)step;
    if (length > TPL_MAX_RANGE)
        tpl_fail(m, "range of more than %d numbers", TPL_MAX_RANGE);
    size_t n = 0;
    tpl_value *items = tpl_take_values(m, length > 0 ? (size_t)length + 1 : 0);
    for (int64_t i = start; length > 0 && (step > 0 ? i < stop : i > stop); n++) {
        items[n] = tpl_int(i);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return tpl_items_value(TPL_RANGE, items, n);
}

/* Pairs, or another dict, into `dict`. */
static void add_pairs(tpl_machine *m, tpl_dict *dict, tpl_value from) {
    size_t n, n_pair;
    if (from.kind == TPL_DICT) {
        for (size_t i = 0; i < from.dict->n; i++)
            tpl_dict_put(m, dict, from.dict->keys[i], from.dict->values[i]);
        return;
    }
    const tpl_value *items = tpl_iterate(m, from, &n);
    for (size_t i = 0; i < n; i++) {
        const tpl_value *pair = tpl_iterate(m, items[i], &n_pair);
        if (n_pair != 2)
            tpl_fail(m, "a dict is made of pairs, item %zu has %zu values", i, n_pair);
        tpl_dict_put(m, dict, pair[0], pair[1]);
    }
}

static tpl_value dict(tpl_machine *m, tpl_call *call) {
    const tpl_args *args = call->args;
    const tpl_value v = tpl_dict_new(m, args->n_named);
    if (args->n > 1)
        tpl_fail(m, "dict takes at most one argument without a name");
    if (args->n == 1)
        add_pairs(m, v.dict, args->values[0]);
    for (size_t i = 0; i < args->n_named; i++)
        tpl_dict_put(m, v.dict, args->names[i], args->named[i]);
    return v;
}

static tpl_value namespace(tpl_machine *m, tpl_call *call) {
    tpl_value v = dict(m, call);
    v.kind = TPL_NAMESPACE;
    for (size_t i = 0; i < v.dict->n; i++)
        if (v.dict->keys[i].kind == TPL_TEXT && v.dict->keys[i].n > 0 && v.dict->keys[i].bytes[0] == '_')
            tpl_fail(m, "a namespace takes no name that begins with '_'");
    return v;
}

/* The template's own words, as the fault of the request. */
static tpl_value raise_exception(tpl_machine *m, tpl_call *call) {
    char shown[1024];
    const tpl_value words = tpl_string(m, call->a[0]);
    cdp_fail(CDP_BAD_DATA, "%s",
             words.n > 0 ? cdp_escape(shown, sizeof shown, words.bytes, words.n)
                         : "the chat template refuses the conversation without a word");
    longjmp(m->out, 1);
}

static struct tm time_of(const cdp_clock *clock) {
    struct tm tm = {.tm_year = clock->year - 1900,
                    .tm_mon = clock->month - 1,
                    .tm_mday = clock->day,
                    .tm_hour = clock->hour,
                    .tm_min = clock->minute,
                    .tm_sec = clock->second};
    timegm(&tm); /* fills in the day of the week and of the year */
    return tm;
}

static tpl_value strftime_now(tpl_machine *m, tpl_call *call) {
    char format[256], text[1024];
    const tpl_value given = tpl_text_argument(m, call->a[0], "");
    const struct tm tm = time_of(m->clock);
    if (given.n + 2 > sizeof format)
        tpl_fail(m, "a format of strftime_now of more than %zu bytes", sizeof format - 2);
    memcpy(format, given.bytes, given.n);
    memcpy(format + given.n, ".", 2); /* so that an empty result is no error */
    for (const char *p = strchr(format, '%'); p != NULL; p = strchr(p + 2, '%')) {
        if (strchr("zZsfEO", p[1]) != NULL)
            tpl_fail(m, "strftime_now does not know %%%c", p[1]);
    }
    const size_t n = strftime(text, sizeof text, format, &tm);
    if (n == 0)
        tpl_fail(m, "the text of strftime_now is too long");
    tpl_builder b = tpl_builder_of(m);
    tpl_add_bytes(&b, text, n - 1, true);
    return tpl_built(&b);
}

static tpl_value self_function(tpl_machine *m, tpl_call *call) {
    (void)call;
    tpl_fail(m, "'self' is not supported in chat templates");
}

const tpl_row tpl_function_rows[] = {
    {"range", range, "start stop step", 1},
    {"dict", dict, "*", 0},
    {"namespace", namespace, "*", 0},
    {"raise_exception", raise_exception, "message", 1},
    {"strftime_now", strftime_now, "format", 1},
    {"self", self_function, "*", 0},
    {"cycler", NULL, "*", 0},
    {"joiner", NULL, "*", 0},
    {"lipsum", NULL, "*", 0},
    {0},
};
