/* The ceilings of this GPU, measured now: a copy, and a large bf16 product of cuBLASLt. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/inside.h"

enum {
    ROUNDS = 3,               /* the best counts: a ceiling is what was reached at all */
    LONG_ENOUGH_NS = 4000000, /* of a round: the naps between two looks at the queue are a hundredth */
    MOST_TURNS = 1024,
    MOST_DIM = 8192, /* of the product's sides, on a large GPU */
    DIM_PER_SM = 64, /* so that a small one is done in as short a time */
    NOISE_BYTES = 1 << 20,
};

typedef cdp_status work(cdp_device *device, const void *args);

/* Seconds of one turn, in the best of some rounds of many turns. */
static cdp_status time_of(cdp_device *device, work *queue, const void *args, double *out) {
    *out = 1e30;
    for (int round = 0, turns = 1; round < ROUNDS;) {
        const int64_t began = cdp_now_ns();
        for (int i = 0; i < turns; i++)
            CDP_TRY(queue(device, args));
        cdp_device_drain(device);
        CDP_TRY(cdp_device_check(device));
        const int64_t took = cdp_now_ns() - began;
        if (took < LONG_ENOUGH_NS && turns < MOST_TURNS) {
            turns *= 4;
            continue;
        }
        const double one = 1e-9 * (double)took / turns;
        *out = one < *out ? one : *out;
        round++;
    }
    return CDP_OK;
}

typedef struct copy_args {
    char *memory; /* two pieces of n_bytes */
    uint64_t n_bytes;
} copy_args;

static cdp_status queue_copy(cdp_device *device, const void *args) {
    const copy_args *a = args;
    return cdp_device_copy(device, a->memory, a->memory + a->n_bytes, a->n_bytes);
}

/* A large piece, but not beyond what is free beside the slab. */
static uint64_t copy_bytes(cdp_device *device) {
    uint64_t n_free = 0, n_bytes = UINT64_C(256) << 20;
    if (cdp_device_free_bytes(device, &n_free) != CDP_OK)
        return 0;
    while (n_bytes > UINT64_C(1) << 20 && 2 * n_bytes > n_free / 2)
        n_bytes /= 2;
    return n_bytes;
}

typedef struct product_args {
    cuda_gemm *gemm;
    cuda_gemm_out out;
    cuda_rows rows;
    cdp_tensor weights;
} product_args;

static cdp_status queue_product(cdp_device *device, const void *args) {
    const product_args *a = args;
    return cuda_gemm_run(a->gemm, device, &a->out, &a->rows, &a->weights, 1, a->weights.rows);
}

/* Two factors and the product, (dim, dim) bf16. */
static uint64_t product_bytes(int dim) {
    return 3 * (uint64_t)dim * (uint64_t)dim * 2;
}

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

/* bf16 of both signs from 1/2 to 2: zeros take less power, and a GPU that is not hot is faster than it ever
 * is with a model. */
static cdp_status fill_with_noise(cdp_device *device, char *memory, uint64_t n_bytes) {
    uint16_t *noise = NULL;
    CDP_TRY(cdp_device_host_alloc(device, (void **)&noise, NOISE_BYTES));
    uint32_t random = 1;
    for (size_t i = 0; i < NOISE_BYTES / sizeof *noise; i++) {
        random = random * 1664525 + 1013904223;
        noise[i] = (uint16_t)((random >> 16 & 0x80ff) | 0x3f00);
    }
    cdp_status st = CDP_OK;
    for (uint64_t at = 0; st == CDP_OK && at < n_bytes; at += NOISE_BYTES)
        st = cdp_device_copy_in(device, memory + at, noise,
                                n_bytes - at < NOISE_BYTES ? n_bytes - at : NOISE_BYTES);
    cdp_device_drain(device);
    cdp_device_host_free(device, noise);
    return st;
}

static cdp_status time_products(cdp_device *device, char *memory, int dim, double *out) {
    const size_t n = (size_t)dim, matrix = n * n * 2;
    product_args args = {.out = {memory + 2 * matrix, CDP_BF16, dim, false},
                         .rows = {memory, n * 2, CDP_BF16},
                         .weights = {memory + matrix, CDP_BF16, dim, dim, NULL}};
    CDP_TRY(fill_with_noise(device, memory, 2 * matrix));
    CDP_TRY(cuda_gemm_open(&args.gemm));
    const cdp_status st = time_of(device, queue_product, &args, out);
    cuda_gemm_close(args.gemm);
    return st;
}

/* Memory of its own, beside the slab: what a benchmark measures is not in any plan. */
static cdp_status with_memory(cdp_device *device, uint64_t n_bytes, char **out) {
    return device->table->alloc(device, (void **)out, n_bytes);
}

cdp_status cdp_cuda_measure(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                            double *flop_per_s_out) {
    (void)weights; /* bf16 and f16 are equally fast; f32 is there to compare with, not to be fast */
    copy_args copy = {NULL, copy_bytes(device)};
    double seconds = 0;
    *bytes_per_s_out = *flop_per_s_out = 0;
    CDP_TRY(with_memory(device, 2 * copy.n_bytes, &copy.memory));
    cdp_status st = time_of(device, queue_copy, &copy, &seconds);
    cdp_device_free(device, copy.memory);
    CDP_TRY(st);
    *bytes_per_s_out = 2 * (double)copy.n_bytes / seconds;
    const int dim = product_dim(device);
    char *memory = NULL;
    CDP_TRY(with_memory(device, product_bytes(dim), &memory));
    st = time_products(device, memory, dim, &seconds);
    cdp_device_free(device, memory);
    CDP_TRY(st);
    *flop_per_s_out = 2.0 * dim * dim * dim / seconds;
    return CDP_OK;
}
