/* Every operation of the CUDA device against ref, in every order of threads and blocks: the cases that the
 * CPU tiers run (tests/support/layer_case.h). And what is the GPU's own: padding rows change nothing, a row's
 * bits do not depend on the company of a short step, a repeated step has the same bits; a block works for its
 * own rows alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/gpu/orders.h"
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

static float *copy_of(const float *from, size_t n) {
    float *to = malloc(n * sizeof *to);
    memcpy(to, from, n * sizeof *to);
    return to;
}

/* The sanitizers make the threads of a block slow, and orders are nothing to them: they see each case in one,
 * and one format of recorded products. */
#ifdef __SANITIZE_ADDRESS__
enum { N_TURNS = 1, N_RECORDED = 1 };
#else
enum { N_TURNS = 2, N_RECORDED = 3 };
#endif

/* Against ref; and the logits of each step have the same bits in every order. The steps are played again and
 * again on one cache: each writes what it wrote before. */
static void test_against_ref(void **state) {
    (void)state;
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_spec *spec = &test_layer_specs[i];
        layer_case *want = test_layer_open(spec, ref()), *got = test_layer_open(spec, gpu());
        for (int step = 0; step < test_layer_steps(); step++) {
            const int n_rows = test_layer_play(want, step);
            const size_t n = (size_t)n_rows * (size_t)spec->vocab;
            float *bits = NULL;
            /* The first order, and one of the others each time. */
            for (int turn = 0; turn < N_TURNS; turn++) {
                const int order =
                    turn == 0 ? 0 : 1 + (i + step) % (test_n_orders() > 1 ? test_n_orders() - 1 : 1);
                test_set_order(order);
                test_layer_play(got, step);
                test_layer_compare(got, want, n_rows);
                if (bits == NULL)
                    bits = copy_of(got->logits, n);
                else if (memcmp(bits, got->logits, n * sizeof(float)) != 0)
                    fail_msg("%s: step %d has other bits in order %d", spec->name, step, order);
            }
            free(bits);
        }
        test_layer_close(got);
        test_layer_close(want);
    }
    test_set_order(0);
}

/* Steps of up to CUDA_FEW_ROWS rows: alone, beside others, and with padding rows between and behind. */
static void test_company(void **state) {
    (void)state;
    for (int i = 0; i < test_n_layer_specs; i++) {
        const layer_spec *spec = &test_layer_specs[i];
        layer_case *alone = test_layer_open(spec, gpu()), *beside = test_layer_open(spec, gpu());
        for (int at = 0; at < 12; at += 4) {
            test_layer_add_rows(alone, 0, at, 4);
            test_layer_run(alone);
            test_layer_add_rows(beside, 1, at / 4 * 2, 2);
            test_layer_add_rows(beside, -1, 0, 1);
            test_layer_add_rows(beside, 0, at, 4);
            test_layer_add_rows(beside, -1, 0, at % 8 == 0 ? 1 : 9);
            test_layer_run(beside);
            const size_t n = 4 * (size_t)spec->vocab, before = 3 * (size_t)spec->vocab;
            if (memcmp(alone->logits, beside->logits + before, n * sizeof(float)) != 0)
                fail_msg("%s: rows at %d have other bits in company", spec->name, at);
        }
        test_layer_close(beside);
        test_layer_close(alone);
    }
}

/* Steps of one and of two rows in turn, recorded and replayed at ever new positions and tokens: a replay
 * reads them from the device, and takes the graph of its own row count. */
static void test_recorded(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) { /* bf16, fp32, fp16 */
        const layer_spec *spec = &test_layer_specs[i];
        const layer_pair pair = test_pair_open(spec, ref(), gpu());
        pair.got->is_recorded = true;
        for (int step = 0; step < 10; step++) {
            test_pair_add_rows(&pair, 0, step, 1);
            if (step % 2 == 1)
                test_pair_add_rows(&pair, 1, step / 2, 1);
            test_pair_run(&pair);
        }
        test_pair_close(&pair);
    }
}

