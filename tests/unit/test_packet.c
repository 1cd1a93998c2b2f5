/* The step header: what goes in comes out, and nothing else gets in. */
#include "comm/packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const cdp_packet_limits limits = {.max_rows = 8,
                                         .max_slots = 4,
                                         .max_commands = 6,
                                         .max_blocks = 5,
                                         .n_blocks = 9,
                                         .ctx = 80,
                                         .n_layers = 40,
                                         .max_taps = 80};

static cdp_row rows[] = {{0, 0, 17, 0}, {0, 1, 0, 1}, {3, 79, 151935, 1}, {2, 5, 2147483646, 0}};
/* Slots 0 and 3 have a home row each; slot 2 has none, so nothing of it is tapped. */
static cdp_step_slot slots[] = {{.slot = 0, .taps = {{1u << 31 | 1u, 1u << 7}}},
                                {.slot = 3, .rope_list = 1, .taps = {{6u, 0}}},
                                {.slot = 2, .taps = {{0xFFFFFFFFu, 0}}}};
static cdp_kv_command commands[] = {
    {CDP_KV_APPEND, 0, 3, 4, 8, 0}, {CDP_KV_COPY, 0, 0, 0, 2, 7}, {CDP_KV_COPY, 0, 0, 0, 0, 0}};
static const cdp_step sample = {.id = 0x123456789ABCDEFu,
                                .kind = CDP_STEP_RUN,
                                .n_rows = 4,
                                .n_home = 2,
                                .n_slots = 3,
                                .n_commands = 3,
                                .n_tap_words = 2,
                                .rows = rows,
                                .slots = slots,
                                .commands = commands};

/* Allowed values of each word of the sample's packet, written down independently of the decoder; words that
 * may be anything have low = INT32_MIN. Counts may not change at all, as the length would not fit. */
typedef struct range {
    int32_t low, high;
} range;
static const range allowed[] = {
    /* version, id, id, kind, n_rows, n_home, n_slots, n_commands, n_tap_words */
    {2, 2},
    {INT32_MIN, INT32_MAX},
    {INT32_MIN, INT32_MAX},
    {0, 2},
    {4, 4},
    {2, 2},
    {3, 3},
    {3, 3},
    {2, 2},
    /* rows: slot, position, token, wants_home (which may not change alone) */
    {0, 3},
    {0, 79},
    {0, INT32_MAX - 1},
    {0, 0},
    {0, 3},
    {0, 79},
    {0, INT32_MAX - 1},
    {1, 1},
    {0, 3},
    {0, 79},
    {0, INT32_MAX - 1},
    {1, 1},
    {0, 3},
    {0, 79},
    {0, INT32_MAX - 1},
    {0, 0},
    /* slots: slot, rope_list, two tap words: of the second, the first 8 bits are states */
    {0, 3},
    {0, 1},
    {INT32_MIN, INT32_MAX},
    {0, 255},
    {0, 3},
    {0, 1},
    {INT32_MIN, INT32_MAX},
    {0, 255},
    {0, 3},
    {0, 1},
    {INT32_MIN, INT32_MAX},
    {0, 255},
    /* append: verb (a copy has no slot), group, slot, index, block, from */
    {0, 0},
    {0, 0},
    {0, 3},
    {0, 4},
    {0, 8},
    {0, 0},
    /* copy: verb, group, -, -, block, from */
    {1, 1},
    {0, 0},
    {0, 0},
    {0, 0},
    {0, 8},
    {0, 8},
    /* copy: verb (with zeros it could be any), group, -, -, block, from */
    {0, 1},
    {0, 0},
    {0, 0},
    {0, 0},
    {0, 8},
    {0, 8},
};
enum { N_WORDS = sizeof allowed / sizeof *allowed };

static cdp_status decode(const void *bytes, size_t n) {
    cdp_step step;
    assert_int_equal(cdp_step_alloc(&step, &limits), CDP_OK);
    /* Memory of exactly this size, so that a sanitizer sees a read behind it. */
    unsigned char *exact = malloc(n > 0 ? n : 1);
    memcpy(exact, bytes, n);
    const cdp_status st = cdp_packet_decode(&step, exact, n, &limits);
    free(exact);
    cdp_step_free(&step);
    if (st != CDP_OK)
        assert_string_not_equal(cdp_error_message(), "");
    cdp_error_clear();
    return st;
}

static void encode_sample(unsigned char *bytes) {
    assert_true(4 * N_WORDS <= cdp_packet_max_bytes(&limits));
    assert_int_equal(cdp_packet_encode(bytes, &sample), 4 * N_WORDS);
}

