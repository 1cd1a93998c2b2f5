/* kernels/cuda/values.cuh - number formats, activations and the KV cache, as every kernel sees them.
 *
 * A KV block is keys (n_kv_heads, ...), then values (n_kv_heads, ...); inside a head, for 16 tokens:
 *
 *     keys             (head_dim / w, 16, w)       w values of a token side by side
 *     values, plain    (16, head_dim)
 *     values, tiled    (head_dim / 2, 4, 2, 4)
 *
 * w is 16 bytes' worth where head_dim allows: eight tokens' pieces make one 128-byte line. Tiled are 16-bit
 * caches whose heads are multiples of 16: a lane's 16 bytes are the b fragments of two dimensions (ptx.h), so
 * that probabilities times values needs no shared memory.
 */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/ptx.h"

enum { LANES = 32 };
constexpr unsigned ALL_LANES = 0xffffffffu;

/* formats ------------------------------------------------------------------------------------------------ */

__device__ __forceinline__ float from_bf16(unsigned bits) {
    return __uint_as_float(bits << 16);
}
__device__ __forceinline__ unsigned to_bf16(float x) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
__device__ __forceinline__ float from_f16(unsigned bits) {
    return __half2float(__ushort_as_half((unsigned short)bits));
}
__device__ __forceinline__ unsigned to_f16(float x) {
    return __half_as_ushort(__float2half_rn(x));
}

/* d += a b on the tensor cores, bf16 or fp16 (fragments: ptx.h). */
template <cdp_dtype DTYPE>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const unsigned b[2] = {b0, b1};
    if (DTYPE == CDP_BF16)
        ptx_mma_bf16(d, a, b);
    else
        ptx_mma_f16(d, a, b);
}

/* Element i of an array of `dtype`; where dtype is a constant the branches go. */
__device__ __forceinline__ float load(const void *data, cdp_dtype dtype, size_t i) {
    if (dtype == CDP_F32)
        return static_cast<const float *>(data)[i];
    const unsigned bits = static_cast<const uint16_t *>(data)[i];
    return dtype == CDP_BF16 ? from_bf16(bits) : from_f16(bits);
}
__device__ __forceinline__ void store(void *data, cdp_dtype dtype, size_t i, float x) {
    if (dtype == CDP_F32)
        static_cast<float *>(data)[i] = x;
    else
        static_cast<uint16_t *>(data)[i] = (uint16_t)(dtype == CDP_BF16 ? to_bf16(x) : to_f16(x));
}

/* R: rounded to bf16 in runs whose hidden states are, else untouched. */
__device__ __forceinline__ float rounded(float x, bool is_bf16) {
    return is_bf16 ? from_bf16(to_bf16(x)) : x;
}

/* activations (kernels.h) -------------------------------------------------------------------------------- */

constexpr float SPLIT_HIGH = CUDA_SPLIT_HIGH, SPLIT_LOW = CUDA_SPLIT_LOW;

/* Two f16 that make up x = SPLIT_HIGH (high + low / SPLIT_LOW). */
__device__ __forceinline__ void split_f16(float x, unsigned *high, unsigned *low) {
    const float scaled = x * (1.0f / SPLIT_HIGH);
    *high = to_f16(scaled);
    *low = to_f16((scaled - from_f16(*high)) * SPLIT_LOW);
}

__device__ __forceinline__ char *row_of(const cuda_rows &rows, int row) {
    return static_cast<char *>(rows.data) + (size_t)row * rows.row_bytes;
}

/* Value i of a row, stored in the form of weights W. In bf16 runs this is the rounding point itself. */
__device__ __forceinline__ void store_activation(const cuda_rows &rows, int row, int i, float x) {
    char *at = row_of(rows, row);
    if (rows.weights == CDP_F16) {
        unsigned high, low;
        split_f16(x, &high, &low);
        reinterpret_cast<uint16_t *>(at)[i] = (uint16_t)high;
        reinterpret_cast<uint16_t *>(at + rows.row_bytes / 2)[i] = (uint16_t)low;
    } else {
        store(at, rows.weights, (size_t)i, x);
    }
}
/* Values i to i + 3 of a row, i a multiple of 4, in rows of a multiple of 4 values. */
__device__ __forceinline__ void store_activations(const cuda_rows &rows, int row, int i,
                                                  const float (&x)[4]) {
    char *at = row_of(rows, row) + (size_t)i * (rows.weights == CDP_F32 ? 4 : 2);
    if (rows.weights == CDP_F32) {
        *reinterpret_cast<float4 *>(at) = make_float4(x[0], x[1], x[2], x[3]);
        return;
    }
    unsigned high[4], low[4];
    for (int e = 0; e < 4; e++) {
        if (rows.weights == CDP_F16)
            split_f16(x[e], &high[e], &low[e]);
        else
            high[e] = to_bf16(x[e]);
    }
    *reinterpret_cast<uint2 *>(at) = make_uint2(high[0] | high[1] << 16, high[2] | high[3] << 16);
    if (rows.weights == CDP_F16)
        *reinterpret_cast<uint2 *>(at + rows.row_bytes / 2) =
            make_uint2(low[0] | low[1] << 16, low[2] | low[3] << 16);
}
__device__ __forceinline__ float load_activation(const cuda_rows &rows, int row, int i) {
    const char *at = row_of(rows, row);
    if (rows.weights != CDP_F16)
        return load(at, rows.weights, (size_t)i);
    const float high = load(at, CDP_F16, (size_t)i), low = load(at + rows.row_bytes / 2, CDP_F16, (size_t)i);
    return SPLIT_HIGH * (high + low * (1.0f / SPLIT_LOW));
}

