/* launcher/text/buffer.h - bytes and ids that grow. A failed growth is remembered, so that a caller can
 * append many times and ask once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct cdp_bytes {
    char *data;
    size_t n, room;
    bool is_failed;
} cdp_bytes;

void cdp_bytes_add(cdp_bytes *b, const void *from, size_t n);

/* Give room that is not used back. */
void cdp_bytes_trim(cdp_bytes *b);

/* For hash tables: the same for the same bytes, in this process. */
uint32_t cdp_hash(const void *bytes, size_t n);

typedef struct cdp_ids {
    int32_t *data;
    size_t n, room;
    bool is_failed;
} cdp_ids;

void cdp_ids_add(cdp_ids *ids, int32_t id);

/* n bytes of valid UTF-8 that somebody else owns, and where they come from. */
typedef struct cdp_text {
    const char *data;
    size_t n;
    const char *foreign; /* (n) 1: this byte may be no part of a special token; NULL: every byte may */
    bool is_beginning;   /* nothing of the whole text lies before it */
} cdp_text;

/* [begin, end) of a text, as a text. */
cdp_text cdp_text_slice(cdp_text text, size_t begin, size_t end);
bool cdp_text_is_foreign(cdp_text text, size_t begin, size_t end);

/* [begin, end) of a text. */
typedef struct cdp_span {
    size_t begin, end;
} cdp_span;

typedef struct cdp_spans {
    cdp_span *data;
    size_t n, room;
    bool is_failed;
} cdp_spans;

void cdp_spans_add(cdp_spans *spans, size_t begin, size_t end);

/* Append all places of a fixed text in text[begin, end), leftmost first, not overlapping. n_from > 0. */
void cdp_find_fixed(const char *from, size_t n_from, const char *text, size_t begin, size_t end,
                    cdp_spans *out);
