/* tests/gpu/probe.h - small kernels that use every word a kernel may use, each with a result that is easy to
 * know. */
#pragma once

#include "kernels/status.h"
#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PROBE_ROW_THREADS = 256 };

/* out (n_rows, dim) = x / sqrt(mean of squares + eps), a block a row: shuffles, shared memory, one barrier.
 */
cdp_status probe_norm(float *out, const float *x, int n_rows, int dim, float eps, cudaStream_t stream);

/* out (16, 8) f32 = a (16, 16) b (16, 8), bf16 or f16 bits, row-major: copies that are waited for, tiles,
 * product. */
cdp_status probe_product(float *out, const uint16_t *a, const uint16_t *b, int is_bf16, cudaStream_t stream);

/* out[i] = how many of x[0..n) are below x[i], ties by index: votes, atomics, dynamic shared memory, 2 blocks
 * or more. n is at most 1024; out starts as zeros. Overlaps the kernel before it. */
cdp_status probe_rank(int *out, const float *x, int n, cudaStream_t stream);

/* out[i] = in[i] for n multiples of 16 bytes, both loads. */
cdp_status probe_copy(void *out, const void *in, int n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
