#include "launcher/text/normalize.h"

#include <utf8proc.h>

#include "launcher/text/utf8.h"

/* Append n bytes that come from text[begin, end): foreign when one of those is. */
static void add(cdp_normal_text *out, const char *bytes, size_t n, cdp_text text, size_t begin, size_t end) {
    const char mark = (char)cdp_text_is_foreign(text, begin, end);
    cdp_bytes_add(&out->bytes, bytes, n);
    for (size_t i = 0; text.foreign != NULL && i < n; i++)
        cdp_bytes_add(&out->foreign, &mark, 1);
}

/* Append text[begin, end) as it is. */
static void add_same(cdp_normal_text *out, cdp_text text, size_t begin, size_t end) {
    cdp_bytes_add(&out->bytes, text.data + begin, end - begin);
    if (text.foreign != NULL)
        cdp_bytes_add(&out->foreign, text.foreign + begin, end - begin);
}

/* Ranges of characters that are composed already, and do not compose with one before them: the letters of
 * most texts. Anything else asks utf8proc. */
static bool is_composed(uint32_t c) {
    static const uint32_t ranges[][2] = {
        {0x00, 0x2FF},      {0x391, 0x3CE},   {0x400, 0x482},     {0x48A, 0x52F},     {0x5D0, 0x5EA},
        {0x620, 0x64A},     {0xE01, 0xE30},   {0x2010, 0x205E},   {0x20A0, 0x20C0},   {0x3000, 0x3029},
        {0x3041, 0x3096},   {0x30A1, 0x30FF}, {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xAC00, 0xD7A3},
        {0xFF01, 0xFF9D},   {0xFFFD, 0xFFFD}, {0x1F300, 0x1F64F}, {0x1F680, 0x1F6D7}, {0x1F900, 0x1F9FF},
        {0x20000, 0x2A6DF},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0] && c >= ranges[i][0]; i++)
        if (c <= ranges[i][1])
            return true;
    return false;
}

static bool is_all_composed(cdp_text text, size_t begin, size_t end) {
    while (begin < end) {
        size_t length;
        uint32_t code;
        cdp_utf8_next((const unsigned char *)text.data + begin, end - begin, &length, &code);
        if (!is_composed(code))
            return false;
        begin += length;
    }
    return true;
}

/* Append what one character is taken apart into, not yet in order. */
static bool add_parts_of(cdp_ids *codes, uint32_t code, utf8proc_option_t options) {
    utf8proc_int32_t parts[64];
    int last_class = UTF8PROC_BOUNDCLASS_START;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)code, parts, 64, options, &last_class);
    for (utf8proc_ssize_t i = 0; i < n && i < 64; i++)
        cdp_ids_add(codes, parts[i]);
    return n >= 0 && n <= 64 && !codes->is_failed;
}

static unsigned class_of(int32_t code) {
    return (unsigned char)utf8proc_get_property(code)->combining_class;
}

/* Sort a run of marks by their class, equal ones staying in order. By counting: a run may be as long as a
 * text, and the library's own way is quadratic. `room` has the length of the run. */
static void sort_marks(int32_t *marks, size_t n, int32_t *room) {
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++)
        at[class_of(marks[i]) + 1]++;
    for (int i = 1; i < 257; i++)
        at[i] += at[i - 1];
    for (size_t i = 0; i < n; i++)
        room[at[class_of(marks[i])]++] = marks[i];
    memcpy(marks, room, n * sizeof *marks);
}

/* Canonical order: marks between two starters by their class. */
static bool put_in_order(cdp_ids *codes) {
    int32_t *room = malloc(codes->n * sizeof *room + 1);
    for (size_t begin = 0, end; room != NULL && begin < codes->n; begin = end) {
        end = begin + 1;
        if (class_of(codes->data[begin]) == 0)
            continue;
        bool is_sorted = true;
        for (; end < codes->n && class_of(codes->data[end]) != 0; end++)
            is_sorted = is_sorted && class_of(codes->data[end - 1]) <= class_of(codes->data[end]);
        if (!is_sorted)
            sort_marks(codes->data + begin, end - begin, room);
    }
    free(room);
    return room != NULL;
}

