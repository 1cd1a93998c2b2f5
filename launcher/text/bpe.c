#include "launcher/text/bpe.h"

#include "launcher/text/merge.h"
#include "launcher/text/utf8.h"

/* Printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 and on. */
static bool is_own_char(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

static uint32_t byte_code(int byte) {
    if (is_own_char(byte))
        return (uint32_t)byte;
    uint32_t code = 256;
    for (int b = 0; b < byte; b++)
        code += !is_own_char(b);
    return code;
}

size_t cdp_byte_char(unsigned char byte, char out[2]) {
    const uint32_t code = byte_code(byte);
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xC0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3F));
    return 2;
}

/* 0 to 32, 127 to 160, 173: in the order of U+0100 and on. */
int cdp_char_byte(uint32_t code) {
    if (code < 256)
        return is_own_char((int)code) ? (int)code : -1;
    if (code < 256 + 33)
        return (int)code - 256;
    if (code < 256 + 33 + 34)
        return (int)code - 256 - 33 + 127;
    return code == 256 + 33 + 34 ? 173 : -1;
}

/* A table of so many slots with the merges that are there. */
static cdp_status make_table(cdp_bpe *bpe, uint32_t n_slots) {
    cdp_merge *old = bpe->table;
    const uint32_t n_old = bpe->n_slots;
    cdp_merge *table = malloc(n_slots * sizeof *table);
    if (table == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %u merges", n_slots / 2);
    memset(table, 0xFF, n_slots * sizeof *table); /* all slots free */
    bpe->table = table;
    bpe->n_slots = n_slots;
    for (uint32_t i = 0; i < n_old; i++)
        if (old[i].pair != CDP_FREE_SLOT)
            table[cdp_merge_slot(bpe, (int32_t)(old[i].pair >> 32), (int32_t)(uint32_t)old[i].pair)] = old[i];
    free(old);
    return CDP_OK;
}

static int32_t find_fallback(const cdp_vocabulary *vocabulary, int byte) {
    static const char digits[] = "0123456789ABCDEF";
    const char text[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
    return cdp_vocabulary_find(vocabulary, text, sizeof text);
}

cdp_status cdp_bpe_open(cdp_bpe *out, const cdp_vocabulary *vocabulary, bool is_byte_level) {
    *out = (cdp_bpe){.vocabulary = vocabulary, .is_byte_level = is_byte_level, .unknown_id = -1};
    CDP_TRY(make_table(out, 256));
    out->borders = calloc(CDP_BORDER_BITS / 8, 1);
    if (out->borders == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for merges");
    for (int byte = 0; byte < 256; byte++) {
        const char ascii = (char)byte;
        out->byte_lengths[byte] = (unsigned char)cdp_byte_char((unsigned char)byte, out->byte_chars[byte]);
        out->byte_ids[byte] =
            is_byte_level ? cdp_vocabulary_find(vocabulary, out->byte_chars[byte], out->byte_lengths[byte])
            : byte < 0x80 ? cdp_vocabulary_find(vocabulary, &ascii, 1)
                          : -1;
        out->fallback_ids[byte] = find_fallback(vocabulary, byte);
    }
    for (int32_t id = 0; id < vocabulary->n_tokens; id++)
        out->longest = vocabulary->tokens[id].n > out->longest ? vocabulary->tokens[id].n : out->longest;
    return CDP_OK;
}

void cdp_bpe_close(cdp_bpe *bpe) {
    free(bpe->table);
    free(bpe->borders);
    *bpe = (cdp_bpe){0};
}

static uint32_t border_of(uint32_t last, uint32_t first) {
    return (last * 0x9E3779B1u ^ first * 0x85EBCA77u) >> 12; /* 20 bits */
}

static bool may_cross(const cdp_bpe *bpe, uint32_t last, uint32_t first) {
    const uint32_t bit = border_of(last, first);
    return (bpe->borders[bit / 8] >> bit % 8 & 1) != 0;
}

/* What stands at an end of a text of the vocabulary, in the units of symbols: a byte, or a character. */
static uint32_t unit_at(const cdp_bpe *bpe, const char *text, size_t begin, size_t n) {
    size_t length;
    uint32_t code;
    cdp_utf8_next((const unsigned char *)text + begin, n - begin, &length, &code);
    return bpe->is_byte_level ? (uint32_t)cdp_char_byte(code) : code;
}

cdp_status cdp_bpe_add(cdp_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t product) {
    size_t n_left, n_right;
    const char *a = cdp_vocabulary_text(bpe->vocabulary, left, &n_left),
               *b = cdp_vocabulary_text(bpe->vocabulary, right, &n_right);
    const size_t last = cdp_utf8_before((const unsigned char *)a, n_left);
    const uint32_t bit = border_of(unit_at(bpe, a, last, n_left), unit_at(bpe, b, 0, n_right));
    bpe->borders[bit / 8] |= (unsigned char)(1u << bit % 8);
    if (2 * ++bpe->n_merges > bpe->n_slots)
        CDP_TRY(make_table(bpe, 2 * bpe->n_slots));
    bpe->table[cdp_merge_slot(bpe, left, right)] =
        (cdp_merge){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, product};
    return CDP_OK;
}

/* The id of one character, -1 when it is unknown. */
static int32_t char_id(const cdp_bpe *bpe, const char *text, size_t n) {
    return n == 1 ? bpe->byte_ids[(unsigned char)text[0]] : cdp_vocabulary_find(bpe->vocabulary, text, n);
}

/* Room for n ids in work->ids. */
static bool make_room(cdp_bpe_work *w, size_t n) {
    if (n <= w->room)
        return true;
    free(w->ids);
    w->ids = malloc((n + 256) * sizeof *w->ids);
    w->room = w->ids != NULL ? n + 256 : 0;
    return w->ids != NULL;
}

/* The ids of an unknown character's bytes; false when one has none. */
static bool fall_back(const cdp_bpe *bpe, const unsigned char *bytes, size_t n, int32_t *ids, size_t *count) {
    for (size_t i = 0; i < n; i++)
        if (!bpe->falls_back || bpe->fallback_ids[bytes[i]] < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        ids[(*count)++] = bpe->fallback_ids[bytes[i]];
    return true;
}

/* One symbol a character. An unknown id waits until a known character, or the end, shows how far its run
 * goes; as in the reference the bytes of a character that falls back do not end it. */
static size_t split_chars(const cdp_bpe *bpe, const char *text, size_t n, int32_t *ids) {
    size_t count = 0;
    bool has_unknown = false;
    for (size_t at = 0, length; at < n; at += length) {
        uint32_t code;
        cdp_utf8_next((const unsigned char *)text + at, n - at, &length, &code);
        const int32_t id = char_id(bpe, text + at, length);
        if (id < 0 && fall_back(bpe, (const unsigned char *)text + at, length, ids, &count))
            continue;
        if (has_unknown && (id >= 0 || !bpe->fuses_unknown)) {
            ids[count++] = bpe->unknown_id;
            has_unknown = false;
        }
        if (id >= 0)
            ids[count++] = id;
        else
            has_unknown = bpe->unknown_id >= 0;
    }
    if (has_unknown)
        ids[count++] = bpe->unknown_id;
    return count;
}

/* One symbol a byte; bytes without a token are dropped, as the reference does. */
static size_t split_bytes(const cdp_bpe *bpe, const char *text, size_t n, int32_t *ids) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        ids[count] = bpe->byte_ids[(unsigned char)text[i]];
        count += ids[count] >= 0;
    }
    return count;
}

/* Where the part that begins at `begin` may end: no merge crosses, and no unknown character is at hand (a run
 * of those is one id). */
static size_t part_end(const cdp_bpe *bpe, const char *text, size_t n, size_t begin) {
    const unsigned char *s = (const unsigned char *)text;
    if (bpe->is_byte_level) {
        size_t at = begin + 1;
        while (at < n && may_cross(bpe, s[at - 1], s[at]))
            at++;
        return at;
    }
    size_t before = begin, length, next_length;
    uint32_t code, next;
    cdp_utf8_next(s + begin, n - begin, &length, &code);
    for (size_t at = begin + length; at < n; at += length) {
        cdp_utf8_next(s + at, n - at, &next_length, &next);
        if (!may_cross(bpe, code, next) && char_id(bpe, text + before, length) >= 0 &&
            char_id(bpe, text + at, next_length) >= 0)
            return at;
        before = at;
        length = next_length;
        code = next;
    }
    return n;
}

/* The id of the whole piece, where the vocabulary has it. */
static int32_t whole_piece(const cdp_bpe *bpe, cdp_bpe_work *w, const char *piece, size_t n) {
    if (n > bpe->longest)
        return -1;
    if (!bpe->is_byte_level)
        return cdp_vocabulary_find(bpe->vocabulary, piece, n);
    w->whole.n = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)piece[i];
        cdp_bytes_add(&w->whole, bpe->byte_chars[byte], bpe->byte_lengths[byte]);
    }
    return w->whole.is_failed ? -1 : cdp_vocabulary_find(bpe->vocabulary, w->whole.data, w->whole.n);
}

