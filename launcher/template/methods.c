/* Methods of texts, lists and dicts. */
#include <string.h>
#include <utf8proc.h>

#include "launcher/template/evaluate.h"

static tpl_value keep_safe(tpl_value v, tpl_value of) {
    v.is_safe = of.is_safe;
    return v;
}

static tpl_value upper(tpl_machine *m, tpl_call *call) {
    return tpl_upper(m, call->self);
}
static tpl_value lower(tpl_machine *m, tpl_call *call) {
    return tpl_lower(m, call->self);
}
static tpl_value title(tpl_machine *m, tpl_call *call) {
    return tpl_title(m, call->self);
}
static tpl_value capitalize(tpl_machine *m, tpl_call *call) {
    return tpl_capitalize(m, call->self);
}
static tpl_value swapcase(tpl_machine *m, tpl_call *call) {
    return tpl_swapcase(m, call->self);
}

static bool is_stripped(tpl_value text, size_t at, tpl_value set) {
    const tpl_value one = tpl_text_slice(text, at, tpl_text_next(text, at));
    return set.kind == TPL_TEXT ? tpl_text_find(set, one, 0) != SIZE_MAX
                                : tpl_is_space(tpl_text_code(text, at));
}

/* Without the characters of `set` (none: white space) on the sides that are asked for. */
static tpl_value strip(tpl_machine *m, tpl_value text, tpl_value set, bool is_left, bool is_right) {
    size_t begin = 0, end = text.n;
    if (tpl_given(set) && set.kind != TPL_NONE)
        set = tpl_text_argument(m, set, "");
    while (is_left && begin < end && is_stripped(text, begin, set))
        begin = tpl_text_next(text, begin);
    while (is_right && begin < end && is_stripped(text, tpl_text_before(text, end), set))
        end = tpl_text_before(text, end);
    return tpl_text_slice(text, begin, end);
}
static tpl_value strip_both(tpl_machine *m, tpl_call *call) {
    return strip(m, call->self, call->a[0], true, true);
}
static tpl_value strip_left(tpl_machine *m, tpl_call *call) {
    return strip(m, call->self, call->a[0], true, false);
}
static tpl_value strip_right(tpl_machine *m, tpl_call *call) {
    return strip(m, call->self, call->a[0], false, true);
}

/* A text, or a tuple of texts, one of which fits. */
static bool fits(tpl_machine *m, tpl_value text, tpl_value what, bool is_end) {
    if (what.kind == TPL_TUPLE) {
        for (size_t i = 0; i < what.n; i++)
            if (what.items[i].kind != TPL_TUPLE && fits(m, text, what.items[i], is_end))
                return true;
        return false;
    }
    what = tpl_text_argument(m, what, "");
    return what.n <= text.n && memcmp(text.bytes + (is_end ? text.n - what.n : 0), what.bytes, what.n) == 0;
}
static tpl_value startswith(tpl_machine *m, tpl_call *call) {
    return tpl_bool(fits(m, call->self, call->a[0], false));
}
static tpl_value endswith(tpl_machine *m, tpl_call *call) {
    return tpl_bool(fits(m, call->self, call->a[0], true));
}
static tpl_value removeprefix(tpl_machine *m, tpl_call *call) {
    const tpl_value text = call->self, what = tpl_text_argument(m, call->a[0], "");
    return fits(m, text, what, false) ? tpl_text_slice(text, what.n, text.n) : text;
}
static tpl_value removesuffix(tpl_machine *m, tpl_call *call) {
    const tpl_value text = call->self, what = tpl_text_argument(m, call->a[0], "");
    return fits(m, text, what, true) ? tpl_text_slice(text, 0, text.n - what.n) : text;
}

