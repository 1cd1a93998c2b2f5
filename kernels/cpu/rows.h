/* kernels/cpu/rows.h - what a tier does to one row at a time: norms, rope, silu, residual, rounding. Sums of
 * a row run in one vector accumulator, VF at a time, then one fixed tree. */
#pragma once

#include "kernels/cpu/queue.h"
#include "kernels/cpu/simd.h"

/* sum of x[i]^2 */
SIMD float row_square_sum(const float *x, int n) {
    vf sum = v_set(0.0f);
    int i = 0;
    for (; i + VF <= n; i += VF) {
        const vf v = v_load(x + i);
        sum = v_fma(v, v, sum);
    }
    if (i < n) {
        const vf v = v_load_part(x, CDP_F32, (size_t)i, n - i);
        sum = v_fma(v, v, sum);
    }
    return v_sum(sum);
}

/* out = x * w / sqrt(mean x^2 + eps); out may be x */
SIMD void row_rmsnorm(float *out, const float *x, const float *w, int n, float eps) {
    const float scale = 1.0f / sqrtf(row_square_sum(x, n) / (float)n + eps);
    for (int i = 0; i < n; i++)
        out[i] = x[i] * scale * w[i];
}

/* Values of a hidden row as f32. */
SIMD void row_load(float *out, const void *hidden, const cdp_shape *s, int row) {
    const size_t first = (size_t)row * (size_t)s->hidden;
    int i = 0;
    for (; i + VF <= s->hidden; i += VF)
        v_store(out + i, v_load_as(hidden, s->hidden_dtype, first + (size_t)i));
    for (; i < s->hidden; i++)
        out[i] = cdp_load(hidden, s->hidden_dtype, first + (size_t)i);
}

/* The rounding points of ops.h. */
SIMD void row_round(float *x, int n, const cdp_shape *s) {
    if (s->hidden_dtype != CDP_BF16)
        return;
    int i = 0;
    for (; i + VF <= n; i += VF)
        v_store(x + i, v_round_bf16(v_load(x + i)));
    for (; i < n; i++)
        x[i] = cdp_round_bf16(x[i]);
}

SIMD void row_add_bias(float *x, const cdp_tensor *bias, int n) {
    const float *b = bias->data;
    for (int i = 0; b != NULL && i < n; i++)
        x[i] += b[i];
}

/* normed = round(norm(hidden)); no norm: hidden as it is */
SIMD void row_norm(float *out, const void *hidden, const cdp_shape *s, const cdp_tensor *norm, int row) {
    row_load(out, hidden, s, row);
    if (norm->data != NULL)
        row_rmsnorm(out, out, norm->data, s->hidden, s->norm_eps);
    row_round(out, s->hidden, s);
}

/* hidden = round(hidden + residual_scale * post_norm(x + bias)) */
SIMD void row_residual(void *hidden, float *x, const cdp_shape *s, const cdp_tensor *bias,
                       const cdp_tensor *post_norm, int row) {
    row_add_bias(x, bias, s->hidden);
    if (post_norm->data != NULL)
        row_rmsnorm(x, x, post_norm->data, s->hidden, s->norm_eps);
    const size_t first = (size_t)row * (size_t)s->hidden;
    const vf scale = v_set(s->residual_scale);
    int i = 0;
    for (; i + VF <= s->hidden; i += VF) {
        const vf h = v_load_as(hidden, s->hidden_dtype, first + (size_t)i);
        v_store_as(hidden, s->hidden_dtype, first + (size_t)i, v_load(x + i) * scale + h);
    }
    for (; i < s->hidden; i++) {
        const float h = cdp_load(hidden, s->hidden_dtype, first + (size_t)i);
        cdp_store(hidden, s->hidden_dtype, first + (size_t)i, x[i] * s->residual_scale + h);
    }
}

/* gate = round(silu(gate) * up) */
SIMD void row_silu_product(float *gate, const float *up, int n, const cdp_shape *s) {
    float tail[VF] = {0}, tail_up[VF] = {0};
    int i = 0;
    for (; i + VF <= n; i += VF) {
        const vf g = v_load(gate + i);
        v_store(gate + i, g / (1.0f + v_exp(-g)) * v_load(up + i));
    }
    if (i < n) {
        memcpy(tail, gate + i, (size_t)(n - i) * sizeof *gate);
        memcpy(tail_up, up + i, (size_t)(n - i) * sizeof *up);
        const vf g = v_load(tail);
        v_store(tail, g / (1.0f + v_exp(-g)) * v_load(tail_up));
        memcpy(gate + i, tail, (size_t)(n - i) * sizeof *gate);
    }
    row_round(gate, n, s);
}

/* Pairs (i, i + dim/2) of one head by the angles of its position. */
SIMD void row_rotate(float *head, const float *cosine, const float *sine, int dim) {
    const int half = dim / 2;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + half] = b * cosine[i] + a * sine[i];
    }
}

SIMD void row_norm_heads(float *heads, int n_heads, const cdp_tensor *norm, const cdp_shape *s) {
    if (s->head_norm == CDP_HEAD_NORM_ALL)
        row_rmsnorm(heads, heads, norm->data, n_heads * s->head_dim, s->norm_eps);
    for (int h = 0; s->head_norm == CDP_HEAD_NORM_EACH && h < n_heads; h++)
        row_rmsnorm(heads + h * s->head_dim, heads + h * s->head_dim, norm->data, s->head_dim, s->norm_eps);
}
