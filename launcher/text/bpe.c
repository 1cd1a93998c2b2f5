#include "launcher/text/bpe.h"

#define FREE_SLOT UINT64_MAX

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

int cdp_char_byte(uint32_t code) {
    if (code < 256)
        return is_own_char((int)code) ? (int)code : -1;
    uint32_t left = code - 256;
    for (int byte = 0; byte < 256; byte++)
        if (!is_own_char(byte) && left-- == 0)
            return byte;
    return -1;
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint32_t slot_of(const cdp_bpe *bpe, uint64_t pair) {
    uint32_t slot = (uint32_t)((pair * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (bpe->n_slots - 1);
    while (bpe->table[slot].pair != FREE_SLOT && bpe->table[slot].pair != pair)
        slot = (slot + 1) & (bpe->n_slots - 1);
    return slot;
}

cdp_status cdp_bpe_open(cdp_bpe *out, const cdp_vocabulary *vocabulary, size_t n_merges) {
    *out = (cdp_bpe){.n_slots = 64, .vocabulary = vocabulary};
    while (out->n_slots < 2 * n_merges)
        out->n_slots *= 2;
    out->table = malloc(out->n_slots * sizeof *out->table);
    if (out->table == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %zu merges", n_merges);
    for (uint32_t i = 0; i < out->n_slots; i++)
        out->table[i].pair = FREE_SLOT;
    for (int byte = 0; byte < 256; byte++) {
        out->byte_lengths[byte] = (unsigned char)cdp_byte_char((unsigned char)byte, out->byte_chars[byte]);
        out->byte_ids[byte] = cdp_vocabulary_find(vocabulary, out->byte_chars[byte], out->byte_lengths[byte]);
    }
    return CDP_OK;
}

void cdp_bpe_close(cdp_bpe *bpe) {
    free(bpe->table);
    *bpe = (cdp_bpe){0};
}

void cdp_bpe_add(cdp_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t product) {
    cdp_merge *merge = &bpe->table[slot_of(bpe, pair_of(left, right))];
    *merge = (cdp_merge){pair_of(left, right), rank, product};
}

/* Symbols of a piece as a doubly linked list in an array. */
typedef struct symbol {
    int32_t id;
    int32_t before, after; /* -1: none */
} symbol;

/* A pair that could merge. Stale once one of its symbols has changed: `product` tells. */
typedef struct chance {
    int32_t rank, at, left, right, product;
} chance;

typedef struct work {
    const cdp_bpe *bpe;
    symbol *symbols;
    chance *heap;
    size_t n_heap, room;
} work;

static bool is_sooner(const chance *a, const chance *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static bool push(work *w, int32_t at) {
    const int32_t next = at >= 0 ? w->symbols[at].after : -1;
    if (next < 0)
        return true;
    const cdp_merge *merge = &w->bpe->table[slot_of(w->bpe, pair_of(w->symbols[at].id, w->symbols[next].id))];
    if (merge->pair == FREE_SLOT)
        return true;
    if (w->n_heap == w->room) {
        const size_t room = 2 * w->room + 32;
        chance *grown = realloc(w->heap, room * sizeof *grown);
        if (grown == NULL)
            return false;
        w->heap = grown;
        w->room = room;
    }
    const chance one = {merge->rank, at, w->symbols[at].id, w->symbols[next].id, merge->product};
    size_t i = w->n_heap++;
    for (; i > 0 && is_sooner(&one, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = one;
    return true;
}

static chance pop(work *w) {
    const chance top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child = 1; child < w->n_heap; child = 2 * i + 1) {
        if (child + 1 < w->n_heap && is_sooner(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!is_sooner(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->n_heap > 0)
        w->heap[i] = last;
    return top;
}

static bool merge_all(work *w) {
    while (w->n_heap > 0) {
        const chance c = pop(w);
        symbol *left = &w->symbols[c.at];
        if (left->id != c.left || left->after < 0 || w->symbols[left->after].id != c.right)
            continue; /* stale */
        symbol *right = &w->symbols[left->after];
        left->id = c.product;
        left->after = right->after;
        right->id = -1; /* gone: no chance that names it is valid any more */
        if (left->after >= 0)
            w->symbols[left->after].before = c.at;
        if (!push(w, left->before) || !push(w, c.at))
            return false;
    }
    return true;
}

/* One symbol a byte; bytes without a token are dropped, as the reference does. Returns how many. */
static int32_t split_bytes(const cdp_bpe *bpe, const char *bytes, size_t n, symbol *symbols) {
    int32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t id = bpe->byte_ids[(unsigned char)bytes[i]];
        if (id < 0)
            continue;
        symbols[count] = (symbol){id, count - 1, count + 1};
        count++;
    }
    if (count > 0)
        symbols[count - 1].after = -1;
    return count;
}

/* The id of the whole piece, where the vocabulary has it. */
static int32_t whole_piece(const cdp_bpe *bpe, const char *bytes, size_t n) {
    char text[512] = "";
    size_t used = 0;
    if (n > sizeof text / 2)
        return -1; /* no token of a vocabulary is that long */
    for (size_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)bytes[i];
        text[used++] = bpe->byte_chars[byte][0];
        if (bpe->byte_lengths[byte] == 2)
            text[used++] = bpe->byte_chars[byte][1];
    }
    return cdp_vocabulary_find(bpe->vocabulary, text, used);
}

cdp_status cdp_bpe_encode(const cdp_bpe *bpe, const char *bytes, size_t n, cdp_ids *ids) {
    const int32_t whole = bpe->ignores_merges ? whole_piece(bpe, bytes, n) : -1;
    if (whole >= 0) {
        cdp_ids_add(ids, whole);
        return CDP_OK;
    }
    symbol few[64];
    work w = {.bpe = bpe, .symbols = n <= 64 ? few : malloc(n * sizeof *w.symbols)};
    bool is_good = w.symbols != NULL;
    const int32_t count = is_good ? split_bytes(bpe, bytes, n, w.symbols) : 0;
    for (int32_t i = 0; is_good && i < count; i++)
        is_good = push(&w, i);
    is_good = is_good && merge_all(&w);
    for (int32_t i = count > 0 ? 0 : -1; is_good && i >= 0; i = w.symbols[i].after)
        cdp_ids_add(ids, w.symbols[i].id);
    free(w.heap);
    if (w.symbols != few)
        free(w.symbols);
    return is_good && !ids->is_failed ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory to tokenize %zu bytes", n);
}