/* The code points of a form of text[begin, end). */
static bool find_form(cdp_ids *codes, cdp_normal_kind kind, cdp_text text, size_t begin, size_t end) {
    const bool composes = kind == CDP_NORMAL_NFC || kind == CDP_NORMAL_NFKC;
    const bool is_compat = kind == CDP_NORMAL_NFKC || kind == CDP_NORMAL_NFKD;
    const unsigned form = composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    const unsigned options = UTF8PROC_STABLE | (is_compat ? UTF8PROC_COMPAT : 0);
    for (size_t at = begin, length; at < end; at += length) {
        uint32_t code;
        cdp_utf8_next((const unsigned char *)text.data + at, end - at, &length, &code);
        if (!add_parts_of(codes, code, (utf8proc_option_t)(options | UTF8PROC_DECOMPOSE)))
            return false;
    }
    if (!put_in_order(codes))
        return false;
    const utf8proc_ssize_t n = utf8proc_normalize_utf32(codes->data, (utf8proc_ssize_t)codes->n,
                                                        (utf8proc_option_t)(options | form));
    codes->n = n < 0 ? 0 : (size_t)n;
    return n >= 0;
}

static cdp_status add_form_of(cdp_normal_text *out, cdp_normal_kind kind, cdp_text text, size_t begin,
                              size_t end) {
    cdp_ids codes = {0};
    cdp_bytes normal = {0};
    const bool is_good = find_form(&codes, kind, text, begin, end);
    for (size_t i = 0; i < codes.n; i++)
        cdp_utf8_add(&normal, (uint32_t)codes.data[i]);
    free(codes.data);
    if (is_good && normal.n > 0 && !normal.is_failed) {
        /* A first character that stayed what it was keeps its own mark. */
        const size_t same = normal.data[0] == text.data[begin] && (unsigned char)normal.data[0] < 0x80;
        add_same(out, text, begin, begin + same);
        add(out, normal.data + same, normal.n - same, text, begin + same, end);
    }
    free(normal.data);
    return is_good && !normal.is_failed ? CDP_OK
                                        : cdp_fail(CDP_SYSTEM, "normalising %zu bytes failed", end - begin);
}

/* The four forms of Unicode. ASCII stays, and composes only with what comes behind it: so a text falls apart
 * into runs of ASCII, and stretches of other characters with the one ASCII character before them. */
static cdp_status add_form(cdp_normal_text *out, cdp_normal_kind kind, cdp_text text) {
    size_t kept = 0; /* what lies before it is in `out` */
    for (size_t at = 0; at < text.n;) {
        if ((unsigned char)text.data[at] < 0x80) {
            at++;
            continue;
        }
        const size_t begin = at > kept ? at - 1 : at;
        while (at < text.n && (unsigned char)text.data[at] >= 0x80)
            at++;
        if (kind == CDP_NORMAL_NFC && is_all_composed(text, begin, at))
            continue;
        add_same(out, text, kept, begin);
        CDP_TRY(add_form_of(out, kind, text, begin, at));
        kept = at;
    }
    add_same(out, text, kept, text.n);
    return CDP_OK;
}

static void add_lowercase(cdp_normal_text *out, cdp_text text) {
    for (size_t at = 0, length; at < text.n; at += length) {
        uint32_t code;
        utf8proc_uint8_t lower[8];
        cdp_utf8_next((const unsigned char *)text.data + at, text.n - at, &length, &code);
        /* The one character that becomes two. */
        const bool is_dotted = code == 0x130;
        const utf8proc_int32_t to = is_dotted ? 'i' : utf8proc_tolower((utf8proc_int32_t)code);
        utf8proc_ssize_t n = utf8proc_encode_char(to, lower);
        if (is_dotted)
            n += utf8proc_encode_char(0x307, lower + n);
        add(out, (const char *)lower, (size_t)n, text, at, at + length);
    }
}