/* sums --------------------------------------------------------------------------------------------------- */

/* The sum over the warp, in one fixed tree, in every lane. */
__device__ __forceinline__ float warp_sum(float x) {
    for (int m = LANES / 2; m > 0; m >>= 1)
        x += __shfl_xor_sync(ALL_LANES, x, m);
    return x;
}

/* The sum over a block of THREADS, in every thread; `partial` (THREADS / 32) is shared. Every thread adds the
 * warps' sums itself in the same order: one barrier fewer, the same bits in all of them. Ends without a
 * barrier: `partial` may be written again only after one. */
template <int THREADS> __device__ __forceinline__ float block_sum(float x, float *partial) {
    x = warp_sum(x);
    if (threadIdx.x % LANES == 0)
        partial[threadIdx.x / LANES] = x;
    __syncthreads();
    float total = 0.0f;
    for (int w = 0; w < THREADS / LANES; w++)
        total += partial[w];
    return total;
}

/* One row of `out` = R(rmsnorm(x) * weight), or R(x) where weight is NULL; x is row `in_row` of (rows, n). A
 * block of THREADS does it; ends without a barrier. */
template <int THREADS>
__device__ __forceinline__ void norm_row(const cuda_rows &out, int out_row, const void *in,
                                         cdp_dtype in_dtype, int in_row, int n, const float *weight,
                                         float eps, float *partial) {
    const size_t at = (size_t)in_row * n;
    float scale = 1.0f;
    if (weight != NULL) {
        float sum = 0.0f;
        for (int i = threadIdx.x; i < n; i += THREADS) {
            const float x = load(in, in_dtype, at + i);
            sum += x * x;
        }
        scale = rsqrtf(block_sum<THREADS>(sum, partial) / n + eps);
    }
    for (int i = threadIdx.x; i < n; i += THREADS)
        store_activation(out, out_row, i,
                         load(in, in_dtype, at + i) * scale * (weight != NULL ? weight[i] : 1.0f));
}

__device__ __forceinline__ float silu(float x) {
    return x / (1.0f + expf(-x));
}

/* the KV cache ------------------------------------------------------------------------------------------- */

typedef struct kv_cache {
    void *data;
    const int32_t *tables; /* (slots, max_blocks) */
    int max_blocks, n_kv_heads, head_dim, key_width;
    cdp_dtype dtype;
    bool is_tiled;
} kv_cache;

static inline bool kv_is_tiled(const cdp_shape *s) {
    return s->kv_dtype != CDP_F32 && s->head_dim % 16 == 0;
}

static inline kv_cache kv_cache_of(const cdp_shape *s, const cdp_layer *layer, const cdp_buffers *buffers) {
    const int most = s->kv_dtype == CDP_F32 ? 4 : 8; /* 16 bytes */
    kv_cache kv = {};
    kv.data = layer->kv;
    kv.tables = buffers->tables;
    kv.max_blocks = buffers->max_blocks;
    kv.n_kv_heads = s->n_kv_heads;
    kv.head_dim = s->head_dim;
    kv.key_width = s->head_dim % most == 0 ? most : 1;
    kv.dtype = s->kv_dtype;
    kv.is_tiled = kv_is_tiled(s);
    return kv;
}

/* Where a head's keys (values) of the block of `position` begin, in values. */
__device__ __forceinline__ size_t kv_head_at(const kv_cache &kv, int slot, int position, int kv_head,
                                             bool is_value) {
    const size_t block = (size_t)kv.tables[(size_t)slot * kv.max_blocks + position / CDP_BLOCK_TOKENS];
    const size_t head = (size_t)(CDP_BLOCK_TOKENS * kv.head_dim);
    return (block * 2 * kv.n_kv_heads + (is_value ? kv.n_kv_heads : 0) + kv_head) * head;
}

/* Place of dimension i of a token (position % 16) behind kv_head_at. */
__device__ __forceinline__ int key_at(const kv_cache &kv, int token, int i) {
    return (i / kv.key_width * CDP_BLOCK_TOKENS + token) * kv.key_width + i % kv.key_width;
}
__device__ __forceinline__ int value_at(const kv_cache &kv, int token, int i) {
    if (!kv.is_tiled)
        return token * kv.head_dim + i;
    const int lane = token % 8 / 2,
              e = token % 2 + token / 8 * 2; /* tokens 2t, 2t+1, 2t+8, 2t+9 are a lane's */
    return i / 2 * 32 + lane * 8 + i % 2 * 4 + e;
}

__device__ __forceinline__ void append_key(const kv_cache &kv, int slot, int position, int kv_head, int i,
                                           float x) {
    store(kv.data, kv.dtype,
          kv_head_at(kv, slot, position, kv_head, false) + key_at(kv, position % CDP_BLOCK_TOKENS, i), x);
}
__device__ __forceinline__ void append_value(const kv_cache &kv, int slot, int position, int kv_head, int i,
                                             float x) {
    store(kv.data, kv.dtype,
          kv_head_at(kv, slot, position, kv_head, true) + value_at(kv, position % CDP_BLOCK_TOKENS, i), x);
}
