/* The schedule against a simulated ring: stages that take time, a clock that jumps, sequences of random
 * length that arrive at random moments, a handful of KV blocks, any number of stages, seats and slots.
 *
 * A simulated stage keeps real block tables and, for every position of every block, what was computed there:
 * the value of a row is a hash of its token and of the value before it, read through the table. So a block
 * used by two, a lost command, a row out of order or logits handed to the wrong sequence changes the answer,
 * which is compared with the one computed alone. What else it catches: a schedule that waits for itself, a
 * younger sequence that enters before an older one, sequences that decode one by one instead of together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/packet.h"
#include "launcher/engine/schedule.h"
#include "stage/seat.h"
#include "tests/support/random.h"

enum { MAX_STAGES = 6, MAX_SEATS = 9, MAX_SLOTS = 16, MAX_CTX = 200, MAX_BLOCKS = 400, VOCAB = 1000 };

typedef struct player {
    int32_t prompt[MAX_CTX];
    int n_prompt, limit, n_wanted; /* it ends by itself after n_wanted tokens */
    bool wants_all, keeps, is_cancelled;
    double arrives;
    int n_heard, n_answer;
    uint64_t heard; /* hash over what it was handed */
    bool has_ended;
} player;

typedef struct flight { /* a step on its way */
    cdp_step step;
    double home; /* when its home rows are there */
    uint64_t values[512];
} flight;

typedef struct simulation {
    cdp_plan plan;
    cdp_rope_card rope;
    cdp_schedule *schedule;
    int n_seats;
    double now, row_s, step_s;
    double stage_free[MAX_STAGES], busy[MAX_STAGES];
    int32_t table[MAX_SLOTS][MAX_BLOCKS];            /* block of each index, -1: none */
    uint64_t cells[MAX_BLOCKS][CDP_KV_BLOCK_TOKENS]; /* what was computed at each position of a block */
    flight flights[MAX_SEATS];
    int n_flights, n_steps, n_decoding_steps;
    uint64_t n_decoding_rows;
    player *players;
    int n_players, n_arrived;
    test_random *cancels; /* NULL: nobody is cancelled */
} simulation;

static uint64_t mix(uint64_t a, uint64_t b) {
    test_random r = {a * 31 + b};
    return test_random_u64(&r);
}
static int32_t token_after(uint64_t value) {
    return (int32_t)(value % VOCAB);
}

static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    player *p = of;
    uint64_t value;
    assert_false(p->is_cancelled);
    memcpy(&value, logits, sizeof value);
    const int expected = p->wants_all ? p->n_heard : p->n_prompt - 1 + p->n_heard;
    assert_int_equal(row->position, expected);
    p->n_heard++;
    p->heard = mix(p->heard, value);
    if (row->position >= p->n_prompt - 1 && p->n_answer < p->n_wanted) {
        p->n_answer++;
        *next_out = token_after(value);
    }
    return CDP_OK;
}

static void on_end(void *of) {
    player *p = of;
    assert_false(p->has_ended);
    p->has_ended = true;
}

/* What the player must have been handed, computed without any schedule. */
static uint64_t alone(const player *p, int *n_answer) {
    uint64_t value = 0, heard = 0;
    int n_tokens = p->n_prompt;
    int32_t next = 0;
    *n_answer = 0;
    for (int at = 0; at < n_tokens; at++) {
        value = mix(value, (uint64_t)(at < p->n_prompt ? p->prompt[at] : next));
        if (p->wants_all || at >= p->n_prompt - 1)
            heard = mix(heard, value);
        if (at < p->n_prompt - 1 || *n_answer == p->n_wanted)
            continue;
        (*n_answer)++;
        next = token_after(value);
        if (n_tokens + 1 < p->limit)
            n_tokens++;
    }
    return heard;
}

