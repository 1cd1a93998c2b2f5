/* Attention of prompts longer than the layer cases' (tests/support/layer_case.h), on a cache filled at
 * random:
 *
 *   - the kernel for many rows gives what the one for few rows gives, whose truth is ref in test_layer.c
 *   - a row's bits depend neither on the chunk it comes in, nor on its company, nor on the order of threads
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/attend_sizes.h"
#include "kernels/cuda/device.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"
#include "tests/gpu/orders.h"
#include "tests/support/random.h"

enum { SLOTS = 3, BLOCKS = 16, ROWS = 240, LENGTH = BLOCKS * CDP_BLOCK_TOKENS, MANY = CUDA_SPLIT_ROWS + 1 };

/* Heads of one and of two tiles a warp, groups that fill a block's vectors and that do not, windows of less
 * than a tile and of several, both 16-bit caches. */
typedef struct attend_spec {
    const char *name;
    int n_heads, n_kv_heads, head_dim, window;
    cdp_dtype kv_dtype;
} attend_spec;

static const attend_spec specs[] = {
    {"heads of 128", 4, 1, 128, 0, CDP_BF16},        {"heads of 64, window 100", 6, 2, 64, 100, CDP_BF16},
    {"heads of 80, f16", 2, 2, 80, 0, CDP_F16},      {"heads of 128, f16", 1, 1, 128, 0, CDP_F16},
    {"heads of 256", 3, 1, 256, 150, CDP_BF16},      {"heads of 256, f16", 1, 1, 256, 0, CDP_F16},
    {"heads of 16, window 7", 5, 1, 16, 7, CDP_F16},
};
enum { N_SPECS = sizeof specs / sizeof specs[0] };

typedef struct attend_case {
    const attend_spec *spec;
    cdp_device *device;
    cdp_shape shape;
    cdp_layer layer;
    cdp_buffers buffers;
    int32_t *arrays; /* (2, ROWS): slot, position */
    int32_t slot[ROWS], position[ROWS];
    int n_rows; /* added since the last run */
    float *q;   /* (SLOTS, LENGTH, n_heads * head_dim) on the host */
    float *context;
} attend_case;

static int q_cols(const attend_case *c) {
    return c->spec->n_heads * c->spec->head_dim;
}

static int qkv_cols(const attend_case *c) {
    return (c->spec->n_heads + 2 * c->spec->n_kv_heads) * c->spec->head_dim;
}

static void *grab(attend_case *c, size_t n_bytes) {
    void *memory = NULL;
    assert_int_equal(cdp_device_alloc(c->device, &memory, n_bytes), CDP_OK);
    return memory;
}

static void upload(const attend_case *c, void *to, const void *from, size_t n_bytes) {
    assert_int_equal(cdp_device_copy_in(c->device, to, from, n_bytes), CDP_OK);
    cdp_device_drain(c->device);
}

/* n values of `dtype`, as large as scores need to differ much. */
static void *random_values(test_random *r, cdp_dtype dtype, size_t n) {
    char *values = malloc(n * cdp_dtype_bytes(dtype));
    for (size_t i = 0; i < n; i++)
        cdp_store(values, dtype, i, 3.0f * test_random_signed(r));
    return values;
}

static void fill(attend_case *c) {
    test_random r = {7};
    const size_t n = SLOTS * BLOCKS * cdp_device_ops(c->device)->kv_block_bytes(&c->shape) / 2;
    void *cache = random_values(&r, c->spec->kv_dtype, n);
    c->layer.kv = grab(c, n * 2);
    upload(c, c->layer.kv, cache, n * 2);
    free(cache);
    int32_t tables[SLOTS * BLOCKS];
    for (int i = 0; i < SLOTS * BLOCKS; i++)
        tables[i] = (i * 7) % (SLOTS * BLOCKS);
    upload(c, c->buffers.tables, tables, sizeof tables);
    const size_t n_q = (size_t)(SLOTS * LENGTH * q_cols(c));
    c->q = random_values(&r, CDP_F32, n_q);
    for (size_t i = 0; c->shape.hidden_dtype == CDP_BF16 && i < n_q; i++)
        cdp_store(c->q, CDP_F32, i, cdp_bf16_to_f32(cdp_f32_to_bf16(c->q[i])));
}

static attend_case *open_case(const attend_spec *spec) {
    attend_case *c = calloc(1, sizeof *c);
    c->spec = spec;
    const cdp_cuda_options options = {.index = 0};
    if (cdp_device_open_cuda(&c->device, &options) != CDP_OK)
        fail_msg("%s", cdp_error_message());
    c->shape = (cdp_shape){.hidden = 16,
                           .n_heads = spec->n_heads,
                           .n_kv_heads = spec->n_kv_heads,
                           .head_dim = spec->head_dim,
                           .hidden_dtype = spec->kv_dtype == CDP_BF16 ? CDP_BF16 : CDP_F32,
                           .kv_dtype = spec->kv_dtype,
                           .attn_scale = 1.0f / sqrtf((float)spec->head_dim)};
    c->layer.window = spec->window;
    c->layer.attn_out.dtype = CDP_F32; /* so contexts come as f32 */
    c->buffers.qkv = grab(c, (size_t)(ROWS * qkv_cols(c)) * 4);
    c->buffers.context = grab(c, (size_t)(ROWS * q_cols(c)) * 4);
    c->buffers.tables = grab(c, (size_t)SLOTS * BLOCKS * 4);
    c->buffers.max_blocks = BLOCKS;
    c->arrays = grab(c, sizeof c->slot + sizeof c->position);
    c->context = calloc((size_t)(ROWS * q_cols(c)), 4);
    fill(c);
    return c;
}

