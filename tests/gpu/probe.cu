/* tests/gpu/probe.cu - see probe.h. Compiled by nvcc and for the stand-in: what both must agree on. */
#include "tests/gpu/probe.h"

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

/* One block a row; the eight partial sums are added by every thread in one order. */
__global__ static void norm_kernel(float *out, const float *x, int dim, float eps) {
    __shared__ float partial[PROBE_ROW_THREADS / 32];
    x += (size_t)blockIdx.x * dim;
    out += (size_t)blockIdx.x * dim;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < dim; i += PROBE_ROW_THREADS)
        sum += x[i] * x[i];
    for (int bits = 16; bits > 0; bits >>= 1)
        sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = sum;
    __syncthreads();
    float total = 0.0f;
    for (int k = 0; k < PROBE_ROW_THREADS / 32; k++)
        total += partial[k];
    const float scale = rsqrtf(total / dim + eps);
    for (int i = threadIdx.x; i < dim; i += PROBE_ROW_THREADS)
        out[i] = x[i] * scale;
}

__device__ static unsigned pair(const uint16_t *low, const uint16_t *high) {
    return (unsigned)*low | (unsigned)*high << 16;
}

/* One warp, one product; the fragments are drawn in ptx.h. */
template <bool IS_BF16>
__global__ static void product_kernel(float *out, const uint16_t *a, const uint16_t *b) {
    __shared__ __align__(16) uint16_t a_tile[16 * 16];
    __shared__ __align__(16) uint16_t b_tile[16 * 8];
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    ptx_copy16_async(&a_tile[lane * 8], &a[lane * 8]);
    ptx_copy_commit();
    ptx_copy16_async(&b_tile[lane % 16 * 8], &b[lane % 16 * 8]);
    ptx_copy_commit();
    ptx_copy_wait<0>();
    __syncwarp();
    unsigned a_part[4], b_part[2];
    for (int i = 0; i < 4; i++) {
        const uint16_t *const at = &a_tile[(g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8];
        a_part[i] = pair(at, at + 1);
    }
    for (int i = 0; i < 2; i++) {
        const uint16_t *const at = &b_tile[(2 * t + i * 8) * 8 + g];
        b_part[i] = pair(at, at + 8);
    }
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (IS_BF16)
        ptx_mma_bf16(sum, a_part, b_part);
    else
        ptx_mma_f16(sum, a_part, b_part);
    for (int i = 0; i < 4; i++)
        out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = sum[i];
}

/* Each block compares its part of x with all of it. */
__global__ static void rank_kernel(int *out, const float *x, int n) {
    CDP_DYNAMIC_SHARED(float, all);
    ptx_wait_previous();
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        all[i] = x[i];
    __syncthreads();
    const int me = blockIdx.x * 32 + threadIdx.x / 32;
    for (int start = 0; me < n && start < n; start += 32) {
        const int other = start + threadIdx.x % 32;
        const bool is_below = other < n && (all[other] < all[me] || (all[other] == all[me] && other < me));
        const unsigned votes = __ballot_sync(0xffffffffu, is_below);
        if (threadIdx.x % 32 == 0 && votes != 0)
            atomicAdd(&out[me], __popc(votes));
    }
    ptx_launch_next();
}

__global__ static void copy_kernel(uint4 *out, const uint4 *in, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        ptx_store16(&out[i], i % 2 ? ptx_load16(&in[i]) : ptx_load16_nc(&in[i]));
}

extern "C" cdp_status probe_norm(float *out, const float *x, int n_rows, int dim, float eps,
                                 cudaStream_t stream) {
    return CDP_LAUNCH(norm_kernel, n_rows, PROBE_ROW_THREADS, 0, stream, out, x, dim, eps);
}

extern "C" cdp_status probe_product(float *out, const uint16_t *a, const uint16_t *b, int is_bf16,
                                    cudaStream_t stream) {
    return is_bf16 ? CDP_LAUNCH(product_kernel<true>, 1, 32, 0, stream, out, a, b)
                   : CDP_LAUNCH(product_kernel<false>, 1, 32, 0, stream, out, a, b);
}

extern "C" cdp_status probe_rank(int *out, const float *x, int n, cudaStream_t stream) {
    return CDP_LAUNCH_PDL(rank_kernel, (n + 31) / 32, 1024, n * sizeof(float), stream, out, x, n);
}

extern "C" cdp_status probe_copy(void *out, const void *in, int n, cudaStream_t stream) {
    return CDP_LAUNCH(copy_kernel, (n + 127) / 128, 128, 0, stream, static_cast<uint4 *>(out),
                      static_cast<const uint4 *>(in), n);
}