/* A byte's place as the number of characters before it; -1 for nowhere. */
static tpl_value place(tpl_machine *m, tpl_value text, size_t at) {
    return tpl_int(at == SIZE_MAX ? -1 : (int64_t)tpl_text_length(m, tpl_text_slice(text, 0, at)));
}
static size_t start_of(tpl_machine *m, tpl_call *call) {
    int64_t start = tpl_int_argument(m, call->a[1], 0);
    if (start < 0)
        tpl_fail(m, "%s does not take a negative start here", call->name);
    return tpl_text_offset(call->self, (size_t)start);
}
static tpl_value find(tpl_machine *m, tpl_call *call) {
    return place(m, call->self,
                 tpl_text_find(call->self, tpl_text_argument(m, call->a[0], ""), start_of(m, call)));
}
static tpl_value rfind(tpl_machine *m, tpl_call *call) {
    const tpl_value what = tpl_text_argument(m, call->a[0], "");
    tpl_step(m, call->self.n / 64 * (what.n / 64 + 1));
    return place(m, call->self, tpl_text_rfind(call->self, what, SIZE_MAX));
}
static tpl_value need_found(tpl_machine *m, tpl_value v) {
    if (v.i < 0)
        tpl_fail(m, "substring not found");
    return v;
}
static tpl_value index_of(tpl_machine *m, tpl_call *call) {
    return need_found(m, find(m, call));
}
static tpl_value rindex_of(tpl_machine *m, tpl_call *call) {
    return need_found(m, rfind(m, call));
}
static tpl_value count(tpl_machine *m, tpl_call *call) {
    const tpl_value text = call->self, what = tpl_text_argument(m, call->a[0], "");
    int64_t n = 0;
    if (what.n == 0)
        return tpl_int((int64_t)tpl_text_length(m, text) + 1);
    for (size_t at = 0; (at = tpl_text_find(text, what, at)) != SIZE_MAX; at += what.n)
        n++;
    return tpl_int(n);
}

tpl_value tpl_replace(tpl_machine *m, tpl_value text, tpl_value old, tpl_value new, int64_t limit) {
    tpl_builder b = tpl_builder_of(m);
    size_t at = 0;
    for (; limit != 0; limit--) {
        const size_t found = tpl_text_find(text, old, at);
        if (found == SIZE_MAX)
            break;
        tpl_step(m, 1);
        tpl_add_slice(&b, text, at, found);
        tpl_add_text(&b, new);
        at = found + old.n;
        if (old.n == 0) { /* between all characters */
            if (at >= text.n)
                break;
            tpl_add_slice(&b, text, at, tpl_text_next(text, at));
            at = tpl_text_next(text, at);
        }
    }
    tpl_add_slice(&b, text, at, text.n);
    return keep_safe(tpl_built(&b), text);
}
static tpl_value replace(tpl_machine *m, tpl_call *call) {
    const tpl_value old = tpl_text_argument(m, call->a[0], ""), new = tpl_text_argument(m, call->a[1], "");
    return tpl_replace(m, call->self, old, new, tpl_int_argument(m, call->a[2], -1));
}

static tpl_value join(tpl_machine *m, tpl_call *call) {
    size_t n;
    tpl_builder b = tpl_builder_of(m);
    const tpl_value *items = tpl_iterate(m, call->a[0], &n);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            tpl_add_text(&b, call->self);
        tpl_add_text(&b, tpl_text_argument(m, items[i], ""));
    }
    return tpl_built(&b);
}

/* One of the words that fill a line up to a width. */
static tpl_value pad(tpl_machine *m, tpl_call *call, int side) {
    tpl_builder b = tpl_builder_of(m);
    const tpl_value fill = tpl_text_argument(m, call->a[1], " ");
    const int64_t width = tpl_int_argument(m, call->a[0], 0), n = (int64_t)tpl_text_length(m, call->self);
    const int64_t missing = width > n ? width - n : 0;
    const int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
    tpl_add_repeated(&b, fill, (size_t)left);
    tpl_add_text(&b, call->self);
    tpl_add_repeated(&b, fill, (size_t)(missing - left));
    return keep_safe(tpl_built(&b), call->self);
}
static tpl_value ljust(tpl_machine *m, tpl_call *call) {
    return pad(m, call, -1);
}
static tpl_value rjust(tpl_machine *m, tpl_call *call) {
    return pad(m, call, 1);
}
static tpl_value center(tpl_machine *m, tpl_call *call) {
    return pad(m, call, 0);
}
static tpl_value zfill(tpl_machine *m, tpl_call *call) {
    tpl_builder b = tpl_builder_of(m);
    const tpl_value text = call->self;
    const size_t sign = text.n > 0 && (text.bytes[0] == '-' || text.bytes[0] == '+');
    const int64_t missing = tpl_int_argument(m, call->a[0], 0) - (int64_t)tpl_text_length(m, text);
    tpl_add_slice(&b, text, 0, sign);
    tpl_add_repeated(&b, tpl_word("0"), missing > 0 ? (size_t)missing : 0);
    tpl_add_slice(&b, text, sign, text.n);
    return tpl_built(&b);
}

