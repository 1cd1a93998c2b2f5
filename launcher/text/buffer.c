#include "launcher/text/buffer.h"

void cdp_bytes_add(cdp_bytes *b, const void *from, size_t n) {
    if (b->n + n + 1 > b->room) {
        const size_t room = 2 * (b->n + n) + 64;
        char *grown = realloc(b->data, room);
        if (grown == NULL) {
            b->is_failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    if (n > 0)
        memcpy(b->data + b->n, from, n);
    b->n += n;
    b->data[b->n] = '\0';
}

void cdp_bytes_trim(cdp_bytes *b) {
    char *fitting = b->data != NULL ? realloc(b->data, b->n + 1) : NULL;
    if (fitting != NULL) {
        b->data = fitting;
        b->room = b->n + 1;
    }
}

uint32_t cdp_hash(const void *bytes, size_t n) {
    const unsigned char *at = bytes;
    uint64_t hash = n * UINT64_C(0x9E3779B97F4A7C15), word = 0;
    for (; n >= 8; n -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    word = 0;
    if (n > 0)
        memcpy(&word, at, n);
    hash = (hash ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
    hash ^= hash >> 32;
    return (uint32_t)(hash * UINT64_C(0x94D049BB133111EB) >> 32);
}

void cdp_ids_add(cdp_ids *ids, int32_t id) {
    if (ids->n == ids->room) {
        const size_t room = 2 * ids->room + 64;
        int32_t *grown = realloc(ids->data, room * sizeof *grown);
        if (grown == NULL) {
            ids->is_failed = true;
            return;
        }
        ids->data = grown;
        ids->room = room;
    }
    ids->data[ids->n++] = id;
}

void cdp_spans_add(cdp_spans *spans, size_t begin, size_t end) {
    if (spans->n == spans->room) {
        const size_t room = 2 * spans->room + 64;
        cdp_span *grown = realloc(spans->data, room * sizeof *grown);
        if (grown == NULL) {
            spans->is_failed = true;
            return;
        }
        spans->data = grown;
        spans->room = room;
    }
    spans->data[spans->n++] = (cdp_span){begin, end};
}

cdp_text cdp_text_slice(cdp_text text, size_t begin, size_t end) {
    return (cdp_text){text.data + begin, end - begin, text.foreign != NULL ? text.foreign + begin : NULL,
                      text.is_beginning && begin == 0};
}

bool cdp_text_is_foreign(cdp_text text, size_t begin, size_t end) {
    return text.foreign != NULL && memchr(text.foreign + begin, 1, end - begin) != NULL;
}

void cdp_find_fixed(const char *from, size_t n_from, const char *text, size_t begin, size_t end,
                    cdp_spans *out) {
    for (const char *at; begin < end; begin = (size_t)(at - text) + n_from) {
        at = memmem(text + begin, end - begin, from, n_from);
        if (at == NULL)
            return;
        cdp_spans_add(out, (size_t)(at - text), (size_t)(at - text) + n_from);
    }
}
