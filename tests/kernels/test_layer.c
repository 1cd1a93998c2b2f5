/* Every CPU tier against ref, and a row's bits against the company it keeps. The cases:
 * tests/support/layer_case.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/kernels/tiles_trap.h"
#include "tests/support/device.h"
#include "tests/support/layer_case.h"

#if defined(__x86_64__)
/* kernels/cpu/amx.c once more (tests/CMakeLists.txt): the matrix unit in plain C, and in instructions that
 * may trap. */
extern const cdp_ops cdp_ops_amx_twin, cdp_ops_amx_twin_avx512, cdp_ops_amx_trapped;
#endif

static cdp_device *cpu(const cdp_ops *ops, int n_threads) {
    return test_cpu((cdp_cpu_options){.n_threads = n_threads, .ops = ops});
}

static void check_tier(const cdp_ops *ops) {
    for (int i = 0; i < test_n_layer_specs; i++) {
        layer_case *want = test_layer_open(&test_layer_specs[i], cpu(&cdp_ops_ref, 1));
        layer_case *got = test_layer_open(&test_layer_specs[i], cpu(ops, 2));
        for (int step = 0; step < test_layer_steps(); step++) {
            const int n_rows = test_layer_play(want, step);
            test_layer_play(got, step);
            test_layer_compare(got, want, n_rows);
        }
        test_layer_close(got);
        test_layer_close(want);
    }
}

static void check_same_bits(const cdp_ops *ops) {
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_spec *spec = &test_layer_specs[i];
        const size_t n = TEST_LAYER_COLLECTED * (size_t)spec->vocab;
        float *whole = calloc(n, sizeof *whole), *other = calloc(n, sizeof *other);
        test_layer_collect(spec, cpu(ops, 1), TEST_LAYER_COLLECTED, false, whole);
        static const int chunks[] = {1, 2, 7, 13, 29, TEST_LAYER_COLLECTED}; /* 13 + 3, 29 + 3: whole tiles */
        for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
            const bool has_company = chunks[k] >= 2;
            test_layer_collect(spec, cpu(ops, 2), chunks[k], has_company, other);
            if (memcmp(whole, other, n * sizeof *whole) != 0)
                fail_msg("%s, %s: chunk %d in company %d has other bits", spec->name, ops->name, chunks[k],
                         has_company);
        }
        free(whole);
        free(other);
    }
}

/* Of a prompt's contexts few are rounded to another bf16 than ref's: one bf16 for each probability would be
 * near enough for check_tier, but not for a model. */
static void check_near(const cdp_ops *ops) {
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_spec *spec = &test_layer_specs[i];
        layer_case *want = test_layer_open(spec, cpu(&cdp_ops_ref, 1));
        layer_case *got = test_layer_open(spec, cpu(ops, 2));
        const int n = test_layer_play(want, 0) * spec->n_heads * spec->head_dim;
        int n_other = 0;
        test_layer_play(got, 0);
        for (int k = 0; k < n; k++)
            n_other += got->context[k] != want->context[k];
        if (spec->dtype == CDP_BF16 && spec->kv_dtype == CDP_BF16 && n_other > n / 50)
            fail_msg("%s, %s: %d of %d contexts are not ref's", spec->name, ops->name, n_other, n);
        test_layer_close(got);
        test_layer_close(want);
    }
}

static const cdp_ops *tier(cdp_cpu_tier which) {
    const cdp_ops *ops = cdp_ops_for_tier(which);
    if (ops == NULL) {
        print_message("this processor has no %s\n", cdp_cpu_tier_name(which));
        skip();
    }
    return ops;
}

static void test_plain(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_PLAIN));
}
static void test_avx2(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_AVX2));
}
static void test_avx512(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_AVX512));
}

static void test_amx(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_AMX));
    check_near(tier(CDP_TIER_AMX));
}

#if defined(__x86_64__)
/* All results of two tables, bit for bit. */
static void check_equal(const cdp_ops *ops, const cdp_ops *other) {
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_spec *spec = &test_layer_specs[i];
        const size_t n = TEST_LAYER_COLLECTED * (size_t)spec->vocab;
        float *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
        test_layer_collect(spec, cpu(ops, 1), TEST_LAYER_COLLECTED, true, want);
        test_layer_collect(spec, cpu(other, 2), TEST_LAYER_COLLECTED, true, got);
        if (memcmp(want, got, n * sizeof *want) != 0)
            fail_msg("%s: %s and %s have other bits", spec->name, ops->name, other->name);
        free(want);
        free(got);
    }
}

static void demand(cdp_cpu_tier which) {
    if (cdp_cpu_best_tier() < which)
        skip();
}
static void test_amx_twin(void **state) {
    (void)state;
    demand(CDP_TIER_AVX2);
    check_tier(&cdp_ops_amx_twin);
    check_near(&cdp_ops_amx_twin);
    check_same_bits(&cdp_ops_amx_twin);
}
static void test_amx_twin_avx512(void **state) {
    (void)state;
    demand(CDP_TIER_AVX512);
    check_tier(&cdp_ops_amx_twin_avx512);
    check_near(&cdp_ops_amx_twin_avx512);
    check_same_bits(&cdp_ops_amx_twin_avx512);
}
/* What the compiler made of the instructions: one that reads memory too early, or finds a store left out,
 * shows. */
static void test_amx_trapped(void **state) {
    (void)state;
    demand(CDP_TIER_AVX2);
    test_tiles_trap();
    check_equal(&cdp_ops_amx_trapped, &cdp_ops_amx_twin);
    assert_true((test_tiles_trapped() > 0) == (cdp_cpu_best_tier() < CDP_TIER_AMX));
}
static void test_amx_unit(void **state) {
    (void)state;
    check_equal(tier(CDP_TIER_AMX), &cdp_ops_amx_twin_avx512);
}
#endif

static void test_same_bits(void **state) {
    (void)state;
    for (int which = CDP_TIER_PLAIN; which <= (int)cdp_cpu_best_tier(); which++)
        check_same_bits(cdp_ops_for_tier((cdp_cpu_tier)which));
}

static void test_commands(void **state) {
    (void)state;
    test_layer_commands(cpu(cdp_ops_for_tier(CDP_TIER_PLAIN), 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_amx),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_commands),
#if defined(__x86_64__)
        cmocka_unit_test(test_amx_twin),
        cmocka_unit_test(test_amx_twin_avx512),
        cmocka_unit_test(test_amx_trapped),
        cmocka_unit_test(test_amx_unit),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
