/* The step header as bytes. The encoder trusts its step; the decoder trusts no word. */
#include "comm/packet.h"

#include <stdlib.h>
#include <string.h>

enum {
    PACKET_VERSION = 2,
    HEAD_WORDS = 9, /* version, id low, id high, kind, n_rows, n_home, n_slots, n_commands, n_tap_words */
    ROW_WORDS = 4,
    SLOT_WORDS = 2, /* and the tap words of the step */
    COMMAND_WORDS = 6,
    WORD_BYTES = 4,
};

/* Words the packet has for such counts. */
static size_t count_words(int n_rows, int n_slots, int n_commands, int n_tap_words) {
    return HEAD_WORDS + (size_t)n_rows * ROW_WORDS + (size_t)n_slots * (size_t)(SLOT_WORDS + n_tap_words) +
           (size_t)n_commands * COMMAND_WORDS;
}

/* Tap words of a step under these limits, where it has any. */
static int limit_tap_words(const cdp_packet_limits *limits) {
    return limits->max_taps > 0 ? cdp_tap_words(limits->n_layers) : 0;
}

size_t cdp_packet_max_bytes(const cdp_packet_limits *limits) {
    return WORD_BYTES *
           count_words(limits->max_rows, limits->max_slots, limits->max_commands, limit_tap_words(limits));
}

/* Encoding --------------------------------------------------------------------------------------------- */

static void put(unsigned char **at, int32_t value) {
    const uint32_t word = (uint32_t)value;
    for (int i = 0; i < WORD_BYTES; i++)
        *(*at)++ = (unsigned char)(word >> (8 * i));
}

/* Fields that a verb does not use are zero on the wire, whatever the struct held. */
static void put_command(unsigned char **at, const cdp_kv_command *c) {
    const bool is_copy = c->verb == CDP_KV_COPY;
    put(at, c->verb);
    put(at, c->group);
    put(at, is_copy ? 0 : c->slot);
    put(at, is_copy ? 0 : c->index);
    put(at, c->block);
    put(at, is_copy ? c->from : 0);
}

size_t cdp_packet_encode(void *out, const cdp_step *step) {
    unsigned char *at = out;
    put(&at, PACKET_VERSION);
    put(&at, (int32_t)(uint32_t)(step->id & 0xFFFFFFFFu));
    put(&at, (int32_t)(uint32_t)(step->id >> 32));
    put(&at, step->kind);
    put(&at, step->n_rows);
    put(&at, step->n_home);
    put(&at, step->n_slots);
    put(&at, step->n_commands);
    put(&at, step->n_tap_words);
    for (int i = 0; i < step->n_rows; i++) {
        put(&at, step->rows[i].slot);
        put(&at, step->rows[i].position);
        put(&at, step->rows[i].token);
        put(&at, step->rows[i].wants_home);
    }
    for (int i = 0; i < step->n_slots; i++) {
        put(&at, step->slots[i].slot);
        put(&at, step->slots[i].rope_list);
        for (int w = 0; w < step->n_tap_words; w++)
            put(&at, (int32_t)step->slots[i].taps.words[w]);
    }
    for (int i = 0; i < step->n_commands; i++)
        put_command(&at, &step->commands[i]);
    return (size_t)(at - (unsigned char *)out);
}

/* Decoding --------------------------------------------------------------------------------------------- */

typedef struct reader {
    const unsigned char *at;
    const char *section; /* "head", "row", "slot", "command" */
    int index;           /* of the row, slot or command */
} reader;

static int32_t take_any(reader *r) {
    uint32_t word = 0;
    for (int i = 0; i < WORD_BYTES; i++)
        word |= (uint32_t)r->at[i] << (8 * i);
    r->at += WORD_BYTES;
    return (int32_t)word;
}

/* The next word, which must lie in 0 .. count - 1. */
static cdp_status take(reader *r, const char *field, int count, int32_t *out) {
    const int32_t value = take_any(r);
    if (value < 0 || value >= count)
        return cdp_fail(CDP_INTERNAL, "step packet, %s %d: %s is %d, allowed 0 to %d", r->section, r->index,
                        field, value, count - 1);
    *out = value;
    return CDP_OK;
}

static cdp_status take_head(reader *r, cdp_step *step, const cdp_packet_limits *limits) {
    const int32_t version = take_any(r);
    if (version != PACKET_VERSION)
        return cdp_fail(CDP_INTERNAL, "step packet: version %d, expected %d", version, PACKET_VERSION);
    const uint32_t id_low = (uint32_t)take_any(r);
    const uint32_t id_high = (uint32_t)take_any(r);
    step->id = (uint64_t)id_high << 32 | id_low;
    CDP_TRY(take(r, "kind", CDP_STEP_STOP + 1, &step->kind));
    CDP_TRY(take(r, "n_rows", limits->max_rows + 1, &step->n_rows));
    CDP_TRY(take(r, "n_home", step->n_rows + 1, &step->n_home));
    CDP_TRY(take(r, "n_slots", limits->max_slots + 1, &step->n_slots));
    CDP_TRY(take(r, "n_commands", limits->max_commands + 1, &step->n_commands));
    const int n_tap_words = limit_tap_words(limits);
    CDP_TRY(take(r, "n_tap_words", n_tap_words + 1, &step->n_tap_words));
    if (step->n_tap_words != 0 && step->n_tap_words != n_tap_words)
        return cdp_fail(CDP_INTERNAL, "step packet, head 0: n_tap_words is %d, allowed 0 and %d",
                        step->n_tap_words, n_tap_words);
    return CDP_OK;
}

