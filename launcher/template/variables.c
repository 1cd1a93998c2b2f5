/* A JSON object cut into its members, each with the text it has. */
#include <stdlib.h>
#include <string.h>

#include "launcher/template/print.h"

/* Where the value that begins at `at` of valid JSON ends. */
static size_t value_end(const char *json, size_t n, size_t at) {
    int depth = 0;
    bool is_inside = false;
    for (; at < n; at++) {
        const char c = json[at];
        if (is_inside) {
            at += c == '\\';
            is_inside = c != '"';
        } else if (c == '"') {
            is_inside = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == '}' || c == ']')) {
            break;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return at;
}

static cdp_status add(cdp_variables *out, tpl_value name, const char *json, size_t n_json) {
    cdp_variable *more = realloc(out->data, ((size_t)out->n + 1) * sizeof *more);
    char *copy = strndup(name.bytes, name.n);
    if (more != NULL)
        out->data = more;
    if (more == NULL || copy == NULL) {
        free(copy);
        return cdp_fail(CDP_SYSTEM, "no memory for the variables of a template");
    }
    out->data[out->n++] = (cdp_variable){.name = copy, .json = json, .n_json = n_json};
    return CDP_OK;
}

/* The text of each value lies between the colon behind its key and the next comma. Of two members of one name
 * the last one counts. */
static cdp_status split(cdp_variables *out, tpl_machine *m, const char *json, size_t n) {
    size_t at = (size_t)(strchr(json, '{') - json) + 1;
    for (;;) {
        const char *key = memchr(json + at, '"', n - at);
        if (key == NULL)
            return CDP_OK;
        const size_t begin = (size_t)(key - json);
        size_t end = begin + 1;
        while (json[end] != '"')
            end += json[end] == '\\' ? 2 : 1;
        const tpl_value name = tpl_parse_json(m, json + begin, end + 1 - begin, "a key", false);
        const size_t from = (size_t)((const char *)memchr(json + end, ':', n - end) - json) + 1;
        at = value_end(json, n, from);
        CDP_TRY(add(out, name, json + from, at - from));
    }
}

static cdp_status split_guarded(cdp_variables *out, tpl_machine *m, const char *what, const char *json,
                                size_t n) {
    if (setjmp(m->out) != 0)
        return m->fault_code;
    if (tpl_parse_json(m, json, n, what, false).kind != TPL_DICT)
        tpl_fail(m, "%s is no JSON object", what);
    return split(out, m, json, n);
}

cdp_status cdp_variables_split(cdp_variables *out, const char *what, const char *json, size_t n) {
    tpl_machine m = {.fault_code = CDP_BAD_DATA};
    *out = (cdp_variables){0};
    const cdp_status st = split_guarded(out, &m, what, json, n);
    tpl_machine_close(&m);
    return st;
}

void cdp_variables_close(cdp_variables *variables) {
    for (int i = 0; i < variables->n; i++)
        free((char *)variables->data[i].name);
    free(variables->data);
    *variables = (cdp_variables){0};
}
