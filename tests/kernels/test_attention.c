/* Attention over several groups of positions (kernels/cpu/attention_items.h): every CPU tier against ref, and
 * the same bits whether a step's groups are merged as they come or by a second job, by whichever workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/support/device.h"
#include "tests/support/layer_case.h"

#if defined(__x86_64__)
extern const cdp_ops cdp_ops_amx_twin;
#endif

/* Two and a half groups of 128; the tail is fed in other ways. */
enum { POSITIONS = 320, CHUNK = 80, TAIL = 240 };

#define NONE CDP_HEAD_NORM_NONE
static const layer_spec specs[] = {
    {"groups_of_three", 64, 6, 2, 32, 200, 24, 32, 0, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
    {"window_of_150", 64, 4, 2, 32, 200, 24, 32, 150, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
    {"odd_heads", 63, 9, 3, 22, 200, 24, 22, 0, CDP_F32, CDP_F32, NONE, false, true, false, 1},
    {"more_heads_than_an_item", 44, 52, 1, 16, 400, 24, 16, 0, CDP_F32, CDP_F32, NONE, false, true, false, 1},
    {"one_head_f16", 32, 1, 1, 64, 40, 24, 64, 100, CDP_F16, CDP_F16, NONE, false, true, false, 1},
    {"no_room_for_parts", 32, 4, 4, 32, 2, 24, 32, 0, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
};
enum { N_SPECS = sizeof specs / sizeof specs[0] };

static layer_case *open_case(const layer_spec *spec, const cdp_ops *ops, int n_threads) {
    return test_layer_open(spec, test_cpu((cdp_cpu_options){.n_threads = n_threads, .ops = ops}));
}

/* n rows of slot 0 from `at` on, the context of each into out; company: a row of another sequence and a
 * padding row. */
static void feed(layer_case *c, int at, int n, bool has_company, float *out) {
    const size_t width = (size_t)(c->spec->n_heads * c->spec->head_dim);
    if (has_company)
        test_layer_add_rows(c, 1, (at - TAIL) / n, 1);
    test_layer_add_rows(c, 0, at, n);
    if (has_company)
        test_layer_add_rows(c, -1, 0, 1);
    test_layer_run(c);
    memcpy(out + (size_t)at * width, c->context + (has_company ? width : 0), (size_t)n * width * sizeof *out);
}

static void check_near_ref(const layer_spec *spec, const cdp_ops *ops, float *out) {
    layer_case *want = open_case(spec, &cdp_ops_ref, 1), *got = open_case(spec, ops, 1);
    for (int at = 0; at < POSITIONS; at += CHUNK) {
        feed(want, at, CHUNK, false, out);
        feed(got, at, CHUNK, false, out);
        test_layer_compare(got, want, CHUNK);
    }
    test_layer_close(want);
    test_layer_close(got);
}

/* The first TAIL positions in chunks of CHUNK, the others in chunks of `chunk`. */
static void collect(const layer_spec *spec, const cdp_ops *ops, int n_threads, int chunk, bool has_company,
                    float *out) {
    layer_case *c = open_case(spec, ops, n_threads);
    for (int at = 0; at < TAIL; at += CHUNK)
        feed(c, at, CHUNK, false, out);
    for (int at = TAIL; at < POSITIONS; at += chunk)
        feed(c, at, chunk, has_company, out);
    test_layer_close(c);
}

static void check_tier(const cdp_ops *ops) {
    for (int i = 0; i < N_SPECS; i++) {
        const layer_spec *spec = &specs[i];
        const size_t n = (size_t)(POSITIONS * spec->n_heads * spec->head_dim);
        float *whole = calloc(n, sizeof *whole), *other = calloc(n, sizeof *other);
        check_near_ref(spec, ops, whole);
        static const struct {
            int n_threads, chunk;
            bool has_company;
        } ways[] = {{1, 1, false}, {5, 1, true}, {2, 1, false}, {3, 5, false}, {2, 20, true}, {4, 80, false}};
        for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
            collect(spec, ops, ways[k].n_threads, ways[k].chunk, ways[k].has_company, other);
            if (memcmp(whole, other, n * sizeof *whole) != 0)
                fail_msg("%s, %s: chunks of %d on %d threads, company %d: other bits", spec->name, ops->name,
                         ways[k].chunk, ways[k].n_threads, ways[k].has_company);
        }
        free(whole);
        free(other);
    }
}

static void test_tiers(void **state) {
    (void)state;
    for (int which = CDP_TIER_PLAIN; which <= (int)cdp_cpu_best_tier(); which++)
        check_tier(cdp_ops_for_tier((cdp_cpu_tier)which));
}

static void test_amx_twin(void **state) {
    (void)state;
#if defined(__x86_64__)
    if (cdp_cpu_best_tier() >= CDP_TIER_AVX2) {
        check_tier(&cdp_ops_amx_twin);
        return;
    }
#endif
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_amx_twin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
