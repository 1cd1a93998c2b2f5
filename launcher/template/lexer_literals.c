#include "launcher/template/lexer_literals.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Up to `max` digits of `base`; the number of digits read. */
static int digits(const char *source, size_t n, size_t *at, int base, int max, uint32_t *code_out) {
    int read = 0;
    for (*code_out = 0; read < max && *at < n; read++, (*at)++) {
        const char c = source[*at];
        const int digit = isdigit((unsigned char)c)    ? c - '0'
                          : isxdigit((unsigned char)c) ? tolower(c) - 'a' + 10
                                                       : 99;
        if (digit >= base)
            break;
        *code_out = *code_out * (uint32_t)base + (uint32_t)digit;
    }
    return read;
}

/* \xNN, \uNNNN, \UNNNNNNNN, \123: a character by number. False when it is none of these. */
static bool numbered(tpl_machine *m, tpl_builder *b, const char *source, size_t n, size_t *at) {
    const char kind = source[*at];
    const int want = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 3;
    uint32_t code;
    if (want == 3 && (kind < '0' || kind > '7'))
        return false;
    *at += want != 3;
    const int read = digits(source, n, at, want == 3 ? 8 : 16, want, &code);
    if (want != 3 && read != want)
        tpl_fail(m, "\\%c takes %d hex digits", kind, want);
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        tpl_fail(m, "U+%04X is no character that a text can hold", (unsigned)code);
    tpl_add_code(b, code, true);
    return true;
}

/* What stands behind a backslash, as Python reads it; an unknown escape stays as it is. */
static void escape(tpl_machine *m, tpl_builder *b, const char *source, size_t n, size_t *at) {
    static const char letters[] = "ntr\\'\"abfv", meant[] = "\n\t\r\\'\"\a\b\f\v";
    const char c = source[*at];
    const char *found = strchr(letters, c);
    if (c == '\n') { /* a line that goes on */
        (*at)++;
    } else if (found != NULL) {
        tpl_add_bytes(b, &meant[found - letters], 1, true);
        (*at)++;
    } else if (c == 'N') {
        tpl_fail(m, "\\N{...} is not supported");
    } else if (!numbered(m, b, source, n, at)) {
        tpl_add_bytes(b, "\\", 1, true);
    }
}

tpl_value tpl_lex_string(tpl_machine *m, const char *source, size_t n, size_t *at) {
    const char quote = source[(*at)++];
    tpl_builder b = tpl_builder_of(m);
    for (;;) {
        const size_t begin = *at;
        while (*at < n && source[*at] != quote && source[*at] != '\\')
            (*at)++;
        tpl_add_bytes(&b, source + begin, *at - begin, true);
        if (*at >= n || (source[*at] == '\\' && *at + 1 >= n))
            tpl_fail(m, "a string without its end");
        if (source[(*at)++] == quote)
            return tpl_built(&b);
        escape(m, &b, source, n, at);
    }
}

static size_t skip_digits(const char *source, size_t n, size_t at) {
    while (at < n && (isdigit((unsigned char)source[at]) ||
                      (source[at] == '_' && at + 1 < n && isdigit((unsigned char)source[at + 1]))))
        at++;
    return at;
}

/* Where a float that begins at `at` ends; `at` itself when it is no float. */
static size_t float_end(const char *source, size_t n, size_t at) {
    const size_t whole = skip_digits(source, n, at);
    size_t end = whole;
    if (at > 0 && source[at - 1] == '.')
        return at; /* a.0.1 */
    if (end + 1 < n && source[end] == '.' && isdigit((unsigned char)source[end + 1]))
        end = skip_digits(source, n, end + 1);
    if (end < n && (source[end] == 'e' || source[end] == 'E')) {
        size_t exponent = end + 1;
        exponent += exponent < n && (source[exponent] == '-' || source[exponent] == '+');
        if (exponent < n && isdigit((unsigned char)source[exponent]))
            end = skip_digits(source, n, exponent);
    }
    return end > whole ? end : at;
}

static int base_of(const char *source, size_t n, size_t at) {
    if (at + 2 >= n || source[at] != '0')
        return 10;
    const char c = (char)tolower(source[at + 1]);
    return c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
}

tpl_value tpl_lex_number(tpl_machine *m, const char *source, size_t n, size_t *at) {
    char text[128];
    size_t length = 0;
    const size_t real = float_end(source, n, *at);
    const int base = real > *at ? 10 : base_of(source, n, *at);
    size_t i = *at + (base != 10 ? 2 : 0), end = real > *at ? real : skip_digits(source, n, i);
    if (base == 16)
        while (end < n && (isxdigit((unsigned char)source[end]) || source[end] == '_'))
            end++;
    for (; i < end; i++) {
        if (length + 1 == sizeof text)
            tpl_fail(m, "a number of too many digits");
        if (source[i] != '_')
            text[length++] = source[i];
    }
    text[length] = '\0';
    *at = end;
    errno = 0;
    if (real > 0 && base == 10 && end == real) {
        const double value = strtod(text, NULL);
        if (!isfinite(value))
            tpl_fail(m, "a number beyond 64 bits");
        return tpl_float(value);
    }
    char *rest;
    const long long value = strtoll(text, &rest, base);
    const bool is_octal_of_old = base == 10 && text[0] == '0' && value != 0;
    if (errno == ERANGE || *rest != '\0' || length == 0 || is_octal_of_old)
        tpl_fail(m, "no whole number of at most 64 bits");
    return tpl_int(value);
}
