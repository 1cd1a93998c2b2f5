#include "launcher/template/text.h"

#include <string.h>

#include "launcher/text/utf8.h"

size_t tpl_text_next(tpl_value text, size_t at) {
    const unsigned char first = (unsigned char)text.bytes[at];
    return at + (first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4);
}

size_t tpl_text_before(tpl_value text, size_t at) {
    return cdp_utf8_before((const unsigned char *)text.bytes, at);
}

uint32_t tpl_text_code(tpl_value text, size_t at) {
    uint32_t code = 0;
    size_t length;
    cdp_utf8_next((const unsigned char *)text.bytes + at, text.n - at, &length, &code);
    return code;
}

size_t tpl_text_length(tpl_machine *m, tpl_value text) {
    size_t n = 0;
    tpl_step(m, text.n / 64);
    for (size_t i = 0; i < text.n; i++)
        n += ((unsigned char)text.bytes[i] & 0xC0) != 0x80;
    return n;
}

size_t tpl_text_offset(tpl_value text, size_t character) {
    size_t at = 0;
    while (character > 0 && at < text.n) {
        at = tpl_text_next(text, at);
        character--;
    }
    return at;
}

tpl_value tpl_text_slice(tpl_value text, size_t begin, size_t end) {
    text.bytes += begin;
    text.n = end - begin;
    if (text.marks != NULL)
        text.marks += begin;
    return text;
}

size_t tpl_text_find(tpl_value text, tpl_value what, size_t from) {
    if (from > text.n)
        return SIZE_MAX;
    if (what.n == 0)
        return from;
    const char *found = memmem(text.bytes + from, text.n - from, what.bytes, what.n);
    return found != NULL ? (size_t)(found - text.bytes) : SIZE_MAX;
}

size_t tpl_text_rfind(tpl_value text, tpl_value what, size_t until) {
    if (what.n > text.n)
        return SIZE_MAX;
    for (size_t at = (until < text.n - what.n ? until : text.n - what.n) + 1; at-- > 0;)
        if (memcmp(text.bytes + at, what.bytes, what.n) == 0)
            return at;
    return SIZE_MAX;
}

bool tpl_is_space(uint32_t code) {
    return cdp_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

bool tpl_is_own_at(tpl_value text, size_t at) {
    return text.marks != NULL ? text.marks[at] != 0 : text.is_own;
}

static void grow(tpl_builder *b, size_t n) {
    if (n > TPL_MAX_OUTPUT || b->n + n > TPL_MAX_OUTPUT)
        tpl_fail(b->m, "a text of more than %d MiB", TPL_MAX_OUTPUT >> 20);
    tpl_step(b->m, n / 64);
    if (b->n + n <= b->room)
        return;
    b->room = (b->n + n) * 2 + 32;
    char *bytes = tpl_take(b->m, b->room);
    if (b->n > 0)
        memcpy(bytes, b->bytes, b->n);
    b->bytes = bytes;
    if (b->marks != NULL) {
        unsigned char *marks = tpl_take(b->m, b->room);
        memcpy(marks, b->marks, b->n);
        b->marks = marks;
    }
}

/* From now on each byte has its own mark. */
static void mix(tpl_builder *b) {
    if (b->marks != NULL)
        return;
    b->marks = tpl_take(b->m, b->room);
    memset(b->marks, b->is_own, b->n);
}

void tpl_add_bytes(tpl_builder *b, const char *bytes, size_t n, bool is_own) {
    if (n == 0)
        return;
    grow(b, n);
    if (b->n == 0 && b->marks == NULL)
        b->is_own = is_own;
    if (is_own != b->is_own)
        mix(b);
    if (b->marks != NULL)
        memset(b->marks + b->n, is_own, n);
    memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
}

void tpl_add_text(tpl_builder *b, tpl_value text) {
    if (text.marks == NULL) {
        tpl_add_bytes(b, text.bytes, text.n, text.is_own);
        return;
    }
    if (text.n == 0)
        return;
    grow(b, text.n);
    mix(b);
    memcpy(b->marks + b->n, text.marks, text.n);
    memcpy(b->bytes + b->n, text.bytes, text.n);
    b->n += text.n;
}

void tpl_add_slice(tpl_builder *b, tpl_value text, size_t begin, size_t end) {
    tpl_add_text(b, tpl_text_slice(text, begin, end));
}

void tpl_add_word(tpl_builder *b, const char *word, bool is_own) {
    tpl_add_bytes(b, word, strlen(word), is_own);
}

void tpl_add_code(tpl_builder *b, uint32_t code, bool is_own) {
    char utf8[4];
    size_t n = 0;
    if (code < 0x80) {
        utf8[n++] = (char)code;
    } else if (code < 0x800) {
        utf8[n++] = (char)(0xC0 | code >> 6);
    } else if (code < 0x10000) {
        utf8[n++] = (char)(0xE0 | code >> 12);
        utf8[n++] = (char)(0x80 | (code >> 6 & 0x3F));
    } else {
        utf8[n++] = (char)(0xF0 | code >> 18);
        utf8[n++] = (char)(0x80 | (code >> 12 & 0x3F));
        utf8[n++] = (char)(0x80 | (code >> 6 & 0x3F));
    }
    if (code >= 0x80)
        utf8[n++] = (char)(0x80 | (code & 0x3F));
    tpl_add_bytes(b, utf8, n, is_own);
}

void tpl_add_repeated(tpl_builder *b, tpl_value fill, size_t n) {
    if (n > 0 && fill.n > TPL_MAX_OUTPUT / n)
        tpl_fail(b->m, "a text of more than %d MiB", TPL_MAX_OUTPUT >> 20);
    for (size_t i = 0; i < n && fill.n > 0; i++)
        tpl_add_text(b, fill);
}

tpl_value tpl_built(const tpl_builder *b) {
    return (tpl_value){.kind = TPL_TEXT,
                       .is_own = b->n == 0 || b->is_own,
                       .bytes = b->bytes != NULL ? b->bytes : "",
                       .n = b->n,
                       .marks = b->marks};
}

tpl_value tpl_escape(tpl_machine *m, tpl_value text) {
    tpl_builder b = tpl_builder_of(m);
    if (text.is_safe)
        return text;
    for (size_t i = 0; i < text.n; i++) {
        const char *entity = text.bytes[i] == '&'    ? "&amp;"
                             : text.bytes[i] == '<'  ? "&lt;"
                             : text.bytes[i] == '>'  ? "&gt;"
                             : text.bytes[i] == '"'  ? "&#34;"
                             : text.bytes[i] == '\'' ? "&#39;"
                                                     : NULL;
        if (entity != NULL)
            tpl_add_word(&b, entity, tpl_is_own_at(text, i));
        else
            tpl_add_bytes(&b, text.bytes + i, 1, tpl_is_own_at(text, i));
    }
    tpl_value safe = tpl_built(&b);
    safe.is_safe = true;
    return safe;
}