static void add_stripped(cdp_normal_text *out, const cdp_normal_step *step, cdp_text text) {
    const unsigned char *data = (const unsigned char *)text.data;
    size_t begin = 0, end = text.n, length;
    uint32_t code;
    for (; step->strips_left && begin < end; begin += length) {
        cdp_utf8_next(data + begin, end - begin, &length, &code);
        if (!cdp_is_space(code))
            break;
    }
    while (step->strips_right && end > begin) {
        const size_t before = cdp_utf8_before(data, end);
        cdp_utf8_next(data + before, end - before, &length, &code);
        if (!cdp_is_space(code))
            break;
        end = before;
    }
    add_same(out, text, begin, end);
    out->text.is_beginning = text.is_beginning && begin == 0;
}

static cdp_status add_replaced(cdp_normal_text *out, const cdp_normal_step *step, cdp_text text,
                               cdp_regex_work *work) {
    cdp_spans matches = {0};
    cdp_status st = CDP_OK;
    if (step->pattern != NULL)
        st = cdp_regex_find(step->pattern, work, text.data, 0, text.n, &matches);
    else
        cdp_find_fixed(step->from.data, step->from.n, text.data, 0, text.n, &matches);
    size_t kept = 0;
    for (size_t i = 0; st == CDP_OK && i < matches.n; i++) {
        const cdp_span match = matches.data[i];
        add_same(out, text, kept, match.begin);
        add(out, step->content.data, step->content.n, text, match.begin, match.end);
        kept = match.end;
    }
    add_same(out, text, kept, text.n);
    free(matches.data);
    out->bytes.is_failed |= matches.is_failed;
    return st;
}

static cdp_status run_step(const cdp_normal_step *step, cdp_text text, cdp_regex_work *work,
                           cdp_normal_text *out) {
    switch (step->kind) {
    case CDP_NORMAL_NFC:
    case CDP_NORMAL_NFD:
    case CDP_NORMAL_NFKC:
    case CDP_NORMAL_NFKD:
        return add_form(out, step->kind, text);
    case CDP_NORMAL_LOWERCASE:
        add_lowercase(out, text);
        return CDP_OK;
    case CDP_NORMAL_STRIP:
        add_stripped(out, step, text);
        return CDP_OK;
    case CDP_NORMAL_PREPEND:
        if (text.n > 0)
            add(out, step->content.data, step->content.n, text, 0, 1);
        add_same(out, text, 0, text.n);
        return CDP_OK;
    case CDP_NORMAL_REPLACE:
        return add_replaced(out, step, text, work);
    }
    return cdp_fail(CDP_INTERNAL, "normalizer step %d has no meaning", (int)step->kind);
}

cdp_status cdp_normalizer_run(const cdp_normalizer *normalizer, cdp_text text, cdp_regex_work *work,
                              cdp_normal_text *out) {
    *out = (cdp_normal_text){.text = text};
    for (int i = 0; i < normalizer->n_steps; i++) {
        cdp_normal_text next = {.text.is_beginning = out->text.is_beginning};
        cdp_bytes_add(&next.bytes, "", 0);
        cdp_bytes_add(&next.foreign, "", 0);
        cdp_status st = run_step(&normalizer->steps[i], out->text, work, &next);
        if (st == CDP_OK && (next.bytes.is_failed || next.foreign.is_failed))
            st = cdp_fail(CDP_SYSTEM, "no memory to normalise %zu bytes", text.n);
        next.text.data = next.bytes.data;
        next.text.n = next.bytes.n;
        next.text.foreign = text.foreign != NULL ? next.foreign.data : NULL;
        cdp_normal_text_free(out);
        *out = next;
        CDP_TRY(st);
    }
    return CDP_OK;
}

void cdp_normal_text_free(cdp_normal_text *text) {
    free(text->bytes.data);
    free(text->foreign.data);
    *text = (cdp_normal_text){0};
}
