#include "launcher/template/lexer.h"

#include <ctype.h>
#include <string.h>

#include "launcher/template/lexer_literals.h"
#include "launcher/text/utf8.h"

typedef struct lexer {
    tpl_machine *m;
    const char *source;
    size_t n, at;
    tpl_token *tokens;
    size_t n_tokens, room;
} lexer;

void tpl_lex_normalize(tpl_machine *m, const char *text, size_t n) {
    char *source = tpl_take(m, n + 1);
    size_t n_source = 0, length;
    uint32_t code;
    m->source = text; /* for the place of a fault */
    m->n_source = n;
    for (m->at = 0; m->at < n; m->at += length)
        if (text[m->at] == '\0' ||
            cdp_utf8_next((const unsigned char *)text + m->at, n - m->at, &length, &code) != CDP_UTF8_WHOLE)
            tpl_fail(m, "byte %zu is no UTF-8 text", m->at);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n')
            continue;
        source[n_source++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (n_source > 0 && source[n_source - 1] == '\n')
        n_source--;
    m->source = source;
    m->n_source = n_source;
}

static void emit(lexer *l, tpl_token_kind kind, size_t at, tpl_value value) {
    if (l->n_tokens == l->room) {
        l->room = l->room * 2 + 64;
        tpl_token *more = tpl_take(l->m, l->room * sizeof *more);
        if (l->n_tokens > 0)
            memcpy(more, l->tokens, l->n_tokens * sizeof *more);
        l->tokens = more;
    }
    l->tokens[l->n_tokens++] = (tpl_token){.kind = kind, .at = at, .value = value};
}

static tpl_value span(const lexer *l, size_t begin, size_t end) {
    return (tpl_value){.kind = TPL_TEXT, .is_own = true, .bytes = l->source + begin, .n = end - begin};
}

static char at(const lexer *l, size_t i) {
    return i < l->n ? l->source[i] : '\0';
}

static bool is_space_at(const lexer *l, size_t i) {
    return tpl_is_space(tpl_text_code(span(l, 0, l->n), i));
}

static size_t skip_space(const lexer *l, size_t i) {
    while (i < l->n && is_space_at(l, i))
        i = tpl_text_next(span(l, 0, l->n), i);
    return i;
}

static size_t strip_end(const lexer *l, size_t begin, size_t end) {
    while (end > begin) {
        const size_t before = tpl_text_before(span(l, 0, l->n), end);
        if (!is_space_at(l, before))
            break;
        end = before;
    }
    return end;
}

/* The text before a tag at `end`: what is left of it after the tag's sign and lstrip_blocks. */
static void emit_text(lexer *l, size_t begin, size_t end, char sign, bool is_print) {
    const bool starts_line = begin == 0 || l->source[begin - 1] == '\n';
    if (sign == '-') {
        end = strip_end(l, begin, end);
    } else if (sign != '+' && !is_print) {
        size_t line = end;
        while (line > begin && l->source[line - 1] != '\n')
            line--;
        if ((line > begin || starts_line) && strip_end(l, line, end) == line)
            end = line;
    }
    if (end > begin)
        emit(l, TPL_T_TEXT, begin, span(l, begin, end));
}

/* The end of a block or comment at i, whose two letters are `close`: 0 when there is none. */
static size_t block_end(const lexer *l, size_t i, const char close[2]) {
    const char sign = at(l, i);
    const size_t mark = i + (sign == '-' || sign == '+');
    if (at(l, mark) != close[0] || at(l, mark + 1) != close[1])
        return 0;
    if (sign == '-')
        return skip_space(l, mark + 2);
    return mark + 2 + (sign != '+' && at(l, mark + 2) == '\n');
}

static char sign_at(const lexer *l, size_t i) {
    return at(l, i) == '-' || at(l, i) == '+' ? at(l, i) : '\0';
}

static void lex_comment(lexer *l, size_t begin) {
    for (size_t i = l->at; i + 1 < l->n; i++) {
        const size_t end = block_end(l, i, "#}");
        if (end > 0) {
            l->at = end;
            return;
        }
    }
    l->m->at = begin;
    tpl_fail(l->m, "a comment without its end '#}'");
}

/* Past `word` and blanks on both sides, 0 when something else stands there. */
static size_t skip_word(const lexer *l, size_t i, const char *word) {
    const size_t n = strlen(word);
    i = skip_space(l, i);
    if (l->n - i < n || memcmp(l->source + i, word, n) != 0)
        return 0;
    return skip_space(l, i + n);
}

/* {% raw %} at l->at (behind its {%): the text up to {% endraw %} as it stands. False when it is another tag.
 */
static bool lex_raw(lexer *l, size_t tag) {
    const size_t end = skip_word(l, l->at, "raw");
    if (end == 0 || !(at(l, end) == '%' || (at(l, end) == '-' && at(l, end + 1) == '%')))
        return false;
    const size_t close = end + (at(l, end) == '-');
    if (at(l, close + 1) != '}')
        return false;
    const size_t begin = at(l, end) == '-' ? skip_space(l, close + 2) : close + 2;
    for (size_t i = begin; i + 1 < l->n; i++) {
        if (l->source[i] != '{' || l->source[i + 1] != '%')
            continue;
        const char sign = sign_at(l, i + 2);
        const size_t word = skip_word(l, i + 2 + (sign != '\0'), "endraw");
        const size_t after = word > 0 ? block_end(l, word, "%}") : 0;
        if (after > 0) {
            emit_text(l, begin, i, sign, false);
            l->at = after;
            return true;
        }
    }
    l->m->at = tag;
    tpl_fail(l->m, "a raw block without its end");
}

static size_t sign_length(const lexer *l, size_t i) {
    static const char *const pairs[] = {"**", "//", "==", "!=", ">=", "<="};
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++)
        if (at(l, i) == pairs[k][0] && at(l, i + 1) == pairs[k][1])
            return 2;
    return at(l, i) != '\0' && strchr("+-/*%~[](){}><=.:|,;", at(l, i)) != NULL ? 1 : 0;
}