static cdp_status take_row(reader *r, cdp_row *row, const cdp_packet_limits *limits) {
    CDP_TRY(take(r, "slot", limits->max_slots, &row->slot));
    CDP_TRY(take(r, "position", limits->ctx, &row->position));
    CDP_TRY(take(r, "token", INT32_MAX, &row->token)); /* only rank 0 knows the vocabulary */
    return take(r, "wants_home", 2, &row->wants_home);
}

/* A slot's tap set: words of the model's states, the rest of the set zero. */
static cdp_status take_taps(reader *r, cdp_step_slot *slot, int n_words, const cdp_packet_limits *limits) {
    slot->head = 0; /* rank 0 keeps that to itself */
    for (int w = 0; w < CDP_TAP_WORDS; w++)
        slot->taps.words[w] = w < n_words ? (uint32_t)take_any(r) : 0;
    for (int state = limits->n_layers; state < 32 * n_words; state++)
        if (cdp_taps_has(&slot->taps, state))
            return cdp_fail(CDP_INTERNAL, "step packet, slot %d: state %d is tapped, allowed 0 to %d",
                            r->index, state, limits->n_layers - 1);
    return CDP_OK;
}

static cdp_status take_command(reader *r, cdp_kv_command *c, const cdp_packet_limits *limits) {
    CDP_TRY(take(r, "verb", CDP_N_KV_VERBS, &c->verb));
    const bool is_copy = c->verb == CDP_KV_COPY;
    CDP_TRY(take(r, "group", 1, &c->group));
    CDP_TRY(take(r, "slot", is_copy ? 1 : limits->max_slots, &c->slot));
    CDP_TRY(take(r, "index", is_copy ? 1 : limits->max_blocks, &c->index));
    CDP_TRY(take(r, "block", limits->n_blocks, &c->block));
    return take(r, "from", is_copy ? limits->n_blocks : 1, &c->from);
}

static cdp_status take_lists(reader *r, cdp_step *step, const cdp_packet_limits *limits) {
    int n_home = 0;
    r->section = "row";
    for (r->index = 0; r->index < step->n_rows; r->index++) {
        CDP_TRY(take_row(r, &step->rows[r->index], limits));
        n_home += step->rows[r->index].wants_home;
    }
    if (n_home != step->n_home)
        return cdp_fail(CDP_INTERNAL, "step packet: n_home is %d, but %d rows want home", step->n_home,
                        n_home);
    r->section = "slot";
    for (r->index = 0; r->index < step->n_slots; r->index++) {
        CDP_TRY(take(r, "slot", limits->max_slots, &step->slots[r->index].slot));
        CDP_TRY(take(r, "rope_list", 2, &step->slots[r->index].rope_list));
        CDP_TRY(take_taps(r, &step->slots[r->index], step->n_tap_words, limits));
    }
    const int n_taps = cdp_step_count_taps(step, 0, limits->n_layers);
    if (n_taps > limits->max_taps)
        return cdp_fail(CDP_INTERNAL, "step packet: %d rows are tapped, allowed %d", n_taps,
                        limits->max_taps);
    r->section = "command";
    for (r->index = 0; r->index < step->n_commands; r->index++)
        CDP_TRY(take_command(r, &step->commands[r->index], limits));
    return CDP_OK;
}

cdp_status cdp_packet_decode(cdp_step *step, const void *bytes, size_t n, const cdp_packet_limits *limits) {
    reader r = {bytes, "head", 0};
    if (n < HEAD_WORDS * WORD_BYTES)
        return cdp_fail(CDP_INTERNAL, "step packet: %zu bytes, expected at least %d", n,
                        HEAD_WORDS * WORD_BYTES);
    CDP_TRY(take_head(&r, step, limits));
    /* The counts are within the limits from here on, so their sum is what cdp_packet_max_bytes allows. */
    const size_t expected =
        WORD_BYTES * count_words(step->n_rows, step->n_slots, step->n_commands, step->n_tap_words);
    if (n != expected)
        return cdp_fail(CDP_INTERNAL, "step packet: %zu bytes, expected %zu", n, expected);
    return take_lists(&r, step, limits);
}

/* Room ------------------------------------------------------------------------------------------------- */

cdp_status cdp_step_alloc(cdp_step *out, const cdp_packet_limits *limits) {
    /* One more of each, so that a limit of 0 is no special case. */
    *out = (cdp_step){.rows = calloc((size_t)limits->max_rows + 1, sizeof *out->rows),
                      .slots = calloc((size_t)limits->max_slots + 1, sizeof *out->slots),
                      .commands = calloc((size_t)limits->max_commands + 1, sizeof *out->commands)};
    if (out->rows != NULL && out->slots != NULL && out->commands != NULL)
        return CDP_OK;
    cdp_step_free(out);
    return cdp_fail(CDP_SYSTEM, "no memory for a step of %d rows", limits->max_rows);
}

void cdp_step_copy(cdp_step *to, const cdp_step *from) {
    to->id = from->id;
    to->kind = from->kind;
    to->n_rows = from->n_rows;
    to->n_home = from->n_home;
    to->n_slots = from->n_slots;
    to->n_commands = from->n_commands;
    to->n_tap_words = from->n_tap_words;
    for (int i = 0; i < from->n_rows; i++)
        to->rows[i] = from->rows[i];
    for (int i = 0; i < from->n_slots; i++)
        to->slots[i] = from->slots[i];
    for (int i = 0; i < from->n_commands; i++)
        to->commands[i] = from->commands[i];
}

void cdp_step_free(cdp_step *step) {
    free(step->rows);
    free(step->slots);
    free(step->commands);
    *step = (cdp_step){0};
}
