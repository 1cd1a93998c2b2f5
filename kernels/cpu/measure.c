/* The ceilings of this device, measured now: machines are shared, and only figures of one moment compare. */
#include <string.h>
#include <time.h>

#include "kernels/cpu/queue.h"

enum {
    STREAM_BYTES = 128 << 20, /* well beyond a last-level cache's share */
    STREAM_PIECE = 1 << 20,
    PRODUCT_ROWS = 96, /* whole tiles of every tier, and enough work that handing out a job is nothing */
    PRODUCT_DIM = 512, /* (512, 512) bf16 is 0.5 MiB: it stays in a core's second cache */
    PRODUCT_TURNS = 200,
    ROUNDS = 8, /* the best counts: a ceiling is what was reached at all */
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct stream_args {
    const uint64_t *data;
    _Atomic uint64_t *sum; /* keeps the reads from being left out */
} stream_args;

static void stream_job(const void *args, const cdp_turn *turn) {
    const stream_args *a = args;
    const int n_words = STREAM_PIECE / (int)sizeof *a->data;
    int begin, end;
    while (cdp_turn_take(turn, STREAM_BYTES / STREAM_PIECE, 1, &begin, &end)) {
        const uint64_t *data = a->data + (size_t)begin * (size_t)n_words;
        uint64_t sums[8] = {0};
        for (int i = 0; i < n_words; i += 8)
            for (int lane = 0; lane < 8; lane++)
                sums[lane] += data[i + lane];
        for (int lane = 0; lane < 8; lane++)
            atomic_fetch_add(a->sum, sums[lane]);
    }
}

static cdp_status measure_stream(cdp_device *device, double *out) {
    void *data = NULL;
    _Atomic uint64_t sum = 0;
    CDP_TRY(cdp_device_alloc(device, &data, STREAM_BYTES));
    const stream_args args = {data, &sum};
    cdp_status st = CDP_OK;
    *out = 0;
    for (int round = 0; st == CDP_OK && round < ROUNDS; round++) {
        const double began = now_s();
        st = cdp_cpu_submit(device, stream_job, &args, sizeof args);
        cdp_device_drain(device);
        const double rate = STREAM_BYTES / (now_s() - began);
        *out = rate > *out ? rate : *out;
    }
    cdp_device_free(device, data);
    return st;
}

typedef struct product_buffers {
    float *rows, *normed, *logits; /* (PRODUCT_ROWS, PRODUCT_DIM) */
    float *norm;                   /* (PRODUCT_DIM) */
    uint16_t *weights;             /* (PRODUCT_DIM, PRODUCT_DIM) bf16 */
    uint16_t *packed;              /* (PRODUCT_ROWS, PRODUCT_DIM) */
} product_buffers;

static cdp_status run_products(cdp_device *device, const product_buffers *b, double *out) {
    const cdp_shape shape = {.hidden = PRODUCT_DIM,
                             .vocab = PRODUCT_DIM,
                             .hidden_dtype = CDP_F32,
                             .norm_eps = 1,
                             .logit_scale = 1};
    const cdp_vocab_weights vocab = {.final_norm = {b->norm, CDP_F32, 1, PRODUCT_DIM, NULL},
                                     .head = {b->weights, CDP_BF16, PRODUCT_DIM, PRODUCT_DIM, NULL}};
    const cdp_buffers buffers = {.packed = b->packed};
    *out = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const double began = now_s();
        for (int i = 0; i < PRODUCT_TURNS; i++)
            CDP_TRY(cdp_device_ops(device)->logits(device, &shape, &vocab, b->rows, PRODUCT_ROWS, &buffers,
                                                   b->normed, b->logits));
        cdp_device_drain(device);
        const double rate =
            2.0 * PRODUCT_ROWS * PRODUCT_DIM * PRODUCT_DIM * PRODUCT_TURNS / (now_s() - began);
        *out = rate > *out ? rate : *out;
    }
    return CDP_OK;
}

cdp_status cdp_cpu_measure(cdp_device *device, double *bytes_per_s_out, double *flop_per_s_out) {
    enum { N = PRODUCT_ROWS * PRODUCT_DIM };
    void *memory = NULL;
    CDP_TRY(measure_stream(device, bytes_per_s_out));
    CDP_TRY(cdp_device_alloc(device, &memory,
                             sizeof(float) * (4 * N + PRODUCT_DIM + PRODUCT_DIM * PRODUCT_DIM / 2)));
    float *f = memory;
    const product_buffers buffers = {.packed = memory,
                                     .rows = f + N,
                                     .normed = f + 2 * N,
                                     .logits = f + 3 * N,
                                     .norm = f + 4 * N,
                                     .weights = (void *)(f + 4 * N + PRODUCT_DIM)};
    const cdp_status st = run_products(device, &buffers, flop_per_s_out);
    cdp_device_free(device, memory);
    return st;
}