static tpl_value three(tpl_machine *m, tpl_value a, tpl_value b, tpl_value c) {
    tpl_value *items = tpl_take_values(m, 3);
    items[0] = a;
    items[1] = b;
    items[2] = c;
    return tpl_items_value(TPL_TUPLE, items, 3);
}
static tpl_value cut(tpl_machine *m, tpl_call *call, bool is_last) {
    const tpl_value text = call->self, what = tpl_text_argument(m, call->a[0], "");
    if (what.n == 0)
        tpl_fail(m, "%s needs a separator that is not empty", call->name);
    const size_t at = is_last ? tpl_text_rfind(text, what, SIZE_MAX) : tpl_text_find(text, what, 0);
    if (at == SIZE_MAX)
        return is_last ? three(m, tpl_word(""), tpl_word(""), text)
                       : three(m, text, tpl_word(""), tpl_word(""));
    return three(m, tpl_text_slice(text, 0, at), what, tpl_text_slice(text, at + what.n, text.n));
}
static tpl_value partition(tpl_machine *m, tpl_call *call) {
    return cut(m, call, false);
}
static tpl_value rpartition(tpl_machine *m, tpl_call *call) {
    return cut(m, call, true);
}

/* All characters are of a kind, and there is one. */
static tpl_value all(tpl_value text, bool (*is_kind)(uint32_t code)) {
    for (size_t at = 0; at < text.n; at = tpl_text_next(text, at))
        if (!is_kind(tpl_text_code(text, at)))
            return tpl_bool(false);
    return tpl_bool(text.n > 0);
}
static utf8proc_category_t category(uint32_t code) {
    return utf8proc_category((utf8proc_int32_t)code);
}
static bool is_letter(uint32_t code) {
    return category(code) >= UTF8PROC_CATEGORY_LU && category(code) <= UTF8PROC_CATEGORY_LO;
}
static bool is_decimal(uint32_t code) {
    return category(code) == UTF8PROC_CATEGORY_ND;
}
static bool is_digit(uint32_t code) { /* decimal digits and the raised and lowered ones */
    return is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 || code == 0x2070 ||
           (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089);
}
static bool is_numeric(uint32_t code) {
    return category(code) >= UTF8PROC_CATEGORY_ND && category(code) <= UTF8PROC_CATEGORY_NO;
}
static bool is_word(uint32_t code) {
    return is_letter(code) || is_numeric(code);
}
static tpl_value isalpha_(tpl_machine *m, tpl_call *call) {
    (void)m;
    return all(call->self, is_letter);
}
static tpl_value isdigit_(tpl_machine *m, tpl_call *call) {
    (void)m;
    return all(call->self, is_digit);
}
static tpl_value isdecimal_(tpl_machine *m, tpl_call *call) {
    (void)m;
    return all(call->self, is_decimal);
}
static tpl_value isnumeric_(tpl_machine *m, tpl_call *call) {
    (void)m;
    return all(call->self, is_numeric);
}
static tpl_value isalnum_(tpl_machine *m, tpl_call *call) {
    (void)m;
    return all(call->self, is_word);
}
static tpl_value isspace_(tpl_machine *m, tpl_call *call) {
    (void)m;
    return all(call->self, tpl_is_space);
}
static tpl_value islower_(tpl_machine *m, tpl_call *call) {
    return tpl_call_row(m, tpl_find_row(tpl_test_rows, "lower", 5), call->self, &(tpl_args){0});
}
static tpl_value isupper_(tpl_machine *m, tpl_call *call) {
    return tpl_call_row(m, tpl_find_row(tpl_test_rows, "upper", 5), call->self, &(tpl_args){0});
}

