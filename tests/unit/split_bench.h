/* tests/unit/split_bench.h - a split problem with room for its own numbers, and how it is asked and shown. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/split.h"

enum { MAX_LAYERS = 80, MAX_RANKS = 8 };
static const cdp_policy policies[] = {CDP_POLICY_AUTO, CDP_POLICY_BALANCED_LOW_0, CDP_POLICY_SEQUENTIAL};

/* A problem with room for its own numbers. */
typedef struct problem {
    cdp_split_input in;
    uint64_t layers[MAX_LAYERS], budgets[MAX_RANKS];
} problem;

static inline void describe(char *out, size_t size, const problem *p, const int *ends) {
    size_t used = (size_t)snprintf(out, size, "layers");
    for (int l = 0; l < p->in.n_layers; l++)
        used += (size_t)snprintf(out + used, size - used, " %llu", (unsigned long long)p->layers[l]);
    used += (size_t)snprintf(out + used, size - used, " vocab %llu fixed %llu budgets",
                             (unsigned long long)p->in.vocab_bytes, (unsigned long long)p->in.fixed_bytes);
    for (int r = 0; r < p->in.n_ranks; r++)
        used += (size_t)snprintf(out + used, size - used, " %llu", (unsigned long long)p->budgets[r]);
    used += (size_t)snprintf(out + used, size - used, " ends");
    for (int r = 0; r < p->in.n_ranks; r++)
        used += (size_t)snprintf(out + used, size - used, " %d", ends[r]);
}

static inline uint64_t bottleneck(const problem *p, const int *ends) {
    uint64_t most = 0;
    for (int r = 0; r < p->in.n_ranks; r++) {
        const uint64_t total = cdp_split_total(&p->in, ends, r);
        most = total > most ? total : most;
    }
    return most;
}

/* The input points into the problem, so it is set where the problem lies. */
static inline bool split(problem *p, cdp_policy policy, int *ends) {
    bool fits;
    p->in.layer_bytes = p->layers;
    p->in.budget_bytes = p->budgets;
    assert_int_equal(cdp_split(ends, &fits, policy, &p->in), CDP_OK);
    return fits;
}

static inline void expect_ends(const problem *p, const int *found, const int *expected, const char *what) {
    char text[1024], other[1024];
    if (memcmp(found, expected, (size_t)p->in.n_ranks * sizeof *found) == 0)
        return;
    describe(text, sizeof text, p, found);
    describe(other, sizeof other, p, expected);
    fail_msg("%s: %s\n   expected: %s", what, text, other);
}