static void close_case(attend_case *c) {
    void *owned[] = {c->layer.kv, c->buffers.qkv, c->buffers.context, c->buffers.tables, c->arrays};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        cdp_device_free(c->device, owned[i]);
    cdp_device_close(c->device);
    free(c->q);
    free(c->context);
    free(c);
}

static void add_rows(attend_case *c, int slot, int position, int n) {
    for (int i = 0; i < n; i++, c->n_rows++) {
        assert_true(c->n_rows < ROWS);
        c->slot[c->n_rows] = slot;
        c->position[c->n_rows] = slot < 0 ? 0 : position + i;
    }
}

/* Contexts of the rows added, on the host. */
static void attend(attend_case *c) {
    const size_t n = (size_t)q_cols(c), n_bytes = (size_t)c->n_rows * n * 4;
    float *qkv = calloc((size_t)(c->n_rows * qkv_cols(c)), 4);
    for (int row = 0; row < c->n_rows; row++)
        if (c->slot[row] >= 0)
            memcpy(qkv + row * qkv_cols(c), c->q + (size_t)(c->slot[row] * LENGTH + c->position[row]) * n,
                   n * 4);
    upload(c, c->buffers.qkv, qkv, (size_t)(c->n_rows * qkv_cols(c)) * 4);
    free(qkv);
    upload(c, c->arrays, c->slot, sizeof c->slot);
    upload(c, c->arrays + ROWS, c->position, sizeof c->position);
    memset(c->context, 0xFF, n_bytes);
    upload(c, c->buffers.context, c->context, n_bytes);
    const cdp_step_view view = {.n_rows = c->n_rows, .slot = c->arrays, .position = c->arrays + ROWS};
    assert_int_equal(cdp_device_ops(c->device)->attend(c->device, &c->shape, &c->layer, &view, &c->buffers),
                     CDP_OK);
    assert_int_equal(cdp_device_copy_out(c->device, c->context, c->buffers.context, n_bytes), CDP_OK);
    cdp_device_drain(c->device);
    assert_int_equal(cdp_device_check(c->device), CDP_OK);
    c->n_rows = 0;
}

/* Positions 0 .. n-1 of slot 0 by the kernel for few rows. */
static float *by_few(attend_case *c, int n) {
    float *out = calloc((size_t)(n * q_cols(c)), 4);
    for (int at = 0; at < n; at += CUDA_SPLIT_ROWS / 2) {
        const int n_here = n - at < CUDA_SPLIT_ROWS / 2 ? n - at : CUDA_SPLIT_ROWS / 2;
        add_rows(c, 0, at, n_here);
        attend(c);
        memcpy(out + at * q_cols(c), c->context, (size_t)(n_here * q_cols(c)) * 4);
    }
    return out;
}

static void test_many_as_few(void **state) {
    (void)state;
    for (int i = 0; i < N_SPECS; i++) {
        attend_case *c = open_case(&specs[i]);
        float *want = by_few(c, ROWS);
        add_rows(c, 0, 0, ROWS);
        attend(c);
        for (int at = 0; at < ROWS * q_cols(c); at++)
            if (!(fabsf(c->context[at] - want[at]) <= 2e-5f + 1e-4f * fabsf(want[at])))
                fail_msg("%s: row %d, value %d is %.8g by many rows, %.8g by few", specs[i].name,
                         at / q_cols(c), at % q_cols(c), (double)c->context[at], (double)want[at]);
        free(want);
        close_case(c);
    }
}

/* Rows [first, first + n) of slot 0 behind `before` rows of slot 1, one padding row, and in front of `after`
 * rows of slot 2: their bits are those of `want`. */
static void check_bits(attend_case *c, const float *want, int first, int n, int before, int after) {
    add_rows(c, 1, 3, before);
    if (before > 0)
        add_rows(c, -1, 0, 1);
    const int begin = c->n_rows;
    add_rows(c, 0, first, n);
    add_rows(c, 2, 90, after);
    assert_true(c->n_rows >= MANY);
    attend(c);
    const size_t n_bytes = (size_t)(n * q_cols(c)) * 4;
    if (memcmp(want + first * q_cols(c), c->context + begin * q_cols(c), n_bytes) != 0)
        fail_msg("%s: rows from %d on have other bits in a chunk of %d, %d rows before and %d behind",
                 c->spec->name, first, n, before, after);
}

static void test_same_bits(void **state) {
    (void)state;
    for (int i = 0; i < N_SPECS; i++) {
        attend_case *c = open_case(&specs[i]);
        add_rows(c, 0, 0, ROWS);
        attend(c);
        float *want = calloc((size_t)(ROWS * q_cols(c)), 4);
        memcpy(want, c->context, (size_t)(ROWS * q_cols(c)) * 4);
        test_set_order(1 + i % (test_n_orders() > 1 ? test_n_orders() - 1 : 1));
        check_bits(c, want, 0, ROWS, 0, 0);
        test_set_order(0);
        check_bits(c, want, 0, 75, 0, 0);
        check_bits(c, want, 75, 130, 9, 70);
        check_bits(c, want, 205, 1, 33, 40);
        check_bits(c, want, 206, 34, 0, 100);
        free(want);
        close_case(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_as_few),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
