/* kernels/cuda/attend_parts.cuh - the keys of a row in parts, one a block: where a part begins, where its
 * partial result lies, and the merge in ascending order by the block that finishes last.
 */
#pragma once

#include "kernels/cuda/attend.cuh"

/* The part of a row's KV blocks that split `split` takes: [begin, end), and how many splits have any. */
typedef struct key_part {
    int begin, end, n_used;
} key_part;

__device__ __forceinline__ key_part part_of(const attend_args &a, int position, int split) {
    const int first = first_visible(a, position) / CDP_BLOCK_TOKENS, end = position / CDP_BLOCK_TOKENS + 1;
    int each = (end - first + a.n_splits - 1) / a.n_splits;
    each = each < CUDA_SPLIT_BLOCKS ? (int)CUDA_SPLIT_BLOCKS : each;
    key_part part;
    part.begin = first + split * each;
    part.end = part.begin + each < end ? part.begin + each : end;
    part.n_used = (end - first + each - 1) / each;
    return part;
}

__device__ __forceinline__ float *partial_at(const attend_args &a, int row, int head, int split) {
    const size_t number = ((size_t)row * a.n_heads + head) * a.n_splits + split;
    return a.partials + number * (a.kv.head_dim + CUDA_PARTIAL_EXTRA);
}

/* Called by all threads once the block's partial results of heads [head, head + n) are written: true in the
 * last of the n_used blocks, which then sees all of them. `flag` is shared. */
__device__ __forceinline__ bool is_last_part(const attend_args &a, int row, int head, int n_used, int *flag) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned *arrived = a.arrived + (size_t)row * a.n_heads + head;
        *flag = atomicAdd(arrived, 1u) == (unsigned)n_used - 1;
        if (*flag)
            *arrived = 0; /* for the next launch */
    }
    __syncthreads();
    __threadfence();
    return *flag != 0;
}

/* context of heads [head, head + n): parts in ascending order, relative to the largest score of all. */
__device__ __forceinline__ void merge_parts(const attend_args &a, int row, int head, int n, int n_used) {
    const int d = a.kv.head_dim;
    for (int x = threadIdx.x; x < n * d; x += blockDim.x) {
        const int h = head + x / d, i = x % d;
        float most = -INFINITY, total = 0.0f, sum = 0.0f;
        for (int s = 0; s < n_used; s++) {
            const volatile float *part = partial_at(a, row, h, s);
            most = fmaxf(most, part[0]);
        }
        for (int s = 0; s < n_used; s++) {
            const volatile float *part = partial_at(a, row, h, s);
            const float weight = exp2f(part[0] - most);
            total += weight * part[1];
            sum += weight * part[CUDA_PARTIAL_EXTRA + i];
        }
        store_activation(a.out, row, h * d + i, sum / total);
    }
}