/* The step as every stage sees it: commands first, then rows, each reading the one before it. */
static void compute(simulation *sim, flight *f) {
    const cdp_step *step = &f->step;
    for (int i = 0; i < step->n_commands; i++) {
        const cdp_kv_command *c = &step->commands[i];
        for (int k = 0; c->verb == CDP_KV_FREE && k < MAX_BLOCKS; k++)
            sim->table[c->slot][k] = -1;
        if (c->verb != CDP_KV_APPEND)
            continue;
        assert_in_range(c->block, 0, sim->plan.n_blocks - 1);
        assert_int_equal(sim->table[c->slot][c->index], -1);
        sim->table[c->slot][c->index] = c->block;
    }
    for (int i = 0; i < step->n_rows; i++) {
        const cdp_row *row = &step->rows[i];
        uint64_t before = 0;
        if (row->position > 0) {
            const int at = row->position - 1;
            const int block = sim->table[row->slot][at / CDP_KV_BLOCK_TOKENS];
            assert_true(block >= 0);
            before = sim->cells[block][at % CDP_KV_BLOCK_TOKENS];
        }
        const int block = sim->table[row->slot][row->position / CDP_KV_BLOCK_TOKENS];
        assert_true(block >= 0);
        f->values[i] = mix(before, (uint64_t)row->token);
        sim->cells[block][row->position % CDP_KV_BLOCK_TOKENS] = f->values[i];
    }
}

/* Limits of a step, and the age of those who enter. */
static void check_step(simulation *sim, const cdp_step *step) {
    bool seen[MAX_SLOTS] = {0};
    assert_true(step->n_rows <= cdp_step_rows(&sim->plan.run));
    assert_true(step->n_commands <= cdp_max_commands(&sim->plan.run));
    assert_true(step->n_slots <= sim->plan.run.max_batch);
    int n_home = 0, n_decoding = 0;
    for (int i = 0; i < step->n_slots; i++) {
        assert_false(seen[step->slots[i].slot]);
        seen[step->slots[i].slot] = true;
    }
    for (int i = 0; i < step->n_rows; i++) {
        assert_true(seen[step->rows[i].slot]);
        n_home += step->rows[i].wants_home;
        n_decoding += step->rows[i].wants_home && step->rows[i].position > 0;
    }
    assert_int_equal(n_home, step->n_home);
    sim->n_decoding_steps += n_decoding > 0;
    sim->n_decoding_rows += (uint64_t)n_decoding;
}

/* Send a step: every stage takes it when it is free and the one before is done. */
static void begin(simulation *sim, flight *f) {
    double at = sim->now;
    const double took = sim->step_s + sim->row_s * f->step.n_rows;
    for (int s = 0; s < sim->plan.n_active; s++) {
        at = at > sim->stage_free[s] ? at : sim->stage_free[s];
        at += took;
        sim->stage_free[s] = at;
        sim->busy[s] += took;
    }
    f->home = at;
    compute(sim, f); /* the order of steps is all that matters for what it holds */
    cdp_schedule_took(sim->schedule, f->step.n_rows, took);
    sim->n_steps++;
}

static void come_home(simulation *sim) {
    flight first = sim->flights[0];
    sim->now = first.home > sim->now ? first.home : sim->now;
    for (int i = 0; i < first.step.n_rows; i++) {
        float logits[2];
        memcpy(logits, &first.values[i], sizeof logits);
        if (first.step.rows[i].wants_home)
            assert_int_equal(cdp_schedule_home(sim->schedule, &first.step.rows[i], logits), CDP_OK);
    }
    memmove(&sim->flights[0], &sim->flights[1], (size_t)(sim->n_flights - 1) * sizeof first);
    sim->n_flights--;
    sim->flights[sim->n_flights].step = first.step; /* its arrays are used again */
}

