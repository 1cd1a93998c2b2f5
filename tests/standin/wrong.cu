/* tests/standin/wrong.cu - see wrong.h. */
#include "tests/standin/wrong.h"

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

__global__ static void no_barrier_kernel(float *out, const float *x) {
    __shared__ float partial[WRONG_THREADS / 32];
    float sum = x[threadIdx.x];
    for (int bits = 16; bits > 0; bits >>= 1)
        sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = sum;
    /* here it is missing */
    float total = 0.0f;
    for (int k = 0; k < WRONG_THREADS / 32; k++)
        total += partial[k];
    out[threadIdx.x] = total;
}

__global__ static void mask_left_kernel(float *out, const float *x) {
    float sum = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    out[threadIdx.x] = sum;
}

__global__ static void mask_elsewhere_kernel(float *out, const float *x) {
    float sum = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    __syncthreads();
    out[threadIdx.x] = sum;
}

__global__ static void mask_two_lines_kernel(float *out, const float *x) {
    float sum = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    else
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    out[threadIdx.x] = sum;
}

__global__ static void source_kernel(float *out, const float *x) {
    float sum = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        sum += __shfl_xor_sync(0x0000ffffu, sum, 16);
    out[threadIdx.x] = sum;
}

__global__ static void two_barriers_kernel(float *out, const float *x) {
    if (threadIdx.x < 64)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = x[threadIdx.x];
}

/* 64 threads come to a barrier of 96. */
__global__ static void part_short_kernel(float *out, const float *x) {
    if (threadIdx.x < 64)
        ptx_part_sync(1, 96);
    out[threadIdx.x] = x[threadIdx.x];
}

/* Two parts take the same barrier for different numbers of threads. */
__global__ static void part_two_sizes_kernel(float *out, const float *x) {
    ptx_part_sync(1, threadIdx.x < 32 ? 64 : 96);
    out[threadIdx.x] = x[threadIdx.x];
}

__global__ static void off_by_one_kernel(float *out, const float *x, int n) {
    for (int i = threadIdx.x; i <= n; i += blockDim.x)
        out[i] = x[i < n ? i : 0];
}

__global__ static void beyond_static_kernel(float *out, const float *x, int n) {
    __shared__ float row[WRONG_THREADS];
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        row[i] = x[i % WRONG_THREADS];
    __syncthreads();
    out[threadIdx.x] = row[threadIdx.x];
}

__global__ static void beyond_dynamic_kernel(float *out, const float *x, int n) {
    CDP_DYNAMIC_SHARED(float, row);
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        row[i] = x[i % WRONG_THREADS];
    __syncthreads();
    out[threadIdx.x] = row[threadIdx.x];
}

template <bool IS_COMMITTED> __global__ static void unwaited_copy_kernel(float *out, const float *x) {
    __shared__ __align__(16) float four[4];
    if (threadIdx.x == 0) {
        ptx_copy16_async(four, x);
        if (IS_COMMITTED)
            ptx_copy_commit();
        else
            ptx_copy_wait<0>(); /* waits for committed groups only */
    }
    __syncthreads();
    if (threadIdx.x < 4)
        out[threadIdx.x] = four[threadIdx.x];
}

__global__ static void unwritten_kernel(float *out) {
    __shared__ float row[WRONG_THREADS];
    if (threadIdx.x > 0)
        row[threadIdx.x] = 0.0f;
    __syncthreads();
    out[threadIdx.x] = row[threadIdx.x];
}

__global__ static void alignment_kernel(float *out, const float *x) {
    ptx_store16(out, ptx_load16(x + 1));
}

__global__ static void race_kernel(float *out) {
    out[0] = (float)blockIdx.x;
}

__global__ static void copy_kernel(float *out, const float *x) {
    out[threadIdx.x] = x[threadIdx.x];
}

__global__ static void early_read_kernel(float *out, const float *x) {
    const float value = x[threadIdx.x];
    ptx_wait_previous();
    out[threadIdx.x] = value;
}

__global__ static void early_write_kernel(float *out, const float *x) {
    out[threadIdx.x] = 0.0f;
    ptx_wait_previous();
    out[threadIdx.x] = x[threadIdx.x];
}

cdp_status wrong_no_barrier(float *out, const float *x) {
    return CDP_LAUNCH(no_barrier_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_mask_left(float *out, const float *x) {
    return CDP_LAUNCH(mask_left_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_mask_elsewhere(float *out, const float *x) {
    return CDP_LAUNCH(mask_elsewhere_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_mask_two_lines(float *out, const float *x) {
    return CDP_LAUNCH(mask_two_lines_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_source(float *out, const float *x) {
    return CDP_LAUNCH(source_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_two_barriers(float *out, const float *x) {
    return CDP_LAUNCH(two_barriers_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_part_short(float *out, const float *x) {
    return CDP_LAUNCH(part_short_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_part_two_sizes(float *out, const float *x) {
    return CDP_LAUNCH(part_two_sizes_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_off_by_one(float *out, const float *x, int n) {
    return CDP_LAUNCH(off_by_one_kernel, 1, WRONG_THREADS, 0, nullptr, out, x, n);
}
cdp_status wrong_beyond_shared(float *out, const float *x, int n, bool is_dynamic) {
    return is_dynamic ? CDP_LAUNCH(beyond_dynamic_kernel, 1, WRONG_THREADS, WRONG_THREADS * sizeof(float),
                                   nullptr, out, x, n)
                      : CDP_LAUNCH(beyond_static_kernel, 1, WRONG_THREADS, 0, nullptr, out, x, n);
}
cdp_status wrong_unwaited_copy(float *out, const float *x, bool is_committed) {
    return is_committed ? CDP_LAUNCH(unwaited_copy_kernel<true>, 1, 32, 0, nullptr, out, x)
                        : CDP_LAUNCH(unwaited_copy_kernel<false>, 1, 32, 0, nullptr, out, x);
}
cdp_status wrong_unwritten(float *out) {
    return CDP_LAUNCH(unwritten_kernel, 1, WRONG_THREADS, 0, nullptr, out);
}
cdp_status wrong_alignment(float *out, const float *x) {
    return CDP_LAUNCH(alignment_kernel, 1, 1, 0, nullptr, out, x);
}
cdp_status wrong_race_of_blocks(float *out, int n_blocks) {
    return CDP_LAUNCH(race_kernel, n_blocks, 1, 0, nullptr, out);
}
cdp_status wrong_overlap(float *out, const float *x) {
    return CDP_LAUNCH_PDL(copy_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_early_read(float *out, const float *x) {
    return CDP_LAUNCH_PDL(early_read_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_early_write(float *out, const float *x) {
    return CDP_LAUNCH_PDL(early_write_kernel, 1, WRONG_THREADS, 0, nullptr, out, x);
}
cdp_status wrong_launch(float *out, int n_threads, size_t shared_bytes) {
    return CDP_LAUNCH(race_kernel, 1, n_threads, shared_bytes, nullptr, out);
}
cdp_status right_copy(float *out, const float *x, cudaStream_t stream) {
    return CDP_LAUNCH(copy_kernel, 1, WRONG_THREADS, 0, stream, out, x);
}
