#include "launcher/batch/raw.h"

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

bool cdp_raw_member(const char *object, size_t n, const char *key, const char **value_out, size_t *n_out) {
    const char *const end = object + n;
    const size_t n_key = strlen(key);
    const char *at = skip_blanks(object, end);
    if (at == end || *at != '{')
        return false;
    for (at = skip_blanks(at + 1, end); at < end && *at == '"'; at = skip_blanks(at + 1, end)) {
        const char *name = at + 1;
        at = skip_string(at, end);
        const bool is_it = (size_t)(at - name) == n_key + 1 && memcmp(name, key, n_key) == 0;
        at = skip_blanks(at, end);
        at = skip_blanks(at < end ? at + 1 : end, end); /* the colon */
        const char *value = at;
        at = skip_value(at, end);
        if (is_it) {
            *value_out = value;
            *n_out = (size_t)(at - value);
            return true;
        }
        at = skip_blanks(at, end); /* on the comma, or the end */
        if (at == end)
            break;
    }
    return false;
}