static void arrive(simulation *sim) {
    while (sim->n_arrived < sim->n_players && sim->players[sim->n_arrived].arrives <= sim->now) {
        player *p = &sim->players[sim->n_arrived++];
        const cdp_request request = {.prompt = p->prompt,
                                     .n_prompt = p->n_prompt,
                                     .limit = p->limit,
                                     .wants_all = p->wants_all,
                                     .keeps = p->keeps,
                                     .on_logits = on_logits,
                                     .on_end = on_end,
                                     .of = p};
        assert_int_equal(cdp_schedule_submit(sim->schedule, &request), CDP_OK);
    }
}

static void cancel_one(simulation *sim) {
    if (sim->cancels == NULL || sim->n_arrived == 0 || test_random_below(sim->cancels, 150) > 0)
        return;
    player *p = &sim->players[test_random_below(sim->cancels, sim->n_arrived)];
    p->is_cancelled = p->is_cancelled || !p->has_ended;
    cdp_schedule_cancel(sim->schedule, p);
}

static void simulate(simulation *sim) {
    for (;;) {
        arrive(sim);
        cancel_one(sim);
        while (sim->n_flights < sim->n_seats && sim->stage_free[0] <= sim->now) {
            flight *f = &sim->flights[sim->n_flights];
            cdp_schedule_next(sim->schedule, &f->step);
            if (f->step.n_rows == 0)
                break;
            sim->n_flights++;
            check_step(sim, &f->step);
            begin(sim, f);
        }
        const bool may_begin = sim->n_flights < sim->n_seats && sim->stage_free[0] > sim->now;
        if (may_begin && (sim->n_flights == 0 || sim->stage_free[0] < sim->flights[0].home))
            sim->now = sim->stage_free[0];
        else if (sim->n_flights > 0)
            come_home(sim);
        else if (sim->n_arrived < sim->n_players)
            sim->now = sim->players[sim->n_arrived].arrives;
        else
            return;
    }
}

static simulation *open_simulation(int n_stages, int n_seats, int chunk, int max_batch, int ctx,
                                   int n_blocks) {
    simulation *sim = calloc(1, sizeof *sim);
    sim->plan.n_active = n_stages;
    sim->plan.n_blocks = n_blocks;
    sim->plan.run = (cdp_run_shape){.ctx = ctx, .max_batch = max_batch, .chunk = chunk, .n_ranks = n_stages};
    sim->n_seats = n_seats;
    sim->row_s = 1e-3;
    sim->step_s = 4e-3;
    memset(sim->table, -1, sizeof sim->table);
    const cdp_packet_limits limits = {.max_rows = cdp_step_rows(&sim->plan.run),
                                      .max_slots = max_batch,
                                      .max_commands = cdp_max_commands(&sim->plan.run)};
    for (int i = 0; i < n_seats; i++)
        assert_int_equal(cdp_step_alloc(&sim->flights[i].step, &limits), CDP_OK);
    assert_int_equal(cdp_schedule_open(&sim->schedule, &sim->plan, &sim->rope), CDP_OK);
    return sim;
}

static void close_simulation(simulation *sim) {
    cdp_schedule_close(sim->schedule);
    for (int i = 0; i < sim->n_seats; i++)
        cdp_step_free(&sim->flights[i].step);
    free(sim->players);
    free(sim);
}

static void check_players(const simulation *sim, uint64_t seed) {
    assert_true(cdp_schedule_is_idle(sim->schedule));
    for (int i = 0; i < sim->n_players; i++) {
        const player *p = &sim->players[i];
        int n_answer;
        const uint64_t heard = alone(p, &n_answer);
        if (p->is_cancelled && p->has_ended)
            continue; /* on_logits has seen that what it got was right */
        if (!p->has_ended || p->heard != heard || p->n_answer != n_answer)
            fail_msg("seed %llu: sequence %d of %d (%d + %d tokens, %d wanted) %s", (unsigned long long)seed,
                     i, sim->n_players, p->n_prompt, p->limit - p->n_prompt, p->n_wanted,
                     p->has_ended ? "got other logits in company" : "never ended");
    }
}

