/* Products of few rows with longer matrices than the models of other tests have: every step of a warp along
 * k, blocks of eight warps and of sixteen, tails; against sums in double, in every order of threads and
 * blocks. A row's bits are the same alone and beside others.
 *
 * What it catches: a step along k that is left out or taken twice, warps whose sums are not added, a split of
 * k that depends on the rows of a step.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/ops.h"
#include "tests/gpu/orders.h"
#include "tests/support/random.h"

enum { MAX_ROWS = 11 };

typedef struct product_case {
    cdp_dtype dtype;
    int n_out, k;
} product_case;

static const product_case cases[] = {
    {CDP_BF16, 40, 1024},   /* eight warps, a step each */
    {CDP_BF16, 40, 1032},   /* sixteen, nine of them busy, the last with a tail */
    {CDP_BF16, 24, 4400},   /* sixteen, two or three steps each */
    {CDP_F16, 24, 2056},    /* the second step of the first warp is a tail */
    {CDP_BF16, 2064, 1160}, /* too many outputs for sixteen: eight, two steps each */
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* One `down` of a layer that is nothing else. */
typedef struct product_of {
    cdp_device *device;
    const product_case *is;
    cdp_layer layer;
    cdp_buffers buffers;
    cdp_step_view step;
    float *weights, *x;                 /* (n_out, k), (MAX_ROWS, k): as rounded to the weights' type */
    void *hidden, *weights_on, *ffn_on; /* on the device */
    size_t hidden_bytes;
} product_of;

static void *on_device(product_of *p, const void *bytes, size_t n) {
    void *memory = NULL;
    assert_int_equal(cdp_device_alloc(p->device, &memory, n), CDP_OK);
    if (bytes != NULL)
        assert_int_equal(cdp_device_copy_in(p->device, memory, bytes, n), CDP_OK);
    cdp_device_drain(p->device);
    return memory;
}

/* n values in [-1, 1), and as `dtype` holds them in `raw`. */
static float *make_values(test_random *r, cdp_dtype dtype, size_t n, void *raw) {
    float *values = calloc(n, sizeof *values);
    for (size_t i = 0; i < n; i++) {
        cdp_store(raw, dtype, i, test_random_signed(r));
        values[i] = cdp_load(raw, dtype, i);
    }
    return values;
}

/* Rows as kernels.h lays them: 2 k floats of room, the values first; f16 ones over 16, with no low part. */
static void fill_rows(product_of *p, const void *raw) {
    const size_t k = (size_t)p->is->k, row_bytes = 2 * k * sizeof(float);
    char *rows = calloc(MAX_ROWS, row_bytes);
    for (size_t row = 0; row < MAX_ROWS; row++)
        for (size_t i = 0; i < k; i++) {
            const float value = cdp_load(raw, p->is->dtype, row * k + i);
            cdp_store(rows + row * row_bytes, p->is->dtype, i, p->is->dtype == CDP_F16 ? value / 16 : value);
        }
    p->ffn_on = on_device(p, rows, MAX_ROWS * row_bytes);
    free(rows);
}

static product_of *open_product(const product_case *is) {
    product_of *p = calloc(1, sizeof *p);
    test_random r = {7};
    p->is = is;
    const cdp_cuda_options options = {.index = 0};
    assert_int_equal(cdp_device_open_cuda(&p->device, &options), CDP_OK);
    const size_t n = (size_t)is->n_out * (size_t)is->k, n_x = MAX_ROWS * (size_t)is->k;
    void *raw = calloc(n + n_x, 2);
    p->weights = make_values(&r, is->dtype, n, raw);
    p->weights_on = on_device(p, raw, n * 2);
    p->x = make_values(&r, is->dtype, n_x, raw);
    fill_rows(p, raw);
    free(raw);
    p->hidden_bytes = (size_t)is->n_out * (is->dtype == CDP_BF16 ? 2 : 4);
    p->hidden = on_device(p, NULL, MAX_ROWS * p->hidden_bytes);
    p->layer.down = (cdp_tensor){p->weights_on, is->dtype, is->n_out, is->k, NULL};
    return p;
}

