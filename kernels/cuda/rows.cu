/* kernels/cuda/rows.cu - what stands between the products of many rows: norms, heads, silu, residual. One
 * block a row (or a row's head), each value read and written once: bound by those bytes. Truth:
 * kernels/ref/layer.c.
 */
#include "kernels/cuda/values.cuh"

enum { THREADS = 256, SILU_EACH = 8 /* 16 bytes of bf16 */ };

/* out[r] = R(rmsnorm(in[r]) * weight); in (n_rows, n), out in the form its reader wants. One block a row. */
__global__ static void norm_kernel(const cuda_rows out, const void *in, cdp_dtype in_dtype,
                                   const float *weight, int n, float eps) {
    __shared__ float partial[THREADS / LANES];
    ptx_wait_previous();
    ptx_launch_next();
    norm_row<THREADS>(out, blockIdx.x, in, in_dtype, blockIdx.x, n, weight, eps, partial);
}

extern "C" cdp_status cuda_norm(cuda_rows out, const void *in, cdp_dtype in_dtype, const float *weight,
                                const cdp_shape *shape, int n_rows, cudaStream_t stream) {
    if (n_rows == 0)
        return CDP_OK;
    return CDP_LAUNCH_PDL(norm_kernel, (unsigned)n_rows, THREADS, 0, stream, out, in, in_dtype, weight,
                          shape->hidden, shape->norm_eps);
}

typedef struct heads_args {
    kv_cache kv;
    float *qkv; /* (n_rows, n_heads + 2 n_kv_heads, head_dim) */
    const float *bias, *q_norm, *k_norm, *rope;
    const int32_t *slot, *position;
    int n_heads, n_all, n_units, rope_dim; /* n_units: heads_kernel's teams of a row */
    cdp_head_norm head_norm;
    float eps;
    bool is_bf16;
} heads_args;

/* Heads [first, end) of a row that share a norm, number `unit`: q, k or v alone (NORM_ALL), else one head. */
__device__ __forceinline__ void unit_heads(const heads_args &a, int unit, int *first_out, int *end_out) {
    if (a.head_norm != CDP_HEAD_NORM_ALL) {
        *first_out = unit;
        *end_out = unit + 1;
        return;
    }
    const int n_kv = a.kv.n_kv_heads, begins[4] = {0, a.n_heads, a.n_heads + n_kv, a.n_heads + 2 * n_kv};
    *first_out = begins[unit];
    *end_out = begins[unit + 1];
}

/* Where a finished value goes: q to its place in the row, k and v to the cache. */
__device__ __forceinline__ void put_head_value(const heads_args &a, float *q, int s, int position, int head,
                                               int i, float x) {
    const int n_kv = a.kv.n_kv_heads;
    x = rounded(x, a.is_bf16);
    if (head < a.n_heads)
        q[head * a.kv.head_dim + i] = x;
    else if (head < a.n_heads + n_kv)
        append_key(a.kv, s, position, head - a.n_heads, i, x);
    else
        append_value(a.kv, s, position, head - a.n_heads - n_kv, i, x);
}

/* x = product + bias; q and k: rmsnorm over a head or over all heads, then pairs (i, i + rope_dim / 2)
 * turned; R3. A team is the warp of one head, or the block of all heads that share a norm; a thread owns
 * whole pairs, so it may write where it read. */
