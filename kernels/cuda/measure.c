/* The ceilings of this GPU, measured now. */
#include "kernels/cuda/inside.h"

#include "kernels/ops.h"

enum {
    ROUNDS = 3,     /* the best counts: a ceiling is what was reached at all */
    COPY_TURNS = 4, /* of a copy in one round */
    PRODUCT_TURNS = 4,
    PRODUCT_ROWS = 512, /* a chunk of a prompt */
    MOST_DIM = 4096,    /* of the product's sides, on a large GPU */
    DIM_PER_SM = 128,   /* so that a small one is done in as short a time */
};

/* A large piece, but not beyond what is free beside the slab. */
static uint64_t copy_bytes(cdp_device *device) {
    uint64_t n_free = 0, n_bytes = UINT64_C(256) << 20;
    if (cdp_device_free_bytes(device, &n_free) != CDP_OK)
        return 0;
    while (n_bytes > UINT64_C(1) << 20 && 2 * n_bytes > n_free / 2)
        n_bytes /= 2;
    return n_bytes;
}

static cdp_status time_copies(cdp_device *device, char *memory, uint64_t n_bytes, double *out) {
    *out = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t began = cdp_cuda_now_ns();
        for (int i = 0; i < COPY_TURNS; i++)
            CDP_TRY(cdp_device_copy(device, memory, memory + n_bytes, n_bytes));
        cdp_device_drain(device);
        CDP_TRY(cdp_device_check(device));
        const double rate = 2e9 * COPY_TURNS * (double)n_bytes / (double)(cdp_cuda_now_ns() - began);
        *out = rate > *out ? rate : *out;
    }
    return CDP_OK;
}

static uint64_t product_bytes(int dim) {
    const uint64_t n = (uint64_t)dim, rows = PRODUCT_ROWS;
    return 2 * rows * n + 4 * n + 2 * n * n + 4 * rows * n + 4 * rows * n;
}

/* How long the sides of the product are: multiples of 128, so that everything in its memory is aligned. */
static int product_dim(cdp_device *device) {
    const int n_sms = cdp_cuda_limits_of(device)->n_sms;
    int dim = n_sms > MOST_DIM / DIM_PER_SM ? MOST_DIM : n_sms * DIM_PER_SM;
    uint64_t n_free = 0;
    if (cdp_device_free_bytes(device, &n_free) != CDP_OK)
        return DIM_PER_SM;
    while (dim > DIM_PER_SM && product_bytes(dim) > n_free / 2)
        dim -= DIM_PER_SM;
    return dim;
}

/* gate_up, the operation with the widest product of a prompt; the norm before it and silu behind it pass over
 * the rows once each and count as the product's time. memory: product_bytes(dim). */
static cdp_status time_products(cdp_device *device, char *memory, int dim, double *out) {
    const size_t n = (size_t)dim;
    const cdp_shape shape = {.hidden = dim, .ffn = dim / 2, .hidden_dtype = CDP_BF16, .norm_eps = 1};
    char *hidden = memory, *norm = hidden + 2 * PRODUCT_ROWS * n, *weights = norm + 4 * n;
    float *normed = (float *)(void *)(weights + 2 * n * n);
    const cdp_buffers buffers = {.normed = normed, .ffn = normed + PRODUCT_ROWS * n};
    const cdp_step_view step = {.n_rows = PRODUCT_ROWS, .hidden = hidden};
    const cdp_layer layer = {.ffn_norm = {norm, CDP_F32, 1, dim, NULL},
                             .gate_up = {weights, CDP_BF16, dim, dim, NULL}, /* (2 ffn, hidden) */
                             .down = {NULL, CDP_BF16, dim, dim / 2, NULL}};  /* its dtype is ffn's form */
    *out = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t began = cdp_cuda_now_ns();
        for (int i = 0; i < PRODUCT_TURNS; i++)
            CDP_TRY(device->ops->gate_up(device, &shape, &layer, &step, &buffers));
        cdp_device_drain(device);
        CDP_TRY(cdp_device_check(device));
        const double flop = 2.0 * PRODUCT_ROWS * dim * dim * PRODUCT_TURNS;
        const double rate = 1e9 * flop / (double)(cdp_cuda_now_ns() - began);
        *out = rate > *out ? rate : *out;
    }
    return CDP_OK;
}

/* Memory of its own, beside the slab: what a benchmark measures is not in any plan. */
static cdp_status with_memory(cdp_device *device, uint64_t n_bytes, char **out) {
    return device->table->alloc(device, (void **)out, n_bytes);
}

cdp_status cdp_cuda_measure(cdp_device *device, double *bytes_per_s_out, double *flop_per_s_out) {
    char *memory = NULL;
    const uint64_t n_bytes = copy_bytes(device);
    *bytes_per_s_out = *flop_per_s_out = 0;
    CDP_TRY(with_memory(device, 2 * n_bytes, &memory));
    cdp_status st = time_copies(device, memory, n_bytes, bytes_per_s_out);
    cdp_device_free(device, memory);
    if (st != CDP_OK)
        return st;
    const int dim = product_dim(device);
    CDP_TRY(with_memory(device, product_bytes(dim), &memory));
    st = time_products(device, memory, dim, flop_per_s_out);
    cdp_device_free(device, memory);
    return st;
}
