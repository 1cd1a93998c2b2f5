#define PCRE2_CODE_UNIT_WIDTH 8
#include "launcher/text/pattern.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>

enum {
    MAX_DEPTH = 200,   /* of groups, and of classes in classes; PCRE2 itself stops at 250 groups */
    MAX_PROPERTY = 48, /* bytes of the name in \p{name} */
};
static const size_t no_atom = SIZE_MAX; /* nothing is there that a quantifier could repeat */

/* Members of a class: sets of code points, so they may stand beside others. */
#define WHITE                                                                                                \
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"     \
    "\\x{3000}"
#define NOT_WHITE                                                                                            \
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"          \
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{D7FF}"        \
    "\\x{E000}-\\x{10FFFF}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* Outside of a class \w also takes six digits and fractions of Latin-1: so it is in Oniguruma, from a table.
 */
#define LONE_WORD WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define HEX "0-9A-Fa-f"

typedef struct rule {
    const char *from, *to;
} rule;

/* Escapes whose letter means a set in both places. */
static const rule sets[] = {
    {"s", WHITE}, {"S", NOT_WHITE}, {"w", WORD}, {"h", HEX}, {"d", "\\p{Nd}"}, {"D", "\\P{Nd}"},
};
static const rule posix_sets[] = {
    {"alpha", "\\p{Alphabetic}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"digit", "\\p{Nd}"},
    {"lower", "\\p{Lowercase}"},
    {"upper", "\\p{Uppercase}"},
    {"space", WHITE},
    {"word", WORD},
    {"xdigit", HEX},
};
/* What an escape is outside of a class, where that is more than the set in brackets; a border of a word looks
 * at both sides. */
static const rule lone_escapes[] = {
    {"w", "[" LONE_WORD "]"},
    {"W", "[^" LONE_WORD "]"},
    {"H", "[^" HEX "]"},
    {"b", "(?:(?<=[" LONE_WORD "])(?![" LONE_WORD "])|(?<![" LONE_WORD "])(?=[" LONE_WORD "]))"},
    {"B", "(?:(?<=[" LONE_WORD "])(?=[" LONE_WORD "])|(?<![" LONE_WORD "])(?![" LONE_WORD "]))"},
};

typedef struct translation {
    cdp_bytes *out;
    const char *name, *in; /* the pattern ... */
    size_t n, at;          /* ... its length, and what comes next */
    size_t atom;           /* where in the output the thing begins that a quantifier would repeat */
    size_t groups[MAX_DEPTH];
    int n_groups;
} translation;

static cdp_status refuse(const translation *t, const char *what) {
    return cdp_fail(CDP_BAD_MODEL, "%s: offset %zu: %s is not supported", t->name, t->at, what);
}

static void say(translation *t, const char *text) {
    cdp_bytes_add(t->out, text, strlen(text));
}

/* Copy `count` bytes of the pattern as they are. */
static void copy(translation *t, size_t count) {
    cdp_bytes_add(t->out, t->in + t->at, count);
    t->at += count;
}

/* The byte `ahead` of the next one; NUL behind the end. */
static char peek(const translation *t, size_t ahead) {
    return t->at + ahead < t->n ? t->in[t->at + ahead] : '\0';
}

static bool is_one_of(char c, const char *set) {
    return c != '\0' && strchr(set, c) != NULL;
}

/* Bytes of the character that comes next. */
static size_t char_length(const translation *t) {
    size_t length = 1;
    while (((unsigned char)peek(t, length) & 0xC0) == 0x80)
        length++;
    return length;
}

static const char *find_rule(const rule *rules, size_t n_rules, const char *text, size_t n) {
    for (size_t i = 0; i < n_rules; i++)
        if (strlen(rules[i].from) == n && memcmp(rules[i].from, text, n) == 0)
            return rules[i].to;
    return NULL;
}

/* The set that the escape which comes next stands for, NULL when it stands for none. */
static const char *set_of(const translation *t) {
    const char letter = peek(t, 1);
    return find_rule(sets, sizeof sets / sizeof sets[0], &letter, 1);
}

static bool is_known_script(const char *name, size_t n) {
    char probe[MAX_PROPERTY + 8];
    int error;
    PCRE2_SIZE offset;
    snprintf(probe, sizeof probe, "\\p{sc:%.*s}", (int)n, name);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)probe, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &error, &offset, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* \p{name}, \P{name}, \p{^name}. PCRE2 older than 10.40 knows no "sc:", and means the script anyway. */
static cdp_status translate_property(translation *t) {
    const bool is_inverted = peek(t, 3) == '^';
    const size_t begin = is_inverted ? 4 : 3;
    size_t n = 0;
    while (n < MAX_PROPERTY && (isalnum((unsigned char)peek(t, begin + n)) || peek(t, begin + n) == '_'))
        n++;
    if (peek(t, 2) != '{' || n == 0 || peek(t, begin + n) != '}')
        return refuse(t, "this form of a property");
    say(t, (peek(t, 1) == 'P') != is_inverted ? "\\P{" : "\\p{");
    if (is_known_script(t->in + t->at + begin, n))
        say(t, "sc:");
    cdp_bytes_add(t->out, t->in + t->at + begin, n);
    say(t, "}");
    t->at += begin + n + 1;
    return CDP_OK;
}

/* \uHHHH, \xHH and \x{H...}, as \x{H...}. A bare \x of 80 and more is a byte, not a character. */
static cdp_status translate_code_point(translation *t) {
    const bool is_braced = peek(t, 1) == 'x' && peek(t, 2) == '{', is_long = peek(t, 1) == 'u';
    const size_t begin = is_braced ? 3 : 2, most = is_braced ? 6 : is_long ? 4 : 2;
    char digits[8] = "", shown[16];
    size_t n = 0;
    for (; n < most && isxdigit((unsigned char)peek(t, begin + n)); n++)
        digits[n] = peek(t, begin + n);
    const unsigned long code = strtoul(digits, NULL, 16);
    const bool is_whole = is_braced ? peek(t, begin + n) == '}' : !is_long || n == most;
    if (n == 0 || !is_whole || code > 0x10FFFF || (!is_braced && !is_long && code > 0x7F))
        return refuse(t, "this form of a code point");
    snprintf(shown, sizeof shown, "\\x{%lX}", code);
    say(t, shown);
    t->at += begin + n + is_braced;
    return CDP_OK;
}

/* What both places have in common: one character, or a property. */
static cdp_status translate_common_escape(translation *t) {
    const char c = peek(t, 1);
    if (c == 'p' || c == 'P')
        return translate_property(t);
    if (c == 'u' || c == 'x')
        return translate_code_point(t);
    if (c == 'v') { /* to PCRE2 a set */
        say(t, "\\x{B}");
        t->at += 2;
        return CDP_OK;
    }
    if (c == '\0' || (isalpha((unsigned char)c) && !is_one_of(c, "abefnrt")))
        return refuse(t, "this escape");
    copy(t, 1);
    copy(t, char_length(t));
    return CDP_OK;
}

static cdp_status translate_members(translation *t, int depth);

/* "[:alpha:]" in a class. */
static cdp_status translate_posix(translation *t) {
    size_t n = 0;
    while (isalpha((unsigned char)peek(t, 2 + n)))
        n++;
    const char *set = find_rule(posix_sets, sizeof posix_sets / sizeof posix_sets[0], t->in + t->at + 2, n);
    if (set == NULL || peek(t, 2 + n) != ':' || peek(t, 3 + n) != ']')
        return refuse(t, "this POSIX bracket");
    say(t, set);
    t->at += n + 4;
    return CDP_OK;
}

/* A class in a class adds its members, so its brackets can go; not so if it is negated. */
static cdp_status translate_inner_class(translation *t, int depth) {
    if (peek(t, 1) == ':')
        return translate_posix(t);
    if (peek(t, 1) == '^' || depth == MAX_DEPTH)
        return refuse(t, "a negated class inside a class");
    t->at++;
    return translate_members(t, depth + 1);
}

/* One member that is not a class: a set, or a character (*is_set_out says which). */
static cdp_status translate_member(translation *t, bool *is_set_out) {
    const char c = peek(t, 0), *set = c == '\\' ? set_of(t) : NULL;
    *is_set_out = set != NULL || (c == '\\' && is_one_of(peek(t, 1), "pP"));
    if (set != NULL) {
        say(t, set);
        t->at += 2;
        return CDP_OK;
    }
    if (c == '\\')
        return translate_common_escape(t);
    if (is_one_of(c, "[]^-"))
        say(t, "\\");
    copy(t, char_length(t));
    return CDP_OK;
}

/* A '-' makes a range only between two characters; anywhere else it is itself. */
static bool makes_range(const translation *t, bool may_begin) {
    const char next = peek(t, 1);
    const bool is_escape = next == '\\', is_set = is_one_of(peek(t, 2), "sSwWhHdDpP");
    return may_begin && next != ']' && next != '[' && next != '\0' && !(is_escape && is_set);
}

/* Members up to the closing bracket, which is passed over. A ']' in the first place is a member. */
static cdp_status translate_members(translation *t, int depth) {
    bool may_begin = false; /* the member before this one could be the beginning of a range */
    for (bool is_first = true; t->at < t->n; is_first = false) {
        const char c = peek(t, 0);
        bool is_set = true;
        if (c == ']' && !is_first) {
            t->at++;
            return CDP_OK;
        }
        if (c == '&' && peek(t, 1) == '&')
            return refuse(t, "&& inside a class");
        if (c == '[') {
            CDP_TRY(translate_inner_class(t, depth));
        } else if (c == '-' && makes_range(t, may_begin)) {
            copy(t, 1);
            CDP_TRY(translate_member(t, &is_set));
            is_set = true; /* a range begins no other range */
        } else {
            CDP_TRY(translate_member(t, &is_set));
        }
        may_begin = !is_set;
    }
    return refuse(t, "a class without its end");
}

static cdp_status translate_class(translation *t) {
    t->atom = t->out->n;
    copy(t, peek(t, 1) == '^' ? 2 : 1);
    CDP_TRY(translate_members(t, 1));
    say(t, "]");
    return CDP_OK;
}

static cdp_status translate_escape(translation *t) {
    const char letter = peek(t, 1), *set = set_of(t);
    const char *lone = find_rule(lone_escapes, sizeof lone_escapes / sizeof lone_escapes[0], &letter, 1);
    t->atom = t->out->n;
    if (set == NULL && lone == NULL) {
        if (!is_one_of(letter, "AzZGRXNk"))
            return translate_common_escape(t);
        copy(t, 2);
        return CDP_OK;
    }
    say(t, lone != NULL ? lone : "[");
    say(t, lone != NULL ? "" : set);
    say(t, lone != NULL ? "" : "]");
    t->at += 2;
    return CDP_OK;
}

/* "(?im-i:" or, at the very beginning, "(?i)": Ruby's m is PCRE2's s. */
static cdp_status translate_options(translation *t) {
    size_t n = 2;
    while (is_one_of(peek(t, n), "im-"))
        n++;
    if (peek(t, n) != ':' && (peek(t, n) != ')' || t->at > 0))
        return refuse(t, "this kind of group or option");
    for (size_t i = 0; i <= n; i++)
        cdp_bytes_add(t->out, peek(t, i) == 'm' ? "s" : t->in + t->at + i, 1);
    t->at += n + 1;
    return CDP_OK;
}

static cdp_status translate_group(translation *t) {
    const size_t begin = t->out->n;
    const bool is_plain = peek(t, 1) != '?';
    if (peek(t, 1) == '*')
        return refuse(t, "a verb");
    if (t->n_groups == MAX_DEPTH)
        return refuse(t, "this depth of groups");
    if (is_plain || is_one_of(peek(t, 2), ":=!><"))
        copy(t, is_plain ? 1 : 3);
    else
        CDP_TRY(translate_options(t));
    t->atom = no_atom;
    if (t->in[t->at - 1] != ')')
        t->groups[t->n_groups++] = begin;
    return CDP_OK;
}

/* Put the atom into a group of its own. */
static void wrap_atom(translation *t) {
    static const char open[] = "(?:";
    const size_t n_tail = t->out->n - t->atom;
    cdp_bytes_add(t->out, open, 3);
    if (t->out->is_failed)
        return;
    memmove(t->out->data + t->atom + 3, t->out->data + t->atom, n_tail);
    memcpy(t->out->data + t->atom, open, 3);
}

/* {n}, {n,}, {,m}, {n,m}; any other brace is itself. */
static cdp_status translate_braces(translation *t) {
    size_t low = 0, high = 0;
    while (isdigit((unsigned char)peek(t, 1 + low)))
        low++;
    const bool has_comma = peek(t, 1 + low) == ',';
    while (has_comma && isdigit((unsigned char)peek(t, 2 + low + high)))
        high++;
    const size_t end = 1 + low + has_comma + high;
    if (peek(t, end) != '}' || low + high == 0) {
        t->atom = t->out->n;
        say(t, "\\");
        copy(t, 1);
        return CDP_OK;
    }
    const char next = peek(t, end + 1);
    const bool repeats_again = next == '+' || (next == '?' && !has_comma);
    if (t->atom == no_atom)
        return refuse(t, "a number of times without something to repeat");
    if (repeats_again)
        wrap_atom(t);
    copy(t, 1);
    say(t, low == 0 ? "0" : "");
    copy(t, end);
    say(t, repeats_again ? ")" : "");
    return CDP_OK;
}

static cdp_status translate_next(translation *t) {
    const char c = peek(t, 0);
    switch (c) {
    case '\\':
        return translate_escape(t);
    case '[':
        return translate_class(t);
    case '(':
        return translate_group(t);
    case '{':
        return translate_braces(t);
    case ')':
        t->atom = t->n_groups > 0 ? t->groups[--t->n_groups] : no_atom;
        break;
    case '|':
    case '*':
    case '+':
    case '?':
        t->atom = no_atom;
        break;
    default:
        t->atom = t->out->n;
    }
    copy(t, char_length(t));
    return CDP_OK;
}

static cdp_status translate_until(translation *t, size_t length) {
    while (t->at < t->n && t->out->n < length)
        CDP_TRY(translate_next(t));
    return CDP_OK;
}

cdp_status cdp_pattern_translate(cdp_bytes *out, const char *name, const char *pattern, size_t n) {
    translation t = {.out = out, .name = name, .in = pattern, .n = n, .atom = no_atom};
    CDP_TRY(translate_until(&t, SIZE_MAX));
    return out->is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory for a pattern", name) : CDP_OK;
}

size_t cdp_pattern_origin(const char *pattern, size_t n, size_t offset) {
    cdp_bytes out = {0};
    translation t = {.out = &out, .name = "", .in = pattern, .n = n, .atom = no_atom};
    (void)translate_until(&t, offset); /* it went well before */
    free(out.data);
    return t.at;
}