static cdp_status merge_part(const cdp_bpe *bpe, cdp_bpe_work *w, const char *text, size_t n, cdp_ids *ids) {
    const int64_t count = !make_room(w, n)
                              ? -1
                              : cdp_merge_ids(bpe, w,
                                              bpe->is_byte_level ? split_bytes(bpe, text, n, w->ids)
                                                                 : split_chars(bpe, text, n, w->ids));
    for (int64_t i = 0; i < count; i++)
        cdp_ids_add(ids, w->ids[i]);
    return count >= 0 && !ids->is_failed ? CDP_OK
                                         : cdp_fail(CDP_SYSTEM, "no memory to tokenize %zu bytes", n);
}

/* Words come again and again: a place for each, the last one that fell there is kept. */
enum { CACHE_TEXT = 30, CACHE_IDS = 8, CACHE_SIZE = 8192 };
typedef struct cdp_cached_piece {
    char text[CACHE_TEXT];
    unsigned char n, n_ids;
    int32_t ids[CACHE_IDS];
} cdp_cached_piece;

static cdp_cached_piece *cache_place(cdp_bpe_work *w, const char *text, size_t n) {
    if (!w->has_cache || n > CACHE_TEXT)
        return NULL;
    if (w->cache == NULL)
        w->cache = calloc(CACHE_SIZE, sizeof *w->cache);
    return w->cache != NULL ? &w->cache[cdp_hash(text, n) % CACHE_SIZE] : NULL;
}

