/* Capitals and small letters as Python has them: the full mappings, where one letter may become two. */
#include <utf8proc.h>

#include "launcher/template/text.h"

enum {
    CAPITAL_SHARP_S = 0x1E9E,
    CAPITAL_I_DOT = 0x130,
    CAPITAL_SIGMA = 0x3A3,
    FINAL_SIGMA = 0x3C2,
    SIGMA = 0x3C3,
    DOT_ABOVE = 0x307,
};

static utf8proc_category_t category(uint32_t code) {
    return utf8proc_category((utf8proc_int32_t)code);
}

bool tpl_is_cased(uint32_t code) {
    const utf8proc_category_t c = category(code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

/* A letter whose capital is several: the small letters it folds to, 0 when it is an ordinary one. */
static int fold(uint32_t code, utf8proc_int32_t folded[4]) {
    if (code < 0x80 || code == CAPITAL_SHARP_S || code == CAPITAL_I_DOT)
        return 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)code, folded, 4, UTF8PROC_CASEFOLD, NULL);
    return n > 1 && n <= 4 ? (int)n : 0;
}

static void add_upper(tpl_builder *b, uint32_t code, bool is_own) {
    utf8proc_int32_t folded[4];
    const int n = fold(code, folded);
    for (int i = 0; i < n; i++)
        tpl_add_code(b, (uint32_t)utf8proc_toupper(folded[i]), is_own);
    if (n == 0)
        tpl_add_code(b, (uint32_t)utf8proc_toupper((utf8proc_int32_t)code), is_own);
}

static void add_title(tpl_builder *b, uint32_t code, bool is_own) {
    utf8proc_int32_t folded[4];
    const uint32_t simple = (uint32_t)utf8proc_totitle((utf8proc_int32_t)code);
    const int n = simple == code && category(code) == UTF8PROC_CATEGORY_LL ? fold(code, folded) : 0;
    for (int i = 0; i < n; i++)
        tpl_add_code(b, (uint32_t)(i == 0 ? utf8proc_totitle(folded[i]) : folded[i]), is_own);
    if (n == 0)
        tpl_add_code(b, simple, is_own);
}

/* A sigma at the end of a word: letters before it, none behind; marks do not count. */
static bool is_final(tpl_value text, size_t at) {
    size_t i = at;
    bool has_before = false;
    while (i > 0) {
        i = tpl_text_before(text, i);
        const utf8proc_category_t c = category(tpl_text_code(text, i));
        if (c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_CF)
            continue;
        has_before = tpl_is_cased(tpl_text_code(text, i));
        break;
    }
    for (i = tpl_text_next(text, at); has_before && i < text.n; i = tpl_text_next(text, i)) {
        const utf8proc_category_t c = category(tpl_text_code(text, i));
        if (c != UTF8PROC_CATEGORY_MN && c != UTF8PROC_CATEGORY_CF)
            return !tpl_is_cased(tpl_text_code(text, i));
    }
    return has_before;
}

static void add_lower(tpl_builder *b, tpl_value text, size_t at) {
    const uint32_t code = tpl_text_code(text, at);
    const bool is_own = tpl_is_own_at(text, at);
    if (code == CAPITAL_SIGMA) {
        tpl_add_code(b, is_final(text, at) ? FINAL_SIGMA : SIGMA, is_own);
    } else if (code == CAPITAL_I_DOT) {
        tpl_add_code(b, 'i', is_own);
        tpl_add_code(b, DOT_ABOVE, is_own);
    } else {
        tpl_add_code(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code), is_own);
    }
}

static tpl_value built(const tpl_builder *b, tpl_value text) {
    tpl_value v = tpl_built(b);
    v.is_safe = text.is_safe;
    return v;
}

tpl_value tpl_upper(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at))
        add_upper(&b, tpl_text_code(text, at), tpl_is_own_at(text, at));
    return built(&b, text);
}

tpl_value tpl_lower(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at))
        add_lower(&b, text, at);
    return built(&b, text);
}

tpl_value tpl_capitalize(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at)) {
        if (at == 0)
            add_title(&b, tpl_text_code(text, at), tpl_is_own_at(text, at));
        else
            add_lower(&b, text, at);
    }
    return built(&b, text);
}

tpl_value tpl_title(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    bool is_inside = false;
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at)) {
        const uint32_t code = tpl_text_code(text, at);
        if (is_inside)
            add_lower(&b, text, at);
        else
            add_title(&b, code, tpl_is_own_at(text, at));
        is_inside = tpl_is_cased(code);
    }
    return built(&b, text);
}

/* The filter's words begin after blanks and brackets, and their first letter alone is made a capital: it does
 * so by upper, not by title. */
tpl_value tpl_title_words(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    bool is_first = true;
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at)) {
        const uint32_t code = tpl_text_code(text, at);
        if (is_first)
            add_upper(&b, code, tpl_is_own_at(text, at));
        else
            add_lower(&b, text, at);
        is_first =
            tpl_is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
    }
    return built(&b, text);
}

tpl_value tpl_swapcase(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at)) {
        const uint32_t code = tpl_text_code(text, at);
        if (category(code) == UTF8PROC_CATEGORY_LU)
            add_lower(&b, text, at);
        else
            add_upper(&b, code, tpl_is_own_at(text, at));
    }
    return built(&b, text);
}
