/* The loops behind the measured peak, and how much memory the measured stream reads. What it catches: turns
 * that are counted but not done (a sum left out by the compiler or by a change), a buffer that fits a cache.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/cpu/measure.h"
#include "tests/kernels/tiles_trap.h"
#include "tests/support/device.h"

#if defined(__x86_64__)
extern const cdp_peak cdp_ops_amx_twin_peak, cdp_ops_amx_trapped_peak; /* as in test_layer.c */
#endif

enum { THREADS = 2, N_SUMS = 12 };

/* Every turn is done by every worker; `sum` is that of one of them. */
static void run_job(cdp_job job, int n_turns, const float *data, double *sum_out) {
    cdp_device *device = test_cpu((cdp_cpu_options){.n_threads = THREADS, .tier = CDP_TIER_PLAIN});
    _Atomic uint64_t n_done = 0;
    _Atomic float sum = 0;
    const cdp_peak_args args = {.data = data, .n_turns = n_turns, .n_done = &n_done, .sum = &sum};
    assert_int_equal(cdp_cpu_submit(device, job, &args, sizeof args), CDP_OK);
    cdp_device_drain(device);
    cdp_device_close(device);
    assert_int_equal(n_done, THREADS * n_turns);
    *sum_out = sum;
}

static void check_close(const char *name, double found, double expected) {
    if (!(fabs(found - expected) <= 1e-4 * fabs(expected)))
        fail_msg("%s: the sums add up to %.9g, expected %.9g", name, found, expected);
}

/* As many lanes as the operations of a turn say. A factor that makes each turn tell. */
static void check_f32(const char *name, const cdp_peak *peak) {
    enum { TURNS = 5 };
    const int n_lanes = (int)(peak->f32_flop / 2 / N_SUMS);
    float data[CDP_PEAK_DATA];
    double found, expected = 0;
    cdp_peak_fill(data);
    data[0] = 0.875f;
    for (int i = 0; i < N_SUMS; i++)
        for (int lane = 0; lane < n_lanes; lane++) {
            double sum = data[i + lane];
            for (int turn = 0; turn < TURNS; turn++)
                sum = sum * data[0] + data[1];
            expected += sum;
        }
    run_job(peak->f32, TURNS, data, &found);
    check_close(name, found, expected);
}

/* The corner of a . b, where row 0 of a and the pairs of column 0 of b are what tile_peak_job loads. */
static void check_tiles(const char *name, const cdp_peak *peak) {
    enum { TURNS = 3, K = 32 };
    float data[CDP_PEAK_DATA];
    double found, expected = 0;
    cdp_peak_fill(data);
    for (int k = 0; k < K; k++) {
        const int place = k / 2 * K + k % 2; /* row k / 2 of b */
        expected += (double)cdp_bf16_to_f32(cdp_f32_to_bf16(data[k])) *
                    (double)cdp_bf16_to_f32(cdp_f32_to_bf16(data[place % CDP_PEAK_DATA]));
    }
    assert_true(peak->bf16_flop == 4 * 2.0 * 16 * 16 * K);
    run_job(peak->bf16, TURNS, data, &found);
    check_close(name, found, TURNS * expected);
}

static void test_tiers(void **state) {
    (void)state;
    for (int t = CDP_TIER_PLAIN; t <= (int)cdp_cpu_best_tier(); t++) {
        const cdp_peak *peak = cdp_peak_for(cdp_ops_for_tier((cdp_cpu_tier)t));
        check_f32(cdp_cpu_tier_name((cdp_cpu_tier)t), peak);
        if (t == CDP_TIER_AMX)
            check_tiles("amx", peak);
        else
            assert_true(peak->bf16 == peak->f32 && peak->bf16_flop == peak->f32_flop);
    }
}

static void test_tiles_twin(void **state) {
    (void)state;
    if (cdp_cpu_best_tier() < CDP_TIER_AVX2)
        skip();
#if defined(__x86_64__)
    check_tiles("amx twin", &cdp_ops_amx_twin_peak);
    test_tiles_trap();
    check_tiles("amx, trapped", &cdp_ops_amx_trapped_peak);
#endif
}

/* What is measured stays finite, and no sum comes to rest. */
static void test_data(void **state) {
    (void)state;
    float data[CDP_PEAK_DATA];
    double odd, even;
    cdp_peak_fill(data);
    run_job(cdp_peak_for(&cdp_ops_plain)->f32, 1000001, data, &odd);
    run_job(cdp_peak_for(&cdp_ops_plain)->f32, 1000002, data, &even);
    assert_true(odd > 1 && odd < 1000 && even > 1 && even < 1000 && fabs(odd - even) > 1);
}

static void test_stream(void **state) {
    (void)state;
    const uint64_t mib = 1 << 20, plenty = (uint64_t)1 << 40;
    assert_int_equal(cdp_stream_bytes(0, plenty), 128 * mib);
    assert_int_equal(cdp_stream_bytes(32 * mib, plenty), 128 * mib);
    assert_int_equal(cdp_stream_bytes(100 * mib, plenty), 200 * mib);
    assert_int_equal(cdp_stream_bytes(384 * mib, 1024 * mib), 256 * mib); /* a quarter of what is free */
    assert_int_equal(cdp_stream_bytes(384 * mib, 100 * mib), 128 * mib);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tiers), cmocka_unit_test(test_tiles_twin),
                                       cmocka_unit_test(test_data), cmocka_unit_test(test_stream)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
