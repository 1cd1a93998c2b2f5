/* rank_engine OPTIONS: many sequences of random lengths through a real ring, submitted at random moments,
 * some with tapped states and some without, some put back for want of KV blocks; each must get the logits of
 * every state and the tokens it gets alone. Prints one line of figures, ends with 1 and a line where a
 * sequence differs. Options are those of cdpipe. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/watchdog.h"
#include "launcher/run.h"
#include "launcher/sample/logits_hash.h"
#include "tests/support/random.h"

enum { N_SEQUENCES = 32, MAX_BATCH = 5, MAX_PROMPT = 70, MAX_ANSWER = 40, ROUNDS = 4 };

typedef struct player {
    int32_t prompt[MAX_PROMPT];
    int n_prompt, limit, n_answer, vocab, hidden;
    bool wants_all, has_ended;
    cdp_tap_set taps; /* some players look at states on the way, some of those lazily */
    int head;
    uint64_t hash, states;
    int32_t last;
    uint64_t solo_hash;
    int solo_answer;
} player;

static player players[N_SEQUENCES];
static uint64_t solo_hashes[N_SEQUENCES];

/* Greedy, so that logits alone decide. */
static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    player *p = of;
    int best = 0;
    for (int i = 1; i < p->vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    p->hash = cdp_logits_hash_add(p->hash, cdp_logits_row_hash(logits, p->vocab) + (uint64_t)row->position);
    p->last = best;
    if (row->position >= p->n_prompt - 1 && !p->wants_all) {
        p->n_answer++;
        *next_out = best;
    }
    return CDP_OK;
}

/* Every state that comes is part of the hash; a lazy reader goes on while bits of the logits say so, and now
 * and then asks for a state again. */
static cdp_status on_state(void *of, const cdp_row *row, int state, const float *logits, const float *hidden,
                           int *ask_out) {
    player *p = of;
    const uint64_t bits = cdp_logits_row_hash(logits, p->vocab);
    const bool wants_hidden =
        (p->head & CDP_HEAD_HIDDEN) != 0 && cdp_taps_count(&p->taps, 0, CDP_MAX_STATES) > 0;
    if (wants_hidden && hidden == NULL)
        return cdp_fail(CDP_INTERNAL, "state %d came without its hidden row", state);
    if (wants_hidden)
        p->states += cdp_logits_row_hash(hidden, p->hidden) * (uint64_t)(2 * state + 1);
    /* A sum: states of neighbouring rows may come in another order. */
    p->states += cdp_logits_hash_add(bits, (uint64_t)(state + 1) << 32 ^ (uint64_t)row->position);
    for (int next = state - 1; (p->head & CDP_HEAD_LAZY) != 0 && bits % 8 > 2 && next >= 0; next--)
        if (cdp_taps_has(&p->taps, next)) {
            *ask_out = next;
            break;
        }
    return CDP_OK;
}

static void on_end(void *of) {
    ((player *)of)->has_ended = true;
}

static uint64_t seen(const player *p) {
    return p->hash ^ p->states;
}

static void draw_taps(test_random *r, player *p, int n_layers) {
    p->taps = (cdp_tap_set){0};
    p->head = 0;
    if (test_random_below(r, 3) == 0)
        return; /* plain company */
    for (int state = 0; state < n_layers; state++)
        if (test_random_below(r, 2) == 0)
            cdp_taps_add(&p->taps, state);
    p->head = test_random_below(r, 4); /* CDP_HEAD_NO_NORM, CDP_HEAD_NO_SCALE */
    if (test_random_below(r, 2) == 0)
        p->head |= CDP_HEAD_HIDDEN;
    if (!p->wants_all && test_random_below(r, 2) == 0)
        p->head |= CDP_HEAD_LAZY;
}

static void draw_players(test_random *r, const cdp_model_card *card) {
    for (int i = 0; i < N_SEQUENCES; i++) {
        player *p = &players[i];
        p->vocab = card->vocab;
        p->hidden = card->hidden;
        p->n_prompt = 1 + test_random_below(r, MAX_PROMPT);
        p->wants_all = test_random_below(r, 3) == 0;
        p->limit = p->n_prompt + (p->wants_all ? 0 : 1 + test_random_below(r, MAX_ANSWER));
        draw_taps(r, p, card->n_layers);
        for (int k = 0; k < p->n_prompt; k++)
            p->prompt[k] = test_random_below(r, card->vocab);
    }
}

