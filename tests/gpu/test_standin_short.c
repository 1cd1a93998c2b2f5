/* What the libraries of a GPU may be short of, every time they are asked: the operations do without, against
 * ref. A setting of the whole process, therefore a program of its own.
 *
 * What it catches: an end of the run where a slower road leads on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/standin/standin.h"
#include "tests/support/device.h"
#include "tests/support/layer_case.h"

static cdp_device *ref(void) {
    return test_cpu((cdp_cpu_options){.n_threads = 1, .ops = &cdp_ops_ref});
}

static cdp_device *gpu(void) {
    cdp_device *device = NULL;
    const cdp_cuda_options options = {.index = 0};
    if (cdp_device_open_cuda(&device, &options) != CDP_OK)
        fail_msg("%s", cdp_error_message());
    return device;
}

/* Steps of one row and of two in turn, of which the second and every later one would be recorded or replayed:
 * one's graph cannot be made, two's cannot be launched. */
static void without_memory_for_graphs(void **state) {
    (void)state;
    layer_case *want = test_layer_open(&test_layer_specs[0], ref()),
               *got = test_layer_open(&test_layer_specs[0], gpu());
    layer_case *both[] = {want, got};
    got->is_recorded = true;
    for (int step = 0; step < 8; step++) {
        const int n_rows = step % 2 + 1;
        for (int k = 0; k < 2; k++) {
            for (int slot = 0; slot < n_rows; slot++)
                test_layer_add_rows(both[k], slot, slot == 0 ? step : step / 2, 1);
            test_layer_run(both[k]);
        }
        test_layer_compare(got, want, n_rows);
    }
    test_layer_close(got);
    test_layer_close(want);
}

/* Steps of more rows than the kernels for few are for, and of one, of every form of layer. */
static void without_products_of_many_rows(void **state) {
    (void)state;
    for (int i = 0; i < test_n_layer_specs; i++) {
        layer_case *want = test_layer_open(&test_layer_specs[i], ref()),
                   *got = test_layer_open(&test_layer_specs[i], gpu());
        layer_case *both[] = {want, got};
        for (int step = 0; step < 3; step++) {
            const int n_rows = step < 2 ? 20 : 1;
            for (int k = 0; k < 2; k++) {
                test_layer_add_rows(both[k], 2, step * 20, n_rows);
                test_layer_run(both[k]);
            }
            test_layer_compare(got, want, n_rows);
        }
        test_layer_close(got);
        test_layer_close(want);
    }
    assert_int_equal(standin_count().products, 0);
}

int main(void) {
    setenv("STANDIN_FAULT", "product:none:0,graph:memory,graph:upload", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_products_of_many_rows),
        cmocka_unit_test(without_memory_for_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
