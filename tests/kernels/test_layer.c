/* Every CPU tier against ref, and a row's bits against the company it keeps. The cases:
 * tests/support/layer_case.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/support/layer_case.h"

#if defined(__x86_64__)
extern const cdp_ops cdp_ops_tiles_twin; /* tests/kernels/tiles_twin.c */
#endif

static cdp_device *cpu(const cdp_ops *ops, int n_threads) {
    cdp_device *device = NULL;
    const cdp_cpu_options options = {.n_threads = n_threads, .ops = ops};
    assert_int_equal(cdp_device_open_cpu(&device, &options), CDP_OK);
    return device;
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

static const cdp_ops *tier(cdp_cpu_tier which) {
    const cdp_ops *ops = cdp_ops_for_tier(which);
    if (ops == NULL) {
        print_message("this processor has no %s\n", cdp_cpu_tier_name(which));
        skip();
    }
    return ops;
}

/* The AMX tier's kernels, with the matrix unit in plain C; NULL where AVX-512 is missing. */
static const cdp_ops *tiles_twin(void) {
#if defined(__x86_64__)
    if (cdp_cpu_best_tier() >= CDP_TIER_AVX512)
        return &cdp_ops_tiles_twin;
#endif
    return NULL;
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
}
static void test_amx_twin(void **state) {
    (void)state;
    if (tiles_twin() == NULL)
        skip();
    check_tier(tiles_twin());
}

static void check_same_bits(const cdp_ops *ops) {
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_spec *spec = &test_layer_specs[i];
        const size_t n = 40 * (size_t)spec->vocab;
        float *whole = calloc(n, sizeof *whole), *other = calloc(n, sizeof *other);
        test_layer_collect(spec, cpu(ops, 1), 40, false, whole);
        static const int chunks[] = {1, 2, 7, 16, 40};
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

static void test_same_bits(void **state) {
    (void)state;
    for (int which = CDP_TIER_PLAIN; which <= (int)cdp_cpu_best_tier(); which++)
        check_same_bits(cdp_ops_for_tier((cdp_cpu_tier)which));
    if (tiles_twin() != NULL)
        check_same_bits(tiles_twin());
}

static void test_commands(void **state) {
    (void)state;
    test_layer_commands(cpu(cdp_ops_for_tier(CDP_TIER_PLAIN), 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),    cmocka_unit_test(test_avx2),     cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_amx),      cmocka_unit_test(test_amx_twin), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