static cdp_status submit(cdp_run *run, player *p) {
    p->hash = CDP_LOGITS_HASH_START;
    p->n_answer = 0;
    p->has_ended = false;
    p->states = 0;
    const cdp_request request = {.prompt = p->prompt,
                                 .n_prompt = p->n_prompt,
                                 .limit = p->limit,
                                 .wants_all = p->wants_all,
                                 .taps = &p->taps,
                                 .head = p->head,
                                 .on_state = on_state,
                                 .on_logits = on_logits,
                                 .on_end = on_end,
                                 .of = p};
    return cdp_engine_submit(run->engine, &request);
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    (void)of;
    run->n_taps = run->card->n_layers;
    *n_tokens_out = MAX_PROMPT + MAX_ANSWER;
    return CDP_OK;
}

static cdp_status play_alone(cdp_run *run) {
    for (int i = 0; i < N_SEQUENCES; i++) {
        CDP_TRY(submit(run, &players[i]));
        CDP_TRY(cdp_engine_run(run->engine));
        if (!players[i].has_ended)
            return cdp_fail(CDP_BAD_DATA, "sequence %d never ended", i);
        players[i].solo_hash = solo_hashes[i] = seen(&players[i]);
        players[i].solo_answer = players[i].n_answer;
    }
    return CDP_OK;
}

/* All of them, entering at random moments. */
static cdp_status play_together(cdp_run *run, test_random *r, int round) {
    for (int i = 0; i < N_SEQUENCES; i++) {
        CDP_TRY(submit(run, &players[(i * 7 + round) % N_SEQUENCES]));
        for (int turns = test_random_below(r, 4) == 0 ? test_random_below(r, 60) : 0; turns > 0; turns--)
            CDP_TRY(cdp_engine_turn(run->engine));
    }
    CDP_TRY(cdp_engine_run(run->engine));
    for (int i = 0; i < N_SEQUENCES; i++)
        if (!players[i].has_ended || seen(&players[i]) != players[i].solo_hash ||
            players[i].n_answer != players[i].solo_answer)
            return cdp_fail(CDP_BAD_DATA, "round %d: sequence %d (%d + %d tokens) differs in company", round,
                            i, players[i].n_prompt, players[i].limit - players[i].n_prompt);
    return CDP_OK;
}

/* As many equal sequences as there are slots, which all end in one step, again and again. */
static cdp_status play_alike(cdp_run *run) {
    for (int i = 1; i < MAX_BATCH; i++)
        players[i] = players[0];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < MAX_BATCH; i++)
            CDP_TRY(submit(run, &players[i]));
        CDP_TRY(cdp_engine_run(run->engine));
        for (int i = 0; i < MAX_BATCH; i++)
            if (!players[i].has_ended || seen(&players[i]) != players[i].solo_hash)
                return cdp_fail(CDP_BAD_DATA, "round %d: sequence %d of equal ones differs", round, i);
    }
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    test_random r = {*(uint64_t *)of};
    draw_players(&r, run->card);
    CDP_TRY(play_alone(run));
    for (int round = 0; round < ROUNDS; round++)
        CDP_TRY(play_together(run, &r, round));
    CDP_TRY(play_alike(run));
    uint64_t hash = CDP_LOGITS_HASH_START; /* of what everyone saw alone: the same on any number of ranks */
    for (int i = 0; i < N_SEQUENCES; i++)
        hash = cdp_logits_hash_add(hash, solo_hashes[i]);
    printf("ok, %d ranks, %lld blocks, put back %llu times, saw %016llx\n", run->size,
           (long long)run->plan->n_blocks, (unsigned long long)cdp_engine_n_put_back(run->engine),
           (unsigned long long)hash);
    return CDP_OK;
}

static void leave(int exit_code) {
    _Exit(exit_code);
}

int main(int argc, char **argv) {
    cdp_options options;
    cdp_world *world = NULL;
    static cdp_run run;
    uint64_t seed = 20261;
    const cdp_watchdog_options watch = {.limit_s = 20, .leave = leave};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .of = &seed, .max_batch = MAX_BATCH};
    cdp_status st = cdp_options_parse(&options, argc, argv);
    if (st == CDP_OK)
        st = cdp_world_open(&world);
    if (st == CDP_OK)
        st = cdp_watchdog_start(world, &watch);
    if (st == CDP_OK)
        st = cdp_run_job(&run, &options, world, &spec);
    if (st != CDP_OK)
        fprintf(stderr, "rank_engine: %s\n", cdp_error_message());
    if (run.is_alone)
        _Exit(1);
    cdp_run_close(&run);
    cdp_watchdog_stop(world);
    cdp_world_close(world);
    return st == CDP_OK ? 0 : 1;
}