static void draw_players(simulation *sim, test_random *r, int n) {
    const int ctx = sim->plan.run.ctx;
    sim->players = calloc((size_t)n, sizeof *sim->players);
    sim->n_players = n;
    const double pause = test_random_below(r, 3) * 20e-3;
    for (int i = 0; i < n; i++) {
        player *p = &sim->players[i];
        p->n_prompt = 1 + test_random_below(r, test_random_below(r, 2) == 0 ? ctx : 1 + ctx / 4);
        p->wants_all = test_random_below(r, 4) == 0;
        p->limit = p->n_prompt + test_random_below(r, ctx - p->n_prompt + 1);
        p->n_wanted = test_random_below(r, 3) == 0 ? test_random_below(r, ctx) : MAX_CTX;
        p->arrives = i == 0 ? 0 : p[-1].arrives + pause * test_random_unit(r);
        for (int k = 0; k < p->n_prompt; k++)
            p->prompt[k] = test_random_below(r, VOCAB);
    }
}

/* Some of them are turns of a conversation: each begins as the one before did, up to a random place. */
static void draw_turns(simulation *sim, test_random *r) {
    const player *before = NULL;
    for (int i = 0; i < sim->n_players; i++) {
        player *p = &sim->players[i];
        if (i > 0)
            p->arrives = p[-1].arrives + (test_random_below(r, 3) == 0 ? 0 : test_random_unit(r));
        p->keeps = test_random_below(r, 3) > 0;
        if (!p->keeps)
            continue;
        for (int k = 0; before != NULL && k < p->n_prompt && k < before->n_prompt; k++) {
            if (test_random_below(r, 60) == 0)
                break;
            p->prompt[k] = before->prompt[k];
        }
        before = p;
    }
}

/* Random rings, three thousand of them. */
static void test_random_rings(void **state) {
    (void)state;
    uint64_t n_steps = 0, n_put_back = 0;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        test_random r = {seed};
        const int ctx = 1 + test_random_below(&r, 120);
        const int least = (ctx + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS;
        simulation *sim =
            open_simulation(1 + test_random_below(&r, MAX_STAGES), 1 + test_random_below(&r, MAX_SEATS),
                            1 + test_random_below(&r, 50), 1 + test_random_below(&r, MAX_SLOTS), ctx,
                            least + (test_random_below(&r, 3) > 0 ? 0 : test_random_below(&r, 12)));
        draw_players(sim, &r, 1 + test_random_below(&r, 30));
        sim->row_s = 1e-3 * test_random_unit(&r);
        simulate(sim);
        check_players(sim, seed);
        n_steps += (uint64_t)sim->n_steps;
        n_put_back += cdp_schedule_n_put_back(sim->schedule);
        close_simulation(sim);
    }
    print_message("    %llu steps, put back %llu times\n", (unsigned long long)n_steps,
                  (unsigned long long)n_put_back);
    assert_true(n_steps > 500000 && n_put_back > 3000);
}

/* Turns that begin where the one before is kept, beside sequences that want its blocks and its slot; some are
 * cancelled. A kept position that is not what the prompt says would change the answer. */
static void test_turns(void **state) {
    (void)state;
    uint64_t n_reused = 0;
    int n_cancelled = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        test_random r = {seed};
        const int ctx = 20 + test_random_below(&r, 120);
        const int least = (ctx + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS;
        simulation *sim =
            open_simulation(1 + test_random_below(&r, 4), 1 + test_random_below(&r, 6),
                            1 + test_random_below(&r, 50), 1 + test_random_below(&r, 3), ctx,
                            least + (test_random_below(&r, 2) > 0 ? 0 : test_random_below(&r, 12)));
        draw_players(sim, &r, 1 + test_random_below(&r, 12));
        draw_turns(sim, &r);
        sim->cancels = &r;
        simulate(sim);
        check_players(sim, seed);
        n_reused += cdp_schedule_n_reused(sim->schedule);
        for (int i = 0; i < sim->n_players; i++)
            n_cancelled += sim->players[i].is_cancelled;
        close_simulation(sim);
    }
    print_message("    %llu tokens kept, %d sequences cancelled\n", (unsigned long long)n_reused,
                  n_cancelled);
    assert_true(n_reused > 10000 && n_cancelled > 500);
}

