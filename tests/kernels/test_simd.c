/* What kernels/cpu/simd.h says of its arithmetic, where no layer case reaches: e^x at the ends of f32 and
 * beyond, the larger and the smaller of two where one is no number. Compiled for AVX2 where the compiler has
 * it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/cpu/simd.h"
#include "kernels/device.h"

static void check_exp(float x, double of) {
    const vf got = v_exp(v_set(x));
    for (int lane = 0; lane < VF; lane++)
        if (!(fabs((double)got[lane] / exp(of) - 1.0) < 2e-7))
            fail_msg("e^%.9g is %.9g", (double)x, (double)got[lane]);
}

static void test_exp(void **state) {
    (void)state;
    for (int i = -8700; i <= 8800; i++)
        check_exp((float)i / 100.0f, (double)((float)i / 100.0f));
    check_exp(88.1f, 88.0);
    check_exp(1e30f, 88.0);
    check_exp(INFINITY, 88.0);
    check_exp(-87.1f, -87.0);
    check_exp(-INFINITY, -87.0);
    check_exp(NAN, -87.0);
}

static void test_larger_and_smaller(void **state) {
    (void)state;
    const vf one = v_set(1.0f), two = v_set(2.0f), nan = v_set(NAN);
    for (int lane = 0; lane < VF; lane++) {
        assert_true(v_max(one, two)[lane] == 2.0f && v_max(two, one)[lane] == 2.0f);
        assert_true(v_min(one, two)[lane] == 1.0f && v_min(two, one)[lane] == 1.0f);
        assert_true(v_max(nan, one)[lane] == 1.0f && isnan(v_max(one, nan)[lane]));
        assert_true(v_min(nan, one)[lane] == 1.0f && isnan(v_min(one, nan)[lane]));
    }
}

int main(void) {
#if defined(__AVX2__)
    if (cdp_cpu_best_tier() < CDP_TIER_AVX2) {
        printf("compiled for AVX2, which this processor has not\n");
        return 77;
    }
#endif
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exp), cmocka_unit_test(test_larger_and_smaller)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