template <int TEAM> __global__ static void heads_kernel(const heads_args a) {
    __shared__ float partial[THREADS / LANES];
    ptx_wait_previous();
    ptx_launch_next();
    const int row = blockIdx.x, s = a.slot[row], position = a.position[row], d = a.kv.head_dim;
    const int unit = blockIdx.y * (THREADS / TEAM) + threadIdx.x / TEAM, me = threadIdx.x % TEAM;
    if (s < 0 || unit >= a.n_units)
        return;
    int first, end;
    unit_heads(a, unit, &first, &end);
    const int n = (end - first) * d;
    const bool is_value = first >= a.n_heads + a.kv.n_kv_heads, is_query = first < a.n_heads;
    float *row_data = a.qkv + (size_t)row * a.n_all * d, *x = row_data + first * d;
    const float *bias = a.bias != NULL ? a.bias + first * d : NULL;
    const float *weight = is_value ? NULL : is_query ? a.q_norm : a.k_norm;

    float scale = 1.0f;
    if (weight != NULL) {
        float sum = 0.0f;
        for (int i = me; i < n; i += TEAM) {
            const float v = x[i] + (bias != NULL ? bias[i] : 0.0f);
            sum += v * v;
        }
        sum = TEAM == LANES ? warp_sum(sum) : block_sum<THREADS>(sum, partial);
        scale = rsqrtf(sum / n + a.eps);
    }
    /* Turned pairs first, then what rope leaves alone. */
    const int turned = is_value || a.rope == NULL ? 0 : a.rope_dim / 2, rest = d - 2 * turned,
              items = turned + rest;
    const float *cosine = turned > 0 ? a.rope + (size_t)row * a.rope_dim : NULL, *sine = cosine + turned;
    for (int item = me; item < (end - first) * items; item += TEAM) {
        const int head = TEAM == LANES ? 0 : item / items, j = item - head * items;
        const int i = j < turned ? j : j + turned, at = head * d + i, pair = at + turned;
        float u = x[at] + (bias != NULL ? bias[at] : 0.0f);
        u *= scale * (weight != NULL ? weight[at] : 1.0f);
        if (j >= turned) {
            put_head_value(a, row_data, s, position, first + head, i, u);
            continue;
        }
        float v = x[pair] + (bias != NULL ? bias[pair] : 0.0f);
        v *= scale * (weight != NULL ? weight[pair] : 1.0f);
        put_head_value(a, row_data, s, position, first + head, i, u * cosine[j] - v * sine[j]);
        put_head_value(a, row_data, s, position, first + head, i + turned, v * cosine[j] + u * sine[j]);
    }
}

extern "C" cdp_status cuda_heads(const cdp_shape *shape, const cdp_layer *layer, const float *bias,
                                 const cdp_step_view *step, const cdp_buffers *buffers, cudaStream_t stream) {
    if (step->n_rows == 0)
        return CDP_OK;
    heads_args a = {};
    a.kv = kv_cache_of(shape, layer, buffers);
    a.qkv = buffers->qkv;
    a.bias = bias;
    a.rope = layer->has_rope ? buffers->rope : NULL;
    a.slot = step->slot;
    a.position = step->position;
    a.n_heads = shape->n_heads;
    a.n_all = shape->n_heads + 2 * shape->n_kv_heads;
    a.rope_dim = shape->rope_dim;
    a.head_norm = shape->head_norm;
    a.eps = shape->norm_eps;
    a.is_bf16 = shape->hidden_dtype == CDP_BF16;
    if (shape->head_norm != CDP_HEAD_NORM_NONE) {
        a.q_norm = static_cast<const float *>(layer->q_norm.data);
        a.k_norm = static_cast<const float *>(layer->k_norm.data);
    }
    const unsigned rows = (unsigned)step->n_rows, heads_a_block = THREADS / LANES;
    a.n_units = shape->head_norm == CDP_HEAD_NORM_ALL ? 3 : a.n_all;
    if (shape->head_norm == CDP_HEAD_NORM_ALL)
        return CDP_LAUNCH_PDL((heads_kernel<THREADS>), dim3(rows, 3), THREADS, 0, stream, a);
    return CDP_LAUNCH_PDL((heads_kernel<LANES>),
                          dim3(rows, ((unsigned)a.n_all + heads_a_block - 1) / heads_a_block), THREADS, 0,
                          stream, a);
}

/* rows[r, i] = R6(silu(gate[r, i] + bias) * (up[r, i] + bias)); gate, up (n_rows, 2, ffn) f32, in place. One
 * block a row.
 *
 * The results are no wider than f32 and begin where gate began (the low parts of fp16 where up began), so
 * what a wave of THREADS * EACH values writes lies in what this wave or an earlier one has read: one barrier
 * a wave keeps the reads before the writes.
 */
__global__ static void silu_kernel(const cuda_rows rows, const float *bias, int n) {
    enum { EACH = 4 };
    ptx_wait_previous();
    ptx_launch_next();
    const float *gate = reinterpret_cast<const float *>(row_of(rows, blockIdx.x)), *up = gate + n;
    for (int base = 0; base < n; base += THREADS * EACH) {
        float x[EACH];
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = base + e * THREADS + threadIdx.x;
            if (i < n)
                x[e] = bias != NULL ? silu(gate[i] + bias[i]) * (up[i] + bias[n + i]) : silu(gate[i]) * up[i];
        }
        __syncthreads();
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = base + e * THREADS + threadIdx.x;
            if (i < n)
                store_activation(rows, blockIdx.x, i, x[e]);
        }
    }
}

