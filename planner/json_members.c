#include "planner/json_members.h"

#include <string.h>

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *skip_blanks(const char *at, const char *end) {
    while (at < end && is_blank(*at))
        at++;
    return at;
}

/* Behind the string that begins at `at`. */
static const char *skip_string(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++)
        at += *at == '\\';
    return at < end ? at + 1 : end;
}

/* Behind the value that begins at `at`, whatever it holds. */
static const char *skip_value(const char *at, const char *end) {
    int depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
        } else if (depth == 0 && (*at == ',' || *at == '}' || *at == ']' || is_blank(*at))) {
            return at;
        } else {
            depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
            at++;
        }
        if (depth == 0 && (at[-1] == '"' || at[-1] == '}' || at[-1] == ']'))
            return at;
    }
    return at;
}

bool cdp_json_next_member(cdp_json_member *out, const char **at, const char *end) {
    const char *p = skip_blanks(*at, end);
    if (p == end || (*p != '{' && *p != ','))
        return false;
    p = skip_blanks(p + 1, end);
    if (p == end || *p != '"')
        return false;
    out->key = p;
    p = skip_string(p, end);
    out->n_key = (size_t)(p - out->key);
    p = skip_blanks(p, end);
    p = skip_blanks(p < end ? p + 1 : end, end); /* the colon */
    out->value = p;
    p = skip_value(p, end);
    out->n_value = (size_t)(p - out->value);
    *at = p;
    return true;
}

bool cdp_json_find_member(cdp_json_member *out, const char *object, size_t n, const char *key) {
    const size_t n_key = strlen(key);
    for (const char *at = object; cdp_json_next_member(out, &at, object + n);)
        if (out->n_key == n_key + 2 && memcmp(out->key + 1, key, n_key) == 0)
            return true;
    return false;
}