static void comes_back_as_it_went(void **state) {
    (void)state;
    unsigned char bytes[1024];
    encode_sample(bytes);
    cdp_step step;
    assert_int_equal(cdp_step_alloc(&step, &limits), CDP_OK);
    assert_int_equal(cdp_packet_decode(&step, bytes, 4 * N_WORDS, &limits), CDP_OK);
    assert_true(step.id == sample.id);
    assert_int_equal(step.kind, sample.kind);
    assert_int_equal(step.n_rows, sample.n_rows);
    assert_int_equal(step.n_home, sample.n_home);
    assert_int_equal(step.n_slots, sample.n_slots);
    assert_int_equal(step.n_commands, sample.n_commands);
    assert_memory_equal(step.rows, rows, sizeof rows);
    assert_int_equal(step.n_tap_words, sample.n_tap_words);
    assert_memory_equal(step.slots, slots, sizeof slots);
    assert_memory_equal(step.commands, commands, sizeof commands);
    cdp_step_free(&step);
}

static void is_little_endian(void **state) {
    (void)state;
    unsigned char bytes[1024];
    encode_sample(bytes);
    static const unsigned char head[] = {2, 0, 0, 0, 0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01};
    assert_memory_equal(bytes, head, sizeof head);
}

static void stop_is_a_step_without_rows(void **state) {
    (void)state;
    unsigned char bytes[1024];
    const cdp_step stop = {.id = 7, .kind = CDP_STEP_STOP};
    cdp_step step;
    assert_int_equal(cdp_step_alloc(&step, &limits), CDP_OK);
    const size_t n = cdp_packet_encode(bytes, &stop);
    assert_int_equal(cdp_packet_decode(&step, bytes, n, &limits), CDP_OK);
    assert_int_equal(step.kind, CDP_STEP_STOP);
    assert_int_equal(step.n_rows, 0);
    cdp_step_free(&step);
}

static void largest_step_fits_its_room(void **state) {
    (void)state;
    cdp_step step;
    assert_int_equal(cdp_step_alloc(&step, &limits), CDP_OK);
    step.n_rows = limits.max_rows;
    step.n_slots = limits.max_slots;
    step.n_commands = limits.max_commands;
    step.n_tap_words = 2;
    const size_t room = cdp_packet_max_bytes(&limits);
    unsigned char *bytes = malloc(room);
    assert_int_equal(cdp_packet_encode(bytes, &step), room);
    assert_int_equal(decode(bytes, room), CDP_OK);
    free(bytes);
    cdp_step_free(&step);
}

static void one_more_than_the_limit_is_refused(void **state) {
    (void)state;
    cdp_packet_limits wider = limits;
    for (int which = 0; which < 3; which++) {
        wider = limits;
        cdp_step step;
        int *const max[] = {&wider.max_rows, &wider.max_slots, &wider.max_commands};
        (*max[which])++;
        assert_int_equal(cdp_step_alloc(&step, &wider), CDP_OK);
        int32_t *const n[] = {&step.n_rows, &step.n_slots, &step.n_commands};
        *n[which] = *max[which];
        unsigned char *bytes = malloc(cdp_packet_max_bytes(&wider));
        assert_int_equal(decode(bytes, cdp_packet_encode(bytes, &step)), CDP_INTERNAL);
        free(bytes);
        cdp_step_free(&step);
    }
}

static void put_word(unsigned char *bytes, int word, int32_t value) {
    for (int i = 0; i < 4; i++)
        bytes[4 * word + i] = (unsigned char)((uint32_t)value >> (8 * i));
}

static void every_word_keeps_its_range(void **state) {
    (void)state;
    for (int word = 0; word < N_WORDS; word++) {
        const range r = allowed[word];
        const int32_t inside[] = {r.low, r.high};
        const int64_t outside[] = {
            (int64_t)r.low - 1, (int64_t)r.high + 1, INT32_MIN, INT32_MAX, -1, 1000000};
        for (int i = 0; i < 2; i++) {
            unsigned char bytes[1024];
            encode_sample(bytes);
            put_word(bytes, word, inside[i]);
            if (decode(bytes, 4 * N_WORDS) != CDP_OK)
                fail_msg("word %d = %d was refused", word, inside[i]);
        }
        for (int i = 0; i < 6; i++) {
            unsigned char bytes[1024];
            if ((outside[i] >= r.low && outside[i] <= r.high) || outside[i] < INT32_MIN ||
                outside[i] > INT32_MAX)
                continue;
            encode_sample(bytes);
            put_word(bytes, word, (int32_t)outside[i]);
            if (decode(bytes, 4 * N_WORDS) != CDP_INTERNAL)
                fail_msg("word %d = %lld was taken", word, (long long)outside[i]);
        }
    }
}