/* A turn that repeats all and adds some computes what is new, and the last token where nothing is. */
static void test_only_what_is_new(void **state) {
    (void)state;
    static const int lengths[] = {40, 60, 60, 30}, computed[] = {40, 20, 1, 1};
    simulation *sim = open_simulation(1, 2, 128, 1, MAX_CTX, 20);
    sim->players = calloc(4, sizeof *sim->players);
    for (int i = 0; i < 4; i++) {
        player *p = &sim->players[i];
        *p = (player){.n_prompt = lengths[i], .limit = MAX_CTX, .n_wanted = 0, .keeps = true};
        for (int k = 0; k < lengths[i]; k++)
            p->prompt[k] = k;
        sim->n_players = i + 1;
        const uint64_t before = cdp_schedule_n_reused(sim->schedule);
        simulate(sim);
        assert_int_equal(lengths[i] - (int)(cdp_schedule_n_reused(sim->schedule) - before), computed[i]);
    }
    check_players(sim, 0);
    close_simulation(sim);
}

/* 16 prompts of mixed length, no want of blocks: by the simulated clock the stages have work all the time. */
static void test_pipe_is_full(void **state) {
    (void)state;
    for (int n_stages = 1; n_stages <= 4; n_stages++) {
        test_random r = {(uint64_t)n_stages};
        simulation *sim = open_simulation(n_stages, n_stages + 1, 128, 16, MAX_CTX, 200);
        sim->players = calloc(16, sizeof *sim->players);
        sim->n_players = 16;
        for (int i = 0; i < 16; i++) {
            player *p = &sim->players[i];
            p->n_prompt = 4 + test_random_below(&r, 100);
            p->limit = p->n_prompt + 64;
            p->n_wanted = MAX_CTX;
        }
        simulate(sim);
        check_players(sim, 0);
        double busy = 0, end = 0;
        for (int s = 0; s < n_stages; s++) {
            busy += sim->busy[s];
            end = sim->stage_free[s] > end ? sim->stage_free[s] : end;
        }
        const double bubble = 1 - busy / (end * n_stages);
        print_message("    %d stages: bubble %.1f %%\n", n_stages, 100 * bubble);
        /* 16 sequences in three or four steps make steps of unequal length, which cost a part of the rest. */
        assert_true(bubble < (n_stages <= 2 ? 0.10 : 0.20));
        close_simulation(sim);
    }
}

/* Prompts alone go in whole chunks: one whose last row is on the way is no reason for short ones. */
static void test_prompts_alone(void **state) {
    (void)state;
    for (int n_stages = 1; n_stages <= 3; n_stages++) {
        simulation *sim = open_simulation(n_stages, n_stages + 1, 32, 4, MAX_CTX, 200);
        sim->players = calloc(4, sizeof *sim->players);
        sim->n_players = 4;
        for (int i = 0; i < 4; i++)
            sim->players[i] = (player){.n_prompt = 190, .limit = MAX_CTX};
        simulate(sim);
        check_players(sim, 0);
        assert_int_equal(sim->n_steps, (4 * 190 + 31) / 32);
        close_simulation(sim);
    }
}

/* Sequences whose prompts end at different moments decode together all the same: as many rows a step as their
 * share, not one. */