static tpl_value dict_get(tpl_machine *m, tpl_call *call) {
    const tpl_value *found = tpl_dict_find(m, call->self.dict, call->a[0]);
    return found != NULL ? *found : tpl_given(call->a[1]) ? call->a[1] : tpl_none();
}
static tpl_value dict_items(tpl_machine *m, tpl_call *call) {
    return tpl_dict_items(m, call->self.dict, TPL_VIEW);
}
static tpl_value dict_keys(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_items_value(TPL_VIEW, call->self.dict->keys, call->self.dict->n);
}
static tpl_value dict_values(tpl_machine *m, tpl_call *call) {
    (void)m;
    return tpl_items_value(TPL_VIEW, call->self.dict->values, call->self.dict->n);
}
static tpl_value copy(tpl_machine *m, tpl_call *call) {
    (void)m;
    return call->self; /* values never change */
}
static tpl_value list_index(tpl_machine *m, tpl_call *call) {
    for (size_t i = 0; i < call->self.n; i++)
        if (tpl_equal(m, call->self.items[i], call->a[0]))
            return tpl_int((int64_t)i);
    tpl_fail(m, "the value is not in the list");
}
static tpl_value list_count(tpl_machine *m, tpl_call *call) {
    int64_t n = 0;
    for (size_t i = 0; i < call->self.n; i++)
        n += tpl_equal(m, call->self.items[i], call->a[0]);
    return tpl_int(n);
}

const tpl_row tpl_list_method_rows[] = {
    {"index", list_index, "value", 1}, {"count", list_count, "value", 1}, {"copy", copy, "", 0}, {0}};

const tpl_row tpl_dict_method_rows[] = {
    {"get", dict_get, "key default", 1},
    {"items", dict_items, "", 0},
    {"keys", dict_keys, "", 0},
    {"values", dict_values, "", 0},
    {"copy", copy, "", 0},
    {"fromkeys", NULL, "*", 0},
    {0},
};

const tpl_row tpl_text_method_rows[] = {
    {"upper", upper, "", 0},
    {"lower", lower, "", 0},
    {"title", title, "", 0},
    {"capitalize", capitalize, "", 0},
    {"swapcase", swapcase, "", 0},
    {"strip", strip_both, "chars", 0},
    {"lstrip", strip_left, "chars", 0},
    {"rstrip", strip_right, "chars", 0},
    {"split", tpl_split, "sep maxsplit", 0},
    {"rsplit", tpl_rsplit, "sep maxsplit", 0},
    {"splitlines", tpl_splitlines, "keepends", 0},
    {"startswith", startswith, "prefix", 1},
    {"endswith", endswith, "suffix", 1},
    {"removeprefix", removeprefix, "prefix", 1},
    {"removesuffix", removesuffix, "suffix", 1},
    {"find", find, "sub start", 1},
    {"rfind", rfind, "sub", 1},
    {"index", index_of, "sub start", 1},
    {"rindex", rindex_of, "sub", 1},
    {"count", count, "sub", 1},
    {"replace", replace, "old new count", 2},
    {"join", join, "iterable", 1},
    {"format", tpl_format_braces, "*", 0},
    {"ljust", ljust, "width fillchar", 1},
    {"rjust", rjust, "width fillchar", 1},
    {"center", center, "width fillchar", 1},
    {"zfill", zfill, "width", 1},
    {"partition", partition, "sep", 1},
    {"rpartition", rpartition, "sep", 1},
    {"isalpha", isalpha_, "", 0},
    {"isdigit", isdigit_, "", 0},
    {"isdecimal", isdecimal_, "", 0},
    {"isnumeric", isnumeric_, "", 0},
    {"isalnum", isalnum_, "", 0},
    {"isspace", isspace_, "", 0},
    {"islower", islower_, "", 0},
    {"isupper", isupper_, "", 0},
    {"encode", NULL, "*", 0},
    {"casefold", NULL, "*", 0},
    {"expandtabs", NULL, "*", 0},
    {"format_map", NULL, "*", 0},
    {"isascii", NULL, "*", 0},
    {"isidentifier", NULL, "*", 0},
    {"isprintable", NULL, "*", 0},
    {"istitle", NULL, "*", 0},
    {"maketrans", NULL, "*", 0},
    {"translate", NULL, "*", 0},
    {0},
};
