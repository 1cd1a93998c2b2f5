/* A JSON object cut into its members, each with the text it has. */
#include <stdlib.h>
#include <string.h>

#include "launcher/template/print.h"
#include "planner/json_members.h"

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

/* Of two members of one name the last one counts. */
static cdp_status split(cdp_variables *out, tpl_machine *m, const char *json, size_t n) {
    cdp_json_member member;
    for (const char *at = json; cdp_json_next_member(&member, &at, json + n);) {
        const tpl_value name = tpl_parse_json(m, member.key, member.n_key, "a key", false);
        CDP_TRY(add(out, name, member.value, member.n_value));
    }
    return CDP_OK;
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
