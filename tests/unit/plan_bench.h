/* tests/unit/plan_bench.h - a request, its plan, and all that must hold of any plan. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/plan.h"
#include "tests/unit/cards.h"

static const uint64_t GiB = UINT64_C(1) << 30;

/* What one test plans with: too large for a stack that counts. */
typedef struct bench {
    cdp_model_card card;
    cdp_plan_request request;
    cdp_plan plan;
} bench;

static inline bench *bench_open(int shape, int n_places, uint64_t free_bytes) {
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    test_card_fill(&b->card, &shapes[shape]);
    b->request = (cdp_plan_request){
        .n_places = n_places, .memory_fraction = 0.85, .device_map = "auto", .run = test_run(8192, 1)};
    for (int r = 0; r < n_places; r++) {
        snprintf(b->request.places[r].name, sizeof b->request.places[r].name, "cuda:%d", r);
        b->request.places[r].free_bytes = free_bytes;
    }
    cdp_error_clear();
    return b;
}

static inline cdp_status make(bench *b) {
    cdp_error_clear();
    return cdp_plan_make(&b->plan, &b->card, &b->request);
}

static inline bool fits(bench *b) {
    assert_int_equal(make(b), CDP_OK);
    return b->plan.fits;
}

static inline void set_budgets(bench *b, const char *text) {
    assert_int_equal(cdp_size_parse_list(b->request.budgets, CDP_MAX_RANKS, &b->request.n_budgets, text),
                     CDP_OK);
}

/* Whatever was asked: all that must hold of a plan. */
static inline void check_plan(const bench *b) {
    const cdp_plan *plan = &b->plan;
    int layer = 0, n_active = 0;
    uint64_t most = 0;
    assert_int_equal(plan->n_stages, b->request.n_places);
    assert_true(plan->n_blocks >= cdp_blocks_per_sequence(&plan->run));
    assert_int_equal(plan->run.n_ranks, b->request.max_ranks > 0 && b->request.max_ranks < plan->n_stages
                                            ? b->request.max_ranks
                                            : plan->n_stages);
    for (int r = 0; r < plan->n_stages; r++) {
        const cdp_stage_plan *s = &plan->stages[r];
        assert_int_equal(s->first_layer, layer);
        assert_true(s->end_layer >= s->first_layer);
        layer = s->end_layer;
        assert_int_equal(s->has_vocab, r == 0);
        assert_int_equal(s->is_idle, r > 0 && s->first_layer == s->end_layer);
        assert_string_equal(s->place.name, b->request.places[r].name);
        const cdp_stage_bytes nothing = {0},
                              bytes = cdp_memory_stage(&b->card, &plan->run, s->first_layer, s->end_layer,
                                                       s->has_vocab, plan->n_blocks);
        assert_memory_equal(&s->bytes, s->is_idle ? &nothing : &bytes, sizeof bytes);
        n_active += !s->is_idle;
        most = s->bytes.total > most ? s->bytes.total : most;
        if (plan->fits)
            assert_true(s->bytes.total <= s->budget_bytes);
    }
    assert_int_equal(layer, b->card.n_layers);
    assert_int_equal(plan->n_active, n_active);
    assert_true(cdp_n_seats(&plan->run) > n_active); /* rank 0 fills while the ring is full */
    assert_int_equal(plan->bottleneck_bytes, most);
}