/* An operator or bracket; `open` holds the brackets that wait for their end. */
static void lex_sign(lexer *l, char *open, int *n_open) {
    const char c = at(l, l->at);
    const size_t n = sign_length(l, l->at);
    if (n == 0)
        tpl_fail(l->m, "unexpected character");
    if (strchr("([{", c) != NULL) {
        if (*n_open == TPL_MAX_NESTING)
            tpl_fail(l->m, "brackets nested too deeply (%d levels)", TPL_MAX_NESTING);
        open[(*n_open)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c) != NULL) {
        if (*n_open == 0 || open[*n_open - 1] != c)
            tpl_fail(l->m, "unexpected '%c'", c);
        (*n_open)--;
    }
    emit(l, TPL_T_SIGN, l->at, span(l, l->at, l->at + n));
    l->at += n;
}

static bool is_name(char c) {
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* One token inside {% %} or {{ }}. */
static void lex_one(lexer *l, char *open, int *n_open) {
    const size_t begin = l->at;
    const char c = at(l, begin);
    l->m->at = begin;
    if (c == '\'' || c == '"') {
        const tpl_value string = tpl_lex_string(l->m, l->source, l->n, &l->at);
        emit(l, TPL_T_STRING, begin, string);
    } else if (isdigit((unsigned char)c)) {
        const tpl_value number = tpl_lex_number(l->m, l->source, l->n, &l->at);
        emit(l, TPL_T_NUMBER, begin, number);
    } else if (is_name(c)) {
        while (is_name(at(l, l->at)) && !is_space_at(l, l->at))
            l->at = tpl_text_next(span(l, 0, l->n), l->at);
        emit(l, TPL_T_NAME, begin, span(l, begin, l->at));
    } else {
        lex_sign(l, open, n_open);
    }
}

/* The inside of a tag up to its end. Inside brackets the end's letters are ordinary ones. */
static void lex_inside(lexer *l, size_t tag, bool is_print) {
    char open[TPL_MAX_NESTING];
    int n_open = 0;
    for (;;) {
        l->at = skip_space(l, l->at);
        if (l->at >= l->n)
            break;
        const size_t i = l->at, minus = at(l, i) == '-' ? 1 : 0;
        size_t end = 0;
        if (n_open == 0 && is_print && at(l, i + minus) == '}' && at(l, i + minus + 1) == '}')
            end = minus == 1 ? skip_space(l, i + 3) : i + 2;
        else if (n_open == 0 && !is_print)
            end = block_end(l, i, "%}");
        if (end > 0) {
            emit(l, is_print ? TPL_T_PRINT_END : TPL_T_BLOCK_END, i, tpl_word(is_print ? "}}" : "%}"));
            l->at = end;
            return;
        }
        lex_one(l, open, &n_open);
    }
    l->m->at = tag;
    tpl_fail(l->m, "a tag without its end '%s'", is_print ? "}}" : "%}");
}

static size_t next_tag(const lexer *l, size_t i) {
    while (i + 1 < l->n && !(l->source[i] == '{' && strchr("{%#", l->source[i + 1]) != NULL))
        i++;
    return i + 1 < l->n ? i : l->n;
}

tpl_token *tpl_lex(tpl_machine *m, size_t *n_out) {
    lexer l = {.m = m, .source = m->source, .n = m->n_source};
    while (l.at < l.n) {
        const size_t begin = l.at, tag = next_tag(&l, begin);
        const char kind = at(&l, tag + 1), sign = sign_at(&l, tag + 2);
        if (tag == l.n) {
            emit(&l, TPL_T_TEXT, begin, span(&l, begin, tag));
            break;
        }
        emit_text(&l, begin, tag, sign, kind == '{');
        l.at = tag + 2 + (sign != '\0');
        if (kind == '#') {
            lex_comment(&l, tag);
        } else if (kind == '{') {
            emit(&l, TPL_T_PRINT, tag, tpl_word("{{"));
            lex_inside(&l, tag, true);
        } else if (!lex_raw(&l, tag)) {
            emit(&l, TPL_T_BLOCK, tag, tpl_word("{%"));
            lex_inside(&l, tag, false);
        }
    }
    emit(&l, TPL_T_END, l.n, tpl_word("the end of the template"));
    *n_out = l.n_tokens;
    return l.tokens;
}
