/* kernels/cpu/measure.h - the ceilings of the CPU device: bytes that all workers read a second, and
 * operations of a tier's own multiply instruction (peak.h has the jobs of a tier).
 */
#pragma once

#include "kernels/cpu/queue.h"

/* The slot `measure` of this kind's table (device.h: cdp_device_measure). */
cdp_status cdp_cpu_measure(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                           double *flop_per_s_out);

/* Bytes to read for a figure of memory and not of caches: twice these, 128 MiB at least, and where that is
 * much no more than a quarter of what is free. */
uint64_t cdp_stream_bytes(uint64_t cache_bytes, uint64_t free_bytes);

/* What a tier multiplies at most (peak.h): jobs that every worker does whole, and the operations of one turn
 * of one worker, for weights in f32 (f16, too) and in bf16. */
enum { CDP_PEAK_DATA = 64 };
typedef struct cdp_peak_args {
    const float *data; /* (CDP_PEAK_DATA), by cdp_peak_fill */
    int n_turns;       /* of each worker */
    _Atomic uint64_t *n_done;
    _Atomic float *sum; /* of one worker's results */
} cdp_peak_args;
typedef struct cdp_peak {
    cdp_job f32, bf16;
    double f32_flop, bf16_flop;
} cdp_peak;
const cdp_peak *cdp_peak_for(const cdp_ops *ops);
void cdp_peak_fill(float data[CDP_PEAK_DATA]);
