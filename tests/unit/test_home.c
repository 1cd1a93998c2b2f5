/* What a step brings home and how the head takes it: where each tapped row lies, in which order its states
 * come, which rows share a product, what a lazy row is given.
 *
 * What it catches: a row read from its neighbour's place, a state that comes twice or never, a head that goes
 * on before its reader has answered.
 */
#include "launcher/engine/home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_LAYERS = 6 };

static const cdp_run_shape run = {.chunk = 40, .max_batch = 4, .n_ranks = 1, .n_taps = N_LAYERS};

/* Slot 0 taps states 1 and 4 of two home rows, slot 2 taps 4 and 5 of one, slot 3 none of one. Home rows are
 * rows 1, 2, 4, 5 of the step, so behind the hidden rows lie state 1: row 1, row 2 | state 4: row 1, row 2,
 * row 4 | state 5: row 4 | last: rows 1, 2, 4, 5 */
static cdp_row rows[] = {{0, 0, 9, 0}, {0, 1, 9, 1}, {0, 2, 9, 1}, {2, 7, 9, 0}, {2, 8, 9, 1}, {3, 3, 9, 1}};
static cdp_step_slot slots[] = {
    {.slot = 0, .taps = {{1u << 1 | 1u << 4}}}, {.slot = 2, .taps = {{1u << 4 | 1u << 5}}}, {.slot = 3}};
static cdp_step sample(void) {
    return (cdp_step){.kind = CDP_STEP_RUN,
                      .n_rows = 6,
                      .n_home = 4,
                      .n_slots = 3,
                      .n_tap_words = 1,
                      .rows = rows,
                      .slots = slots};
}

typedef struct expected {
    int row, state, at;
    bool is_last;
} expected;

static void assert_block(const cdp_home *home, const expected *items, int n) {
    assert_int_equal(home->n_block, n);
    for (int i = 0; i < n; i++) {
        int row, state;
        bool is_last;
        cdp_home_item_of(home, i, &row, &state, &is_last);
        assert_int_equal(row, items[i].row);
        assert_int_equal(state, items[i].state);
        assert_int_equal(home->at[i], items[i].at);
        assert_int_equal(is_last, items[i].is_last);
    }
}

static void open_home(cdp_home *home, int head_0, int head_2) {
    assert_int_equal(cdp_home_open(home, &run, N_LAYERS), CDP_OK);
    slots[0].head = head_0;
    slots[1].head = head_2;
    const cdp_step step = sample();
    cdp_home_begin(home, &step);
}

static void test_every_state_once(void **state) {
    (void)state;
    cdp_home home;
    static const expected items[] = {{1, 6, 6, false}, {1, 4, 2, false}, {1, 1, 0, true},  {2, 6, 7, false},
                                     {2, 4, 3, false}, {2, 1, 1, true},  {4, 6, 8, false}, {4, 5, 5, false},
                                     {4, 4, 4, true},  {5, 6, 9, true}};
    open_home(&home, 0, 0);
    assert_false(cdp_home_is_done(&home));
    assert_true(cdp_home_next(&home));
    assert_block(&home, items, 10);
    assert_false(cdp_home_is_done(&home)); /* its readers have not been asked yet */
    assert_false(cdp_home_next(&home));
    assert_true(cdp_home_is_done(&home));
    cdp_home_close(&home);
}

/* Slot 0 wants its hidden rows along, the last state's as well: that parts no block. */
static void test_hidden_rows_part_nothing(void **state) {
    (void)state;
    cdp_home home;
    const int bare = CDP_HEAD_NO_NORM | CDP_HEAD_HIDDEN;
    open_home(&home, CDP_HEAD_HIDDEN, 0);
    assert_true(cdp_home_next(&home));
    assert_int_equal(home.n_block, 10);
    assert_int_equal(home.head, CDP_HEAD_HIDDEN);
    assert_false(cdp_home_next(&home));
    cdp_home_close(&home);
    open_home(&home, 0, bare);
    assert_true(cdp_home_next(&home));
    assert_int_equal(home.n_block, 8);
    assert_int_equal(home.head, CDP_HEAD_HIDDEN); /* the last state of slot 2 */
    assert_true(cdp_home_next(&home));
    assert_int_equal(home.n_block, 2);
    assert_int_equal(home.head, bare);
    assert_false(cdp_home_next(&home));
    cdp_home_close(&home);
    open_home(&home, 0, 0);
    assert_true(cdp_home_next(&home));
    assert_int_equal(home.head, 0);
    cdp_home_close(&home);
}

