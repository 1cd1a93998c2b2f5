/* Rounding between number formats: every 16-bit pattern there and back, ties to even, the edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/dtype.h"
#include "tests/support/random.h"

static void test_all_patterns(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const float half = cdp_f16_to_f32((uint16_t)bits), brain = cdp_bf16_to_f32((uint16_t)bits);
        assert_true(isnan(half) ? isnan(cdp_f16_to_f32(cdp_f32_to_f16(half))) : cdp_f32_to_f16(half) == bits);
        assert_true(isnan(brain) ? isnan(cdp_bf16_to_f32(cdp_f32_to_bf16(brain)))
                                 : cdp_f32_to_bf16(brain) == bits);
    }
}

/* The nearest of the two neighbours, and the even one between equals. */
static void check_nearest(float value, uint16_t got, float (*widen)(uint16_t)) {
    const double error = fabs((double)widen(got) - (double)value);
    const uint16_t up = (uint16_t)(got + 1), down = (uint16_t)(got - 1);
    const double above = fabs((double)widen(up) - (double)value),
                 below = fabs((double)widen(down) - (double)value);
    if (isnan(above) || isnan(below) || isinf((float)above) || isinf((float)below))
        return;
    assert_true(error <= above && error <= below);
    if (error == above || error == below)
        assert_true(error == 0 || (got & 1) == 0);
}

static void test_nearest(void **state) {
    (void)state;
    test_random r = {11};
    for (int i = 0; i < 200000; i++) {
        const float value = ldexpf(test_random_signed(&r), test_random_below(&r, 40) - 26);
        check_nearest(value, cdp_f32_to_f16(value), cdp_f16_to_f32);
        check_nearest(value, cdp_f32_to_bf16(value), cdp_bf16_to_f32);
    }
    for (uint32_t bits = 1; bits < 0x7BFF; bits++) { /* exactly between two halves */
        const float between = (cdp_f16_to_f32((uint16_t)bits) + cdp_f16_to_f32((uint16_t)(bits + 1))) / 2;
        check_nearest(between, cdp_f32_to_f16(between), cdp_f16_to_f32);
    }
}

static void test_edges(void **state) {
    (void)state;
    assert_int_equal(cdp_f32_to_f16(65519.0f), 0x7BFF);
    assert_int_equal(cdp_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(cdp_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(cdp_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(cdp_f32_to_f16(0x1p-25f), 0); /* half of the smallest: even is 0 */
    assert_int_equal(cdp_f32_to_f16(0x1.8p-25f), 1);
    assert_int_equal(cdp_f32_to_bf16(3.4e38f), 0x7F80);
    assert_int_equal(cdp_f32_to_bf16(INFINITY), 0x7F80);
    assert_true(isnan(cdp_round_bf16(NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_patterns),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
