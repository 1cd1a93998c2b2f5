/* The ceilings of this GPU, measured now. */
#include "kernels/cuda/inside.h"

#include "kernels/ops.h"

enum {
    ROUNDS = 3,     /* the best counts: a ceiling is what was reached at all */
    COPY_TURNS = 4, /* of a copy in one round */
    PRODUCT_TURNS = 4,
    PRODUCT_ROWS = 512, /* a chunk of a prompt */
    PRODUCT_DIM = 4096,
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

static cdp_status time_products(cdp_device *device, char *memory, double *out) {
    const cdp_shape shape = {.hidden = PRODUCT_DIM,
                             .vocab = PRODUCT_DIM,
                             .hidden_dtype = CDP_BF16,
                             .norm_eps = 1,
                             .logit_scale = 1};
    char *rows = memory, *norm = rows + 2 * PRODUCT_ROWS * PRODUCT_DIM, *weights = norm + 4 * PRODUCT_DIM;
    float *normed = (float *)(void *)(weights + 2 * (size_t)PRODUCT_DIM * PRODUCT_DIM);
    float *logits = normed + PRODUCT_ROWS * PRODUCT_DIM;
    const cdp_vocab_weights vocab = {.final_norm = {norm, CDP_F32, 1, PRODUCT_DIM, NULL},
                                     .head = {weights, CDP_BF16, PRODUCT_DIM, PRODUCT_DIM, NULL}};
    *out = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t began = cdp_cuda_now_ns();
        for (int i = 0; i < PRODUCT_TURNS; i++)
            CDP_TRY(device->ops->logits(device, &shape, &vocab, rows, PRODUCT_ROWS, &(cdp_buffers){0}, normed,
                                        logits));
        cdp_device_drain(device);
        CDP_TRY(cdp_device_check(device));
        const double flop = 2.0 * PRODUCT_ROWS * PRODUCT_DIM * PRODUCT_DIM * PRODUCT_TURNS;
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
    const uint64_t product_bytes = 2 * (uint64_t)PRODUCT_ROWS * PRODUCT_DIM + 4 * PRODUCT_DIM +
                                   2 * (uint64_t)PRODUCT_DIM * PRODUCT_DIM +
                                   8 * (uint64_t)PRODUCT_ROWS * PRODUCT_DIM;
    *bytes_per_s_out = *flop_per_s_out = 0;
    CDP_TRY(with_memory(device, 2 * n_bytes, &memory));
    cdp_status st = time_copies(device, memory, n_bytes, bytes_per_s_out);
    cdp_device_free(device, memory);
    if (st != CDP_OK)
        return st;
    CDP_TRY(with_memory(device, product_bytes, &memory));
    st = time_products(device, memory, flop_per_s_out);
    cdp_device_free(device, memory);
    return st;
}