/* Early states of slot 0 go through the head without its norm: in a block of their own, and in order. */
static void test_heads_do_not_mix(void **state) {
    (void)state;
    cdp_home home;
    static const expected plain[] = {{1, 6, 6, false}, {2, 6, 7, false}, {4, 6, 8, false},
                                     {4, 5, 5, false}, {4, 4, 4, true},  {5, 6, 9, true}};
    static const expected bare[] = {{1, 4, 2, false}, {1, 1, 0, true}, {2, 4, 3, false}, {2, 1, 1, true}};
    open_home(&home, CDP_HEAD_NO_NORM, 0);
    assert_true(cdp_home_next(&home));
    assert_int_equal(home.head, 0);
    assert_block(&home, plain, 6);
    assert_true(cdp_home_next(&home));
    assert_int_equal(home.head, CDP_HEAD_NO_NORM);
    assert_block(&home, bare, 4);
    assert_false(cdp_home_next(&home));
    cdp_home_close(&home);
}

static void test_lazy_rows_wait_for_their_reader(void **state) {
    (void)state;
    cdp_home home;
    static const expected first[] = {{1, 6, 6, false}, {1, 4, 2, true}, {2, 6, 7, false}, {2, 4, 3, true},
                                     {4, 6, 8, false}, {4, 5, 5, true}, {5, 6, 9, true}};
    static const expected second[] = {{2, 1, 1, true}, {4, 6, 8, true}};
    open_home(&home, CDP_HEAD_LAZY, CDP_HEAD_LAZY);
    assert_true(cdp_home_next(&home));
    assert_block(&home, first, 7);
    assert_int_equal(cdp_home_ask(&home, 1, CDP_ASK_NOTHING), CDP_OK);
    assert_int_equal(cdp_home_ask(&home, 3, 1), CDP_OK); /* on to the next state */
    assert_int_equal(cdp_home_ask(&home, 5, 6), CDP_OK); /* a row again that was not kept */
    assert_false(cdp_home_is_done(&home));
    assert_true(cdp_home_next(&home));
    assert_block(&home, second, 2);
    assert_int_equal(cdp_home_ask(&home, 0, 5), CDP_INTERNAL); /* slot 0 does not tap it */
    cdp_error_clear();
    assert_false(cdp_home_next(&home));
    cdp_home_close(&home);
}

/* More items than the head takes at once: blocks follow each other without a gap, plain rows as well. */
static void test_blocks_are_cut(void **state) {
    (void)state;
    cdp_row many[40];
    for (int i = 0; i < 40; i++)
        many[i] = (cdp_row){.slot = 0, .position = i, .wants_home = i % 4 != 3};
    for (int n_tap_words = 0; n_tap_words < 2; n_tap_words++) {
        const int per_row = n_tap_words > 0 ? 3 : 1, n_home = 30;
        const cdp_step step = {.n_rows =
                                   n_tap_words > 0 ? 20 : 40, /* 15 rows with 2 taps each, or 30 plain ones */
                               .n_slots = 1,
                               .n_tap_words = n_tap_words,
                               .rows = many,
                               .slots = slots};
        const int n_items = n_tap_words > 0 ? n_home / 2 * per_row : n_home;
        bool seen[64] = {false};
        int n = 0;
        cdp_home home;
        slots[0].head = 0;
        assert_int_equal(cdp_home_open(&home, &run, N_LAYERS), CDP_OK);
        cdp_home_begin(&home, &step);
        while (cdp_home_next(&home)) {
            assert_int_equal(home.n_block, n_items - n < CDP_HOME_ROWS ? n_items - n : CDP_HOME_ROWS);
            for (int i = 0; i < home.n_block; i++, n++) {
                assert_in_range(home.at[i], 0, n_items - 1);
                assert_false(seen[home.at[i]]);
                seen[home.at[i]] = true;
                if (n_tap_words == 0)
                    assert_int_equal(home.at[i], n); /* plain rows lie as the head takes them */
            }
        }
        assert_int_equal(n, n_items);
        cdp_home_close(&home);
    }
}

static void test_no_home_rows(void **state) {
    (void)state;
    cdp_home home;
    const cdp_step step = {.n_rows = 1, .rows = rows};
    assert_int_equal(cdp_home_open(&home, &run, N_LAYERS), CDP_OK);
    cdp_home_begin(&home, &step);
    assert_true(cdp_home_is_done(&home));
    assert_false(cdp_home_next(&home));
    cdp_home_close(&home);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_once), cmocka_unit_test(test_hidden_rows_part_nothing),
        cmocka_unit_test(test_heads_do_not_mix), cmocka_unit_test(test_lazy_rows_wait_for_their_reader),
        cmocka_unit_test(test_blocks_are_cut),   cmocka_unit_test(test_no_home_rows),
    };
    return cmocka_run_group_tests_name("home", tests, NULL, NULL);
}
