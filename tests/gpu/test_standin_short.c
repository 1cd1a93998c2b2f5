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

/* Steps of one row, of two and of three in turn, of which the second and every later one would be recorded or
 * replayed: of one a launch is refused meanwhile, of two the graph cannot be made, of three not launched. */
static void without_graphs(void **state) {
    (void)state;
    const layer_pair pair = test_pair_open(&test_layer_specs[0], ref(), gpu());
    pair.got->is_recorded = true;
    for (int step = 0, at[3] = {0}; step < 9; step++) {
        for (int slot = 0; slot <= step % 3; slot++)
            test_pair_add_rows(&pair, slot, at[slot]++, 1);
        test_pair_run(&pair);
    }
    test_pair_close(&pair);
}

/* Steps of more rows than the kernels for few are for, and of one, of every form of layer. */
static void without_products_of_many_rows(void **state) {
    (void)state;
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_pair pair = test_pair_open(&test_layer_specs[i], ref(), gpu());
        for (int step = 0; step < 3; step++) {
            test_pair_add_rows(&pair, 2, step * 20, step < 2 ? 20 : 1);
            test_pair_run(&pair);
        }
        test_pair_close(&pair);
    }
    assert_int_equal(standin_count().products, 0);
}

int main(void) {
    setenv("STANDIN_FAULT", "product:none:0,capture:refused:5,graph:memory,graph:upload", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_products_of_many_rows),
        cmocka_unit_test(without_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
