/* The ceilings of this device, measured now: machines are shared, and only figures of one moment compare. */
#include "kernels/cpu/measure.h"
#include "kernels/clock.h"
#include "kernels/cores.h"

enum {
    STREAM_LEAST = 128 << 20,
    STREAM_PIECE = 1 << 20,
    FIRST_TURNS = 4096,
    MOST_TURNS = 1 << 28,
    ROUNDS = 5, /* the best counts: a ceiling is what was reached at all */
};
static const double long_enough_s = 0.004; /* of a round of products: handing out the job is nothing then */

typedef struct stream_args {
    uint64_t *data;
    int n_pieces;
    _Atomic uint64_t *sum; /* keeps the reads from being left out */
} stream_args;

/* Each worker first touches what it will mostly read. */
static void fill_job(const void *args, const cdp_turn *turn) {
    const stream_args *a = args;
    const size_t n_words = STREAM_PIECE / sizeof *a->data;
    int begin, end;
    while (cdp_turn_take(turn, a->n_pieces, 1, &begin, &end))
        for (size_t i = (size_t)begin * n_words; i < (size_t)end * n_words; i++)
            a->data[i] = i * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static void stream_job(const void *args, const cdp_turn *turn) {
    const stream_args *a = args;
    const int n_words = STREAM_PIECE / (int)sizeof *a->data;
    int begin, end;
    while (cdp_turn_take(turn, a->n_pieces, 1, &begin, &end)) {
        const uint64_t *data = a->data + (size_t)begin * (size_t)n_words;
        uint64_t sums[8] = {0};
        for (int i = 0; i < n_words; i += 8)
            for (int lane = 0; lane < 8; lane++)
                sums[lane] += data[i + lane];
        for (int lane = 0; lane < 8; lane++)
            atomic_fetch_add(a->sum, sums[lane]);
    }
}

uint64_t cdp_stream_bytes(uint64_t cache_bytes, uint64_t free_bytes) {
    uint64_t n_bytes = 2 * cache_bytes > STREAM_LEAST ? 2 * cache_bytes : STREAM_LEAST;
    if (n_bytes > STREAM_LEAST && n_bytes > free_bytes / 4)
        n_bytes = free_bytes / 4 > STREAM_LEAST ? free_bytes / 4 : STREAM_LEAST;
    return n_bytes / STREAM_PIECE * STREAM_PIECE;
}

static cdp_status measure_stream(cdp_device *device, double *out) {
    cdp_cores cores;
    void *data = NULL;
    _Atomic uint64_t sum = 0;
    *out = 0;
    cdp_cores_read(&cores, /*root=*/"");
    const uint64_t n_bytes =
        cdp_stream_bytes(cdp_cores_cache_bytes(&cores.mask, /*root=*/""), cdp_cpu_free_bytes());
    CDP_TRY(cdp_device_alloc_unwritten(device, &data, n_bytes));
    const stream_args args = {data, (int)(n_bytes / STREAM_PIECE), &sum};
    cdp_status st = cdp_cpu_submit(device, fill_job, &args, sizeof args);
    cdp_device_drain(device);
    for (int round = 0; st == CDP_OK && round < ROUNDS; round++) {
        const int64_t began = cdp_now_ns();
        st = cdp_cpu_submit(device, stream_job, &args, sizeof args);
        cdp_device_drain(device);
        const double rate = (double)n_bytes / (1e-9 * (double)(cdp_now_ns() - began));
        *out = rate > *out ? rate : *out;
    }
    cdp_device_free(device, data);
    return st;
}

void cdp_peak_fill(float data[CDP_PEAK_DATA]) {
    data[0] = -1.0f; /* the factor: every sum goes back and forth between s and 3.14159 - s */
    data[1] = 3.14159f;
    for (int i = 2; i < CDP_PEAK_DATA; i++)
        data[i] = 1.0f + (float)(i * 40503 % 65536) / 65536;
}

static cdp_status measure_peak(cdp_device *device, cdp_dtype weights, double *out) {
    const cdp_peak *peak = cdp_peak_for(cdp_device_ops(device));
    const cdp_job job = weights == CDP_BF16 ? peak->bf16 : peak->f32;
    const double flop = weights == CDP_BF16 ? peak->bf16_flop : peak->f32_flop;
    _Atomic uint64_t n_done = 0;
    _Atomic float sum = 0;
    float data[CDP_PEAK_DATA];
    cdp_peak_args args = {.data = data, .n_turns = FIRST_TURNS, .n_done = &n_done, .sum = &sum};
    cdp_peak_fill(data);
    *out = 0;
    for (int round = 0; round < ROUNDS;) {
        atomic_store(&n_done, 0);
        const int64_t began = cdp_now_ns();
        CDP_TRY(cdp_cpu_submit(device, job, &args, sizeof args));
        cdp_device_drain(device);
        const double took = 1e-9 * (double)(cdp_now_ns() - began);
        if (took < long_enough_s && args.n_turns < MOST_TURNS) {
            args.n_turns *= 4;
            continue;
        }
        const double rate = flop * (double)atomic_load(&n_done) / took;
        *out = rate > *out ? rate : *out;
        round++;
    }
    return CDP_OK;
}

cdp_status cdp_cpu_measure(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                           double *flop_per_s_out) {
    CDP_TRY(measure_stream(device, bytes_per_s_out));
    return measure_peak(device, weights, flop_per_s_out);
}