/* The same with more rows than the kernels for few take: cuBLASLt's products in a graph. Steps of 20 rows
 * of one sequence and of 64 of two others in turn: each plain, recorded, and replayed. */
static void test_recorded_products(void **state) {
    (void)state;
    for (int i = 0; i < N_RECORDED; i++) { /* bf16, fp32, fp16 */
        const layer_spec *spec = &test_layer_specs[i];
        const layer_pair pair = test_pair_open(spec, ref(), gpu());
        pair.got->is_recorded = true;
        for (int step = 0; step < 6; step++) {
            if (step % 2 == 0) {
                test_pair_add_rows(&pair, 2, step / 2 * 20, 20);
            } else {
                test_pair_add_rows(&pair, 0, step / 2 * 32, 32);
                test_pair_add_rows(&pair, 1, step / 2 * 32, 32);
            }
            test_pair_run(&pair);
        }
        test_pair_close(&pair);
    }
}

#ifdef CDP_STANDIN
/* Meetings of threads in one gate_up, whose norm is part of the product, of the first n rows of the last run.
 */
static uint64_t gate_up_meetings(layer_case *c, int n_rows) {
    const uint64_t before = standin_count().meetings;
    c->view.n_rows = n_rows;
    assert_int_equal(c->ops->gate_up(c->device, &c->shape, &c->layer, &c->view, &c->buf), CDP_OK);
    cdp_device_drain(c->device);
    return standin_count().meetings - before;
}

/* The first buffer has loaded every kernel of the program: no launch of the cases above had to. */
static void test_all_loaded(void **state) {
    (void)state;
    assert_int_equal(standin_count().late_kernels, 0);
}

/* A block of eight rows norms and sums up those that it has, not all of the step's, nor eight where there are
 * four. */
static void test_own_rows(void **state) {
    (void)state;
    layer_case *c = test_layer_open(&test_layer_specs[1], gpu()); /* fp32 */
    test_layer_add_rows(c, 0, 0, 16);
    test_layer_run(c);
    const uint64_t four = gate_up_meetings(c, 4);
    assert_int_equal(gate_up_meetings(c, 8), 2 * four);
    assert_int_equal(gate_up_meetings(c, 16), 4 * four);
    test_layer_close(c);
}
#endif

/* Few sizes of steps, as each is loaded and recorded anew, and little padding. */
static void test_buckets(void **state) {
    (void)state;
    cdp_device *device = gpu();
    int n_sizes = 0, last = 0;
    for (int n = 1; n <= 4096; n++) {
        const int rows = cdp_device_ops(device)->bucket(n);
        if (rows < n || rows < last || (n > 64 && rows - n >= 64 && 4 * (rows - n) >= n))
            fail_msg("%d rows become %d", n, rows);
        n_sizes += rows != last;
        last = rows;
    }
    assert_in_range(n_sizes, 7, 26);
    cdp_device_close(device);
}

static void test_commands(void **state) {
    (void)state;
    test_layer_commands(gpu());
}

/* What a plan has counted too low is told with its numbers, before anything is written where others have
 * their memory. */
static void test_slab_is_short(void **state) {
    (void)state;
    cdp_device *device = gpu();
    void *first = NULL, *second = NULL;
    assert_int_equal(cdp_device_reserve(device, 4096), CDP_OK);
    assert_int_equal(cdp_device_alloc(device, &first, 3000), CDP_OK);
    assert_int_equal(cdp_device_alloc(device, &second, 3000), CDP_INTERNAL);
    assert_null(second);
    assert_non_null(strstr(cdp_error_message(), "a buffer of 3000 bytes, but "));
    assert_non_null(strstr(cdp_error_message(), " of the 4096 that the plan counted are left"));
    cdp_error_clear();
    cdp_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_ref), cmocka_unit_test(test_company),
        cmocka_unit_test(test_recorded),    cmocka_unit_test(test_recorded_products),
        cmocka_unit_test(test_commands),    cmocka_unit_test(test_slab_is_short),
        cmocka_unit_test(test_buckets),
#ifdef CDP_STANDIN
        cmocka_unit_test(test_own_rows),    cmocka_unit_test(test_all_loaded),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