/* Value i of the same, of bf16 gate and up and as bf16. */
__device__ __forceinline__ unsigned silu_bits(unsigned gate, unsigned up, const float *bias, int n, int i) {
    const float x = from_bf16(gate), y = from_bf16(up);
    return to_bf16(bias != NULL ? silu(x + bias[i]) * (y + bias[n + i]) : silu(x) * y);
}

/* The same on bf16 products, SILU_EACH values a thread; the results lie where their gates lay. */
__global__ static void silu_bf16_kernel(const cuda_rows rows, const float *bias, int n) {
    ptx_wait_previous();
    ptx_launch_next();
    uint16_t *gate = reinterpret_cast<uint16_t *>(row_of(rows, blockIdx.x)), *up = gate + n;
    const int i = (blockIdx.y * THREADS + threadIdx.x) * SILU_EACH;
    if (i >= n)
        return;
    const uint4 g = ptx_load16(gate + i), u = ptx_load16(up + i);
    const unsigned gates[4] = {g.x, g.y, g.z, g.w}, ups[4] = {u.x, u.y, u.z, u.w};
    unsigned out[4];
#pragma unroll
    for (int e = 0; e < 4; e++)
        out[e] = silu_bits(gates[e] & 0xffff, ups[e] & 0xffff, bias, n, i + 2 * e) |
                 silu_bits(gates[e] >> 16, ups[e] >> 16, bias, n, i + 2 * e + 1) << 16;
    ptx_store16(gate + i, make_uint4(out[0], out[1], out[2], out[3]));
}

extern "C" cdp_status cuda_silu(cuda_rows rows, cdp_dtype products, const float *bias, const cdp_shape *shape,
                                int n_rows, cudaStream_t stream) {
    if (n_rows == 0)
        return CDP_OK;
    const int a_block = THREADS * SILU_EACH;
    if (products == CDP_BF16)
        return CDP_LAUNCH_PDL(silu_bf16_kernel,
                              dim3((unsigned)n_rows, (unsigned)((shape->ffn + a_block - 1) / a_block)),
                              THREADS, 0, stream, rows, bias, shape->ffn);
    return CDP_LAUNCH_PDL(silu_kernel, (unsigned)n_rows, THREADS, 0, stream, rows, bias, shape->ffn);
}

/* hidden[r] = R5(hidden[r] + scale * norm(product[r] + bias)); hidden, product (n_rows, n). One block a row.
 */
__global__ static void add_kernel(void *hidden, cdp_dtype dtype, const float *product, const float *bias,
                                  const float *norm, int n, float eps, float scale) {
    __shared__ float partial[THREADS / LANES];
    ptx_wait_previous();
    ptx_launch_next();
    const size_t row = (size_t)blockIdx.x * n;
    float normed = 1.0f;
    if (norm != NULL) {
        float sum = 0.0f;
        for (int i = threadIdx.x; i < n; i += THREADS) {
            const float x = product[row + i] + (bias != NULL ? bias[i] : 0.0f);
            sum += x * x;
        }
        normed = rsqrtf(block_sum<THREADS>(sum, partial) / n + eps);
    }
    for (int i = threadIdx.x; i < n; i += THREADS) {
        const float x = product[row + i] + (bias != NULL ? bias[i] : 0.0f);
        const float y = norm != NULL ? x * normed * norm[i] : x;
        store(hidden, dtype, row + i, load(hidden, dtype, row + i) + scale * y);
    }
}

extern "C" cdp_status cuda_add(void *hidden, const float *product, const float *bias, const float *norm,
                               const cdp_shape *shape, int n_rows, cudaStream_t stream) {
    if (n_rows == 0)
        return CDP_OK;
    return CDP_LAUNCH_PDL(add_kernel, (unsigned)n_rows, THREADS, 0, stream, hidden, shape->hidden_dtype,
                          product, bias, norm, shape->hidden, shape->norm_eps, shape->residual_scale);
}