static void close_product(product_of *p) {
    cdp_device_free(p->device, p->hidden);
    cdp_device_free(p->device, p->ffn_on);
    cdp_device_free(p->device, p->weights_on);
    cdp_device_close(p->device);
    free(p->weights);
    free(p->x);
    free(p);
}

/* hidden = 0 + product, of n rows from the first on; out (n, n_out) as the device holds them. */
static void run(product_of *p, int first, int n, void *out) {
    const size_t n_bytes = (size_t)n * p->hidden_bytes;
    const cdp_shape shape = {.hidden = p->is->n_out,
                             .ffn = p->is->k,
                             .hidden_dtype = p->is->dtype == CDP_BF16 ? CDP_BF16 : CDP_F32,
                             .residual_scale = 1};
    p->buffers.ffn = (float *)p->ffn_on + (size_t)first * 2 * (size_t)p->is->k;
    p->step = (cdp_step_view){.n_rows = n, .hidden = p->hidden};
    memset(out, 0, n_bytes);
    assert_int_equal(cdp_device_copy_in(p->device, p->hidden, out, n_bytes), CDP_OK);
    cdp_device_drain(p->device); /* `out` is read before it is written to */
    const cdp_ops *ops = cdp_device_ops(p->device);
    assert_int_equal(ops->down(p->device, &shape, &p->layer, &p->step, &p->buffers), CDP_OK);
    assert_int_equal(cdp_device_copy_out(p->device, out, p->hidden, n_bytes), CDP_OK);
    cdp_device_drain(p->device);
    assert_int_equal(cdp_device_check(p->device), CDP_OK);
}

/* Sums of k products of some 1/3, with an error of f32; bf16 results are rounded once more. */
static void compare(const product_of *p, const void *got, int order) {
    const size_t k = (size_t)p->is->k, n_out = (size_t)p->is->n_out;
    const cdp_dtype dtype = p->is->dtype == CDP_BF16 ? CDP_BF16 : CDP_F32;
    for (size_t row = 0; row < MAX_ROWS; row++)
        for (size_t o = 0; o < n_out; o++) {
            double want = 0;
            for (size_t i = 0; i < k; i++)
                want += (double)p->x[row * k + i] * (double)p->weights[o * k + i];
            const double g = (double)cdp_load(got, dtype, row * n_out + o);
            const double limit = 1e-3 + (dtype == CDP_BF16 ? fabs(want) / 256 : 0);
            if (!(fabs(g - want) <= limit))
                fail_msg("(%d, %d), row %zu, output %zu, order %d: %.6g, exact %.6g", p->is->n_out, p->is->k,
                         row, o, order, g, want);
        }
}

static void test_long_rows(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        product_of *p = open_product(&cases[i]);
        char *all = malloc(MAX_ROWS * p->hidden_bytes), *some = malloc(MAX_ROWS * p->hidden_bytes);
        for (int order = 0; order < test_n_orders(); order += 2) {
            test_set_order(order);
            run(p, 0, MAX_ROWS, all);
            compare(p, all, order);
        }
        static const int steps[][2] = {{0, 1}, {10, 1}, {3, 8}};
        for (int s = 0; s < 3; s++) {
            run(p, steps[s][0], steps[s][1], some);
            if (memcmp(some, all + (size_t)steps[s][0] * p->hidden_bytes,
                       (size_t)steps[s][1] * p->hidden_bytes) != 0)
                fail_msg("(%d, %d): rows from %d on have other bits in a step of %d", p->is->n_out, p->is->k,
                         steps[s][0], steps[s][1]);
        }
        test_set_order(0);
        free(some);
        free(all);
        close_product(p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_long_rows)};
    return cmocka_run_group_tests_name("product", tests, NULL, NULL);
}
