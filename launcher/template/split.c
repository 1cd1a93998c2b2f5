/* Texts cut into lists. */
#include <string.h>

#include "launcher/template/evaluate.h"

/* Pieces that grow. */
typedef struct pieces {
    tpl_machine *m;
    tpl_value *items;
    size_t n, room;
} pieces;

static void add(pieces *p, tpl_value text, size_t begin, size_t end) {
    if (p->n == p->room) {
        tpl_value *more = tpl_take_values(p->m, p->room = p->room * 2 + 8);
        if (p->n > 0)
            memcpy(more, p->items, p->n * sizeof *more);
        p->items = more;
    }
    tpl_step(p->m, 1);
    p->items[p->n++] = tpl_text_slice(text, begin, end);
}

static tpl_value list_of(const pieces *p) {
    return tpl_items_value(TPL_LIST, p->items, p->n);
}

static size_t skip(tpl_value text, size_t at, bool is_space) {
    while (at < text.n && tpl_is_space(tpl_text_code(text, at)) == is_space)
        at = tpl_text_next(text, at);
    return at;
}

static size_t skip_back(tpl_value text, size_t end, bool is_space) {
    while (end > 0 && tpl_is_space(tpl_text_code(text, tpl_text_before(text, end))) == is_space)
        end = tpl_text_before(text, end);
    return end;
}

static void split_words(pieces *p, tpl_value text, int64_t limit) {
    for (size_t at = skip(text, 0, true); at < text.n; limit--) {
        if (limit == 0) {
            add(p, text, at, skip_back(text, text.n, true));
            return;
        }
        const size_t end = skip(text, at, false);
        add(p, text, at, end);
        at = skip(text, end, true);
    }
}

static void split_at(pieces *p, tpl_value text, tpl_value separator, int64_t limit) {
    size_t at = 0, found;
    for (; limit != 0 && (found = tpl_text_find(text, separator, at)) != SIZE_MAX; limit--) {
        add(p, text, at, found);
        at = found + separator.n;
    }
    add(p, text, at, text.n);
}

/* From the right; the pieces come out backwards and are turned round. */
static void rsplit_words(pieces *p, tpl_value text, int64_t limit) {
    for (size_t end = skip_back(text, text.n, true); end > 0; limit--) {
        if (limit == 0) {
            add(p, text, skip(text, 0, true), end);
            break;
        }
        const size_t begin = skip_back(text, end, false);
        add(p, text, begin, end);
        end = skip_back(text, begin, true);
    }
}

static void rsplit_at(pieces *p, tpl_value text, tpl_value separator, int64_t limit) {
    size_t end = text.n, found;
    for (; limit != 0; limit--) {
        found = tpl_text_rfind(tpl_text_slice(text, 0, end), separator, SIZE_MAX);
        if (found == SIZE_MAX)
            break;
        add(p, text, found + separator.n, end);
        end = found;
    }
    add(p, text, 0, end);
}

static void turn(pieces *p) {
    for (size_t i = 0; i < p->n / 2; i++) {
        const tpl_value other = p->items[i];
        p->items[i] = p->items[p->n - 1 - i];
        p->items[p->n - 1 - i] = other;
    }
}

static bool is_by_words(tpl_machine *m, tpl_value separator) {
    if (!tpl_given(separator) || separator.kind == TPL_NONE)
        return true;
    if (tpl_text_argument(m, separator, "").n == 0)
        tpl_fail(m, "an empty separator");
    return false;
}

tpl_value tpl_split(tpl_machine *m, tpl_call *call) {
    pieces p = {.m = m};
    const int64_t limit = tpl_int_argument(m, call->a[1], -1);
    if (is_by_words(m, call->a[0]))
        split_words(&p, call->self, limit);
    else
        split_at(&p, call->self, call->a[0], limit);
    return list_of(&p);
}

tpl_value tpl_rsplit(tpl_machine *m, tpl_call *call) {
    pieces p = {.m = m};
    const int64_t limit = tpl_int_argument(m, call->a[1], -1);
    if (is_by_words(m, call->a[0]))
        rsplit_words(&p, call->self, limit);
    else
        rsplit_at(&p, call->self, call->a[0], limit);
    turn(&p);
    return list_of(&p);
}

/* What ends a line for Python. */
static bool ends_line(uint32_t code) {
    return (code >= '\n' && code <= '\r') || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

tpl_value tpl_splitlines(tpl_machine *m, tpl_call *call) {
    const tpl_value text = call->self;
    const bool keeps_ends = tpl_given(call->a[0]) && tpl_truth(call->a[0]);
    pieces p = {.m = m};
    size_t begin = 0;
    for (size_t at = 0; at < text.n;) {
        const uint32_t code = tpl_text_code(text, at);
        size_t next = tpl_text_next(text, at);
        if (ends_line(code)) {
            if (code == '\r' && next < text.n && text.bytes[next] == '\n')
                next++;
            add(&p, text, begin, keeps_ends ? next : at);
            begin = next;
        }
        at = next;
    }
    if (begin < text.n)
        add(&p, text, begin, text.n);
    return list_of(&p);
}
