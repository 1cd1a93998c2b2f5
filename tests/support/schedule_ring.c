#include "tests/support/schedule_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t mix(uint64_t a, uint64_t b) {
    test_random r = {a * 31 + b};
    return test_random_u64(&r);
}
static int32_t token_after(uint64_t value) {
    return (int32_t)(value % TEST_RING_VOCAB);
}

static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    test_player *p = of;
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
    test_player *p = of;
    assert_false(p->has_ended);
    p->has_ended = true;
}

/* What the player must have been handed, computed without any schedule. */
static uint64_t alone(const test_player *p, int *n_answer) {
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
static void compute(test_ring *sim, test_flight *f) {
    const cdp_step *step = &f->step;
    for (int i = 0; i < step->n_commands; i++) {
        const cdp_kv_command *c = &step->commands[i];
        if (c->verb != CDP_KV_APPEND)
            continue;
        assert_in_range(c->block, 0, sim->plan.n_blocks - 1);
        for (int k = 0; c->index == 0 && k < TEST_RING_BLOCKS; k++)
            sim->table[c->slot][k] = -1; /* a new sequence: nothing of the last one may be read */
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
static void check_step(test_ring *sim, const cdp_step *step) {
    bool seen[TEST_RING_SLOTS] = {0};
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
void test_ring_begin(test_ring *sim, test_flight *f) {
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

void test_ring_come_home(test_ring *sim) {
    test_flight first = sim->flights[0];
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

void test_ring_arrive(test_ring *sim) {
    while (sim->n_arrived < sim->n_players && sim->players[sim->n_arrived].arrives <= sim->now) {
        test_player *p = &sim->players[sim->n_arrived++];
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

static void cancel_one(test_ring *sim) {
    if (sim->cancels == NULL || sim->n_arrived == 0 || test_random_below(sim->cancels, 150) > 0)
        return;
    test_player *p = &sim->players[test_random_below(sim->cancels, sim->n_arrived)];
    p->is_cancelled = p->is_cancelled || !p->has_ended;
    cdp_schedule_cancel(sim->schedule, p);
}

void test_ring_run(test_ring *sim) {
    for (;;) {
        test_ring_arrive(sim);
        cancel_one(sim);
        while (sim->n_flights < sim->n_seats && sim->stage_free[0] <= sim->now) {
            test_flight *f = &sim->flights[sim->n_flights];
            cdp_schedule_next(sim->schedule, &f->step);
            if (f->step.n_rows == 0)
                break;
            sim->n_flights++;
            check_step(sim, &f->step);
            test_ring_begin(sim, f);
        }
        const bool may_begin = sim->n_flights < sim->n_seats && sim->stage_free[0] > sim->now;
        if (may_begin && (sim->n_flights == 0 || sim->stage_free[0] < sim->flights[0].home))
            sim->now = sim->stage_free[0];
        else if (sim->n_flights > 0)
            test_ring_come_home(sim);
        else if (sim->n_arrived < sim->n_players)
            sim->now = sim->players[sim->n_arrived].arrives;
        else
            return;
    }
}

test_ring *test_ring_open(int n_stages, int n_seats, int chunk, int max_batch, int ctx, int n_blocks) {
    test_ring *sim = calloc(1, sizeof *sim);
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

void test_ring_close(test_ring *sim) {
    cdp_schedule_close(sim->schedule);
    for (int i = 0; i < sim->n_seats; i++)
        cdp_step_free(&sim->flights[i].step);
    free(sim->players);
    free(sim);
}

void test_ring_check(const test_ring *sim, uint64_t seed) {
    assert_true(cdp_schedule_is_idle(sim->schedule));
    for (int i = 0; i < sim->n_players; i++) {
        const test_player *p = &sim->players[i];
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