static void every_other_length_is_refused(void **state) {
    (void)state;
    unsigned char bytes[1024] = {0};
    encode_sample(bytes);
    for (size_t n = 0; n < 4 * N_WORDS + 40; n++)
        if ((decode(bytes, n) == CDP_OK) != (n == 4 * N_WORDS))
            fail_msg("%zu bytes of %d", n, 4 * N_WORDS);
}

static void unused_fields_do_not_travel(void **state) {
    (void)state;
    unsigned char bytes[1024];
    cdp_kv_command messy[] = {{CDP_KV_APPEND, 0, 2, 1, 1, 12345}, {CDP_KV_COPY, 0, 2, -1, 1, 1}};
    const cdp_step step = {.kind = CDP_STEP_RUN, .n_commands = 2, .commands = messy};
    assert_int_equal(decode(bytes, cdp_packet_encode(bytes, &step)), CDP_OK);
}

static cdp_status decode_within(const cdp_packet_limits *of, const void *bytes, size_t n) {
    cdp_step step;
    assert_int_equal(cdp_step_alloc(&step, of), CDP_OK);
    const cdp_status st = cdp_packet_decode(&step, bytes, n, of);
    cdp_step_free(&step);
    cdp_error_clear();
    return st;
}

/* The sample taps 3 states of one row and 2 of another: the limit counts rows that go home, not slots. */
static void tapped_rows_are_counted(void **state) {
    (void)state;
    unsigned char bytes[1024];
    encode_sample(bytes);
    cdp_packet_limits narrow = limits;
    assert_int_equal(cdp_step_count_taps(&sample, 0, 40), 5);
    narrow.max_taps = 5;
    assert_int_equal(decode_within(&narrow, bytes, 4 * N_WORDS), CDP_OK);
    narrow.max_taps = 4;
    assert_int_equal(decode_within(&narrow, bytes, 4 * N_WORDS), CDP_INTERNAL);
    narrow.max_taps = 0; /* a run that was planned without taps */
    assert_int_equal(decode_within(&narrow, bytes, 4 * N_WORDS), CDP_INTERNAL);
}

/* Tap words cost nothing where nothing is tapped, and a set that is in memory does not travel then. */
static void untapped_steps_carry_no_sets(void **state) {
    (void)state;
    unsigned char bytes[1024];
    cdp_step plain = sample, step;
    plain.n_tap_words = 0;
    const size_t n = cdp_packet_encode(bytes, &plain);
    assert_int_equal(n, 4 * (N_WORDS - 2 * 3));
    assert_int_equal(cdp_step_alloc(&step, &limits), CDP_OK);
    assert_int_equal(cdp_packet_decode(&step, bytes, n, &limits), CDP_OK);
    assert_int_equal(cdp_step_count_taps(&step, 0, 40), 0);
    assert_int_equal(cdp_taps_count(&step.slots[0].taps, 0, 40), 0);
    cdp_step_free(&step);
}

/* The ranges of states that stages ask for add up, and rows that stay count for nothing. */
static void taps_are_counted_by_range(void **state) {
    (void)state;
    assert_int_equal(cdp_step_count_taps(&sample, 0, 1), 1);
    assert_int_equal(cdp_step_count_taps(&sample, 1, 3), 2);
    assert_int_equal(cdp_step_count_taps(&sample, 31, 32), 1);
    assert_int_equal(cdp_step_count_taps(&sample, 32, 40), 1);
    assert_null(cdp_step_taps_of(&sample, 0));
    assert_ptr_equal(cdp_step_taps_of(&sample, 1), &slots[0].taps);
    assert_null(cdp_step_taps_of(&sample, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_it_went),
        cmocka_unit_test(is_little_endian),
        cmocka_unit_test(stop_is_a_step_without_rows),
        cmocka_unit_test(largest_step_fits_its_room),
        cmocka_unit_test(one_more_than_the_limit_is_refused),
        cmocka_unit_test(every_word_keeps_its_range),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(unused_fields_do_not_travel),
        cmocka_unit_test(tapped_rows_are_counted),
        cmocka_unit_test(untapped_steps_carry_no_sets),
        cmocka_unit_test(taps_are_counted_by_range),
    };
    return cmocka_run_group_tests_name("packet", tests, NULL, NULL);
}
