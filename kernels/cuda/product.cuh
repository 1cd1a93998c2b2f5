/* kernels/cuda/product.cuh - what a product of few rows reads, and what happens to its finished pairs: bias,
 * rope and append; silu; residual.
 *
 *     weights (n_out, k)            pairs that finish together
 *       first  rows  ........       qkv       i and i + head_dim / 2 of a head: what rope turns
 *       second rows  ........       gate_up   gate i and up i
 *                                   others    neighbours
 */
#pragma once

#include "kernels/cuda/values.cuh"

/* What all product kernels read. Pair p is rows first = p / half * 2 half + p % half and second = first +
 * half.
 */
typedef struct product_args {
    const void *weights;
    cdp_dtype dtype;
    int n_out, k, half, n_pairs, n_rows;
    cuda_rows rows;
    const void *norm_in; /* NULL: rows are ready */
    cdp_dtype norm_in_dtype;
    const float *norm;
    float eps;
} product_args;

__device__ __forceinline__ int first_of(const product_args &a, int pair) {
    return pair / a.half * 2 * a.half + pair % a.half;
}

__device__ __forceinline__ float bias_of(const float *bias, int out) {
    return bias != NULL ? bias[out] : 0.0f;
}

/* out[row, o] = scale * (value + bias[o]) */
struct finish_store {
    float *out;
    const float *bias;
    float scale;
    int out_cols;
    __device__ void one(int row, int o, float value) const {
        out[(size_t)row * out_cols + o] = scale * (value + bias_of(bias, o));
    }
    __device__ void operator()(const product_args &a, int row, int first, float x, float y) const {
        one(row, first, x);
        if (first + a.half < a.n_out)
            one(row, first + a.half, y);
    }
};

/* hidden[row, o] = R5(hidden[row, o] + scale * (value + bias[o])) */
struct finish_add {
    void *hidden;
    cdp_dtype dtype;
    const float *bias;
    float scale;
    __device__ void one(const product_args &a, int row, int o, float value) const {
        const size_t at = (size_t)row * a.n_out + o;
        store(hidden, dtype, at, load(hidden, dtype, at) + scale * (value + bias_of(bias, o)));
    }
    __device__ void operator()(const product_args &a, int row, int first, float x, float y) const {
        one(a, row, first, x);
        if (first + a.half < a.n_out)
            one(a, row, first + a.half, y);
    }
};

/* out[row, i] = R6(silu(gate + bias) * (up + bias)) */
struct finish_silu {
    cuda_rows out;
    const float *bias;
    __device__ void operator()(const product_args &a, int row, int first, float gate, float up) const {
        store_activation(out, row, first,
                         silu(gate + bias_of(bias, first)) * (up + bias_of(bias, first + a.half)));
    }
};

/* q, k, v of dimensions i and i + head_dim / 2: bias, rope, R3; q to its row, k and v to the cache. */
struct finish_qkv {
    kv_cache kv;
    float *qkv;
    const float *bias, *rope; /* rope (rows, 2, head_dim / 2), NULL: none in this layer */
    const int32_t *slot, *position;
    int n_heads, n_cols;
    bool is_bf16;
    __device__ void operator()(const product_args &a, int row, int first, float x, float y) const {
        const int head = first / kv.head_dim, i = first % kv.head_dim, second = i + a.half;
        const int kv_head = (head - n_heads) % kv.n_kv_heads, s = slot[row], at = position[row];
        if (s < 0)
            return;
        x += bias_of(bias, first);
        y += bias_of(bias, first + a.half);
        if (rope != NULL && head < n_heads + kv.n_kv_heads) {
            const float *cosine = rope + (size_t)row * kv.head_dim, *sine = cosine + a.half;
            const float turned = x * cosine[i] - y * sine[i];
            y = y * cosine[i] + x * sine[i];
            x = turned;
        }
        x = rounded(x, is_bf16);
        y = rounded(y, is_bf16);
        if (head < n_heads) {
            qkv[(size_t)row * n_cols + first] = x;
            qkv[(size_t)row * n_cols + first + a.half] = y;
        } else if (head < n_heads + kv.n_kv_heads) {
            append_key(kv, s, at, kv_head, i, x);
            append_key(kv, s, at, kv_head, second, y);
        } else {
            append_value(kv, s, at, kv_head, i, x);
            append_value(kv, s, at, kv_head, second, y);
        }
    }
};