/* A piece, or where is_part a part of one: the latter is never taken whole. */
static cdp_status encode_cached(const cdp_bpe *bpe, cdp_bpe_work *w, const char *text, size_t n, bool is_part,
                                cdp_ids *ids) {
    cdp_cached_piece *place = is_part && bpe->ignores_merges ? NULL : cache_place(w, text, n);
    if (place != NULL && place->n == n && memcmp(place->text, text, n) == 0) {
        for (int i = 0; i < place->n_ids; i++)
            cdp_ids_add(ids, place->ids[i]);
        return CDP_OK;
    }
    const size_t n_before = ids->n;
    const int32_t whole = bpe->ignores_merges && !is_part ? whole_piece(bpe, w, text, n) : -1;
    if (whole >= 0)
        cdp_ids_add(ids, whole);
    else
        CDP_TRY(merge_part(bpe, w, text, n, ids));
    if (place != NULL && ids->n - n_before <= CACHE_IDS && !ids->is_failed) {
        place->n = (unsigned char)n;
        place->n_ids = (unsigned char)(ids->n - n_before);
        memcpy(place->text, text, n);
        for (size_t i = 0; i < place->n_ids; i++)
            place->ids[i] = ids->data[n_before + i];
    }
    return CDP_OK;
}

cdp_status cdp_bpe_encode(const cdp_bpe *bpe, cdp_bpe_work *w, const char *piece, size_t n, cdp_ids *ids) {
    if (n <= CACHE_TEXT)
        return encode_cached(bpe, w, piece, n, false, ids);
    const int32_t whole = bpe->ignores_merges ? whole_piece(bpe, w, piece, n) : -1;
    if (whole >= 0) {
        cdp_ids_add(ids, whole);
        return CDP_OK;
    }
    for (size_t at = 0, end; at < n; at = end) {
        end = part_end(bpe, piece, n, at);
        CDP_TRY(encode_cached(bpe, w, piece + at, end - at, true, ids));
    }
    return CDP_OK;
}

void cdp_bpe_work_free(cdp_bpe_work *w) {
    free(w->cache);
    free(w->symbols);
    cdp_pair_queue_free(&w->queue);
    free(w->ids);
    free(w->whole.data);
    *w = (cdp_bpe_work){0};
}
