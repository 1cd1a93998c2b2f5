/* kernels/cuda/kernels.h - what the .cu files offer to the operation table (ops.c): launchers that queue one
 * kernel on a stream, check shapes and return the launch status.
 *
 *     few rows    hidden -> [ norm + qkv + bias + rope + append ] -> [ attend, split over keys ]
 *                        -> [ attn_out + residual ] -> [ norm + gate, up + silu ] -> [ down + residual ]
 *     many rows   norm -> cuBLASLt -> one elementwise kernel, or the residual in cuBLASLt; attention on
 *                 tensor cores
 *
 * Activations. What a product reads lies in the form its weights ask for, in rows that keep the planner's f32
 * size:
 *
 *     bf16 weights   bf16              (n)     at the row's start
 *     fp32 weights   f32               (n)
 *     fp16 weights   two f16 a value   (n) high parts at the row's start, (n) low parts from its middle on:
 *                    x = 16 (high + low / 2048), 22 bits of x, and |x| < 2^20. So fp16 runs, whose
 *                    activations are f32 and never rounded, still multiply on tensor cores.
 *
 * q stays f32, as do products before their residual. Gate and up of many rows are bf16 where both matrices
 * are (gemm.h).
 */
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/ops.h"

enum {
    CUDA_FEW_ROWS = 16, /* up to here products are our own kernels, above they are cuBLASLt's */
    CUDA_SPLIT_HIGH = 16,
    CUDA_SPLIT_LOW = 2048, /* the low part, away from where f16 loses bits */
};

/* Activations (rows, n) in the form of `weights`, row r at data + r * row_bytes. */
typedef struct cuda_rows {
    void *data;
    size_t row_bytes;
    cdp_dtype weights;
} cuda_rows;

/* rows.cu: one block a row ------------------------------------------------------------------------------- */

/* out = R(rmsnorm(in) * weight), or R(in) where weight is NULL. in (n_rows, n) in in_dtype. */
cdp_status cuda_norm(cuda_rows out, const void *in, cdp_dtype in_dtype, const float *weight,
                     const cdp_shape *shape, int n_rows, cudaStream_t stream);

/* From products (n_rows, heads) in buffers->qkv: bias (may be NULL), q/k norm, rope, R3, append to the cache.
 */
cdp_status cuda_heads(const cdp_shape *shape, const cdp_layer *layer, const float *bias,
                      const cdp_step_view *step, const cdp_buffers *buffers, cudaStream_t stream);

/* rows = R6(silu(gate + bias) * (up + bias)), in place: rows.data holds gate, up (n_rows, 2, ffn) before, as
 * f32, or as bf16 for bf16 rows and ffn a multiple of 8. */
cdp_status cuda_silu(cuda_rows rows, cdp_dtype products, const float *bias, const cdp_shape *shape,
                     int n_rows, cudaStream_t stream);

/* hidden = R5(hidden + residual_scale * norm(product + bias)); bias and norm may be NULL. */
cdp_status cuda_add(void *hidden, const float *product, const float *bias, const float *norm,
                    const cdp_shape *shape, int n_rows, cudaStream_t stream);

/* product.cu: few rows ----------------------------------------------------------------------------------- */

/* What stands before the product: rows that are ready, or (norm_in not NULL) hidden states to be normed
 * first. */
typedef struct cuda_input {
    cuda_rows rows;      /* read, or written first where the norm is no part of the kernel */
    const void *norm_in; /* (n_rows, k) in the hidden dtype, or NULL */
    const float *norm;   /* weights of that norm; NULL: only rounded */
} cuda_input;

/* out[r,o] = scale * (sum_k w[o,k] x[r,k] + bias[o]), f32, rows of out out_cols apart. Any number of rows. */
cdp_status cuda_product(float *out, int out_cols, const cdp_tensor *w, const float *bias, float scale,
                        const cuda_input *in, const cdp_shape *shape, int n_rows, cudaStream_t stream);

/* hidden = R5(hidden + residual_scale * (product + bias)) */
cdp_status cuda_product_add(void *hidden, const cdp_tensor *w, const float *bias, const cuda_input *in,
                            const cdp_shape *shape, int n_rows, cudaStream_t stream);

/* q, k, v with bias, rope, R3; q to buffers->qkv, k and v to the cache. Only where cuda_can_fuse_qkv(). */
cdp_status cuda_product_qkv(const cdp_layer *layer, const cuda_input *in, const cdp_shape *shape,
                            const cdp_step_view *step, const cdp_buffers *buffers, cudaStream_t stream);

/* No q/k norm (it needs whole heads), and rope turns the whole head or nothing. */
bool cuda_can_fuse_qkv(const cdp_shape *shape, const cdp_layer *layer);

/* out = R6(silu(gate) * up), with biases */
cdp_status cuda_product_gate_up(cuda_rows out, const cdp_layer *layer, const cuda_input *in,
                                const cdp_shape *shape, int n_rows, cudaStream_t stream);

/* attend.cu, attend_split.cu, attend_prompt.cu, attend_plain.cu ------------------------------------------ */

/* context = R4(softmax(q k scale) v); out is what attn_out reads. scratch: attend_sizes.h; its counters are
 * zero before the first call, and nothing else writes there. */
cdp_status cuda_attend(cuda_rows out, const cdp_shape *shape, const cdp_layer *layer,
                       const cdp_step_view *step, const cdp_buffers *buffers, void *scratch,
                       size_t scratch_bytes, cudaStream_t stream);

/* move.cu ------------------------------------------------------------------------------------------------ */

cdp_status cuda_embed(const cdp_shape *shape, const cdp_tensor *embed, const cdp_step_view *step,
                      cudaStream_t stream);
cdp_status cuda_pick(const cdp_shape *shape, const cdp_step_view *step, void *picked, cudaStream_t stream);
cdp_status cuda_rope(const cdp_shape *shape, const cdp_step_view *step, float *rope, cudaStream_t stream);
cdp_status cuda_kv_update(uint64_t block_bytes, const cdp_layer *layers, int n_layers,
                          const cdp_kv_command *commands, int n_commands, const cdp_buffers *buffers,
                          cudaStream_t stream);

#ifdef __cplusplus
}
#endif