static void test_meet_again(void **state) {
    (void)state;
    for (int n_stages = 1; n_stages <= 3; n_stages++) {
        simulation *sim = open_simulation(n_stages, n_stages + 1, 32, 12, MAX_CTX, 200);
        sim->players = calloc(12, sizeof *sim->players);
        sim->n_players = 12;
        for (int i = 0; i < 12; i++) {
            player *p = &sim->players[i];
            *p = (player){.n_prompt = 1 + 2 * i, .limit = MAX_CTX, .n_wanted = 150, .arrives = i * 11e-3};
        }
        simulate(sim);
        check_players(sim, 0);
        const double rows = (double)sim->n_decoding_rows / sim->n_decoding_steps, share = 12.0 / n_stages;
        print_message("    %d stages: %.2f decoding rows a step, %.0f in step\n", n_stages, rows, share);
        assert_true(rows > 0.8 * share);
        close_simulation(sim);
    }
}

/* Beside sequences that decode, a prompt takes no more of a step than they do: a step takes at most twice as
 * long. Without any it takes whole chunks. */
static void test_chunks_beside_decoding(void **state) {
    (void)state;
    simulation *sim = open_simulation(1, 2, 128, 8, MAX_CTX, 200);
    sim->players = calloc(8, sizeof *sim->players);
    sim->n_players = 8;
    sim->step_s = 40e-3; /* as much as 40 rows: a chunk beside n decoding rows has 40 + n */
    for (int i = 0; i < 8; i++)
        sim->players[i] =
            (player){.n_prompt = i < 4 ? 8 : 180, .limit = MAX_CTX, .n_wanted = MAX_CTX, .arrives = i};
    sim->players[1].n_prompt = 150; /* alone with one that decodes, at the start, before costs are known */
    int n_largest = 0, n_mixed = 0;
    while (sim->n_arrived < 8 || !cdp_schedule_is_idle(sim->schedule)) {
        flight *f = &sim->flights[0];
        arrive(sim);
        cdp_schedule_next(sim->schedule, &f->step);
        const cdp_step *step = &f->step;
        if (step->n_rows == 0) {
            sim->now = sim->players[sim->n_arrived].arrives;
            continue;
        }
        if (step->rows[0].wants_home && step->rows[0].position > 0 && step->n_rows > step->n_slots) {
            n_largest = step->n_rows > n_largest ? step->n_rows : n_largest;
            n_mixed++;
        }
        sim->n_flights = 1;
        begin(sim, f);
        come_home(sim);
    }
    check_players(sim, 0);
    print_message("    %d steps of both kinds, %d rows at most\n", n_mixed, n_largest);
    assert_in_range(n_mixed, 10, 60);
    assert_in_range(n_largest, 41, 60);
    close_simulation(sim);
}

/* Nobody who came later enters first, even where a long prompt has to wait for blocks that a short one would
 * find. */
static void test_order_is_kept(void **state) {
    (void)state;
    simulation *sim = open_simulation(2, 3, 16, 4, 160, 12);
    sim->players = calloc(4, sizeof *sim->players);
    sim->n_players = 4;
    const int prompts[] = {60, 150, 4, 4};
    for (int i = 0; i < 4; i++)
        sim->players[i] = (player){.n_prompt = prompts[i], .limit = prompts[i] + 9, .n_wanted = MAX_CTX};
    sim->players[0].limit = 160;
    /* Until the first has ended the second finds too few blocks; the two short ones wait behind it. */
    arrive(sim);
    for (int turn = 0; turn < 60; turn++) {
        flight *f = &sim->flights[0];
        cdp_schedule_next(sim->schedule, &f->step);
        if (f->step.n_rows == 0)
            continue;
        sim->n_flights = 1;
        begin(sim, f);
        for (int i = 0; i < f->step.n_slots && !sim->players[0].has_ended; i++)
            assert_int_equal(f->step.slots[i].slot, 0);
        come_home(sim);
    }
    simulate(sim);
    check_players(sim, 0);
    close_simulation(sim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_rings),           cmocka_unit_test(test_turns),
        cmocka_unit_test(test_only_what_is_new),       cmocka_unit_test(test_pipe_is_full),
        cmocka_unit_test(test_prompts_alone),          cmocka_unit_test(test_meet_again),
        cmocka_unit_test(test_chunks_beside_decoding), cmocka_unit_test(test_order_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
