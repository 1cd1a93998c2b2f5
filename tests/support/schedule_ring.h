/* tests/support/schedule_ring.h - a schedule against a simulated ring: stages that take time, a clock that
 * jumps, sequences that arrive, a handful of KV blocks.
 *
 * A simulated stage keeps real block tables and, for every position of every block, what was computed there:
 * the value of a row is a hash of its token and of the value before it, read through the table. So a block
 * used by two, a lost command, a row out of order or logits handed to the wrong sequence changes the answer,
 * which is compared with the one computed alone.
 *
 *     test_ring *sim = test_ring_open(n_stages, n_seats, chunk, max_batch, ctx, n_blocks);
 *     sim->players = ..., sim->n_players = ...;        the sequences; freed by test_ring_close
 *     test_ring_run(sim);                              until all have ended
 *     test_ring_check(sim, seed);
 */
#pragma once

#include "comm/packet.h"
#include "launcher/engine/schedule.h"
#include "stage/seat.h"
#include "tests/support/random.h"

enum {
    TEST_RING_STAGES = 6,
    TEST_RING_SEATS = 9,
    TEST_RING_SLOTS = 16,
    TEST_RING_CTX = 200,
    TEST_RING_BLOCKS = 400,
    TEST_RING_VOCAB = 1000
};

typedef struct test_player {
    int32_t prompt[TEST_RING_CTX];
    int n_prompt, limit, n_wanted; /* it ends by itself after n_wanted tokens */
    bool wants_all, keeps, is_cancelled;
    double arrives;
    int n_heard, n_answer;
    uint64_t heard; /* hash over what it was handed */
    bool has_ended;
} test_player;

typedef struct test_flight { /* a step on its way */
    cdp_step step;
    double home; /* when its home rows are there */
    uint64_t values[512];
} test_flight;

typedef struct test_ring {
    cdp_plan plan;
    cdp_rope_card rope;
    cdp_schedule *schedule;
    int n_seats;
    double now, row_s, step_s;
    double stage_free[TEST_RING_STAGES], busy[TEST_RING_STAGES];
    int32_t table[TEST_RING_SLOTS][TEST_RING_BLOCKS];      /* block of each index, -1: none */
    uint64_t cells[TEST_RING_BLOCKS][CDP_KV_BLOCK_TOKENS]; /* what was computed at each position of a block */
    test_flight flights[TEST_RING_SEATS];
    int n_flights, n_steps, n_decoding_steps;
    uint64_t n_decoding_rows;
    test_player *players;
    int n_players, n_arrived;
    test_random *cancels; /* NULL: nobody is cancelled */
} test_ring;

/* An empty ring; a row takes 1 ms and a step 4 ms more until the caller says otherwise. */
test_ring *test_ring_open(int n_stages, int n_seats, int chunk, int max_batch, int ctx, int n_blocks);
void test_ring_close(test_ring *sim);

/* Play all players to their end. Every step is held to its limits. */
void test_ring_run(test_ring *sim);

/* Each player has ended with what it would have been handed alone; `seed` is for the message. */
void test_ring_check(const test_ring *sim, uint64_t seed);

/* The turns of test_ring_run one by one: submit who has arrived by now; send a step; take the oldest home. */
void test_ring_arrive(test_ring *sim);
void test_ring_begin(test_ring *sim, test_flight *f);
void test_ring_come_home(test_ring *sim);
