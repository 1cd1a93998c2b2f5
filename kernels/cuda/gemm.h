/* kernels/cuda/gemm.h - products of many rows by cuBLASLt, with f32 sums.
 *
 *     out (n_rows, n_out)  =  x (n_rows, k)  *  w (n_out, k) transposed  [+ out]
 *
 * Row-major matrices are column-major ones transposed, so cuBLASLt sees out^T = w^T^T x^T: the TN form that
 * its fastest kernels serve. bf16 and fp16 multiply on tensor cores with f32 sums; fp32 is true f32, never
 * TF32. fp16 activations are two parts (kernels.h) and take two products. The algorithm is cuBLASLt's first
 * choice for a shape, kept as long as the shape is: the same step gives the same bits.
 */
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"

typedef struct cuda_gemm cuda_gemm;

cdp_status cuda_gemm_open(cuda_gemm **out);
void cuda_gemm_close(cuda_gemm *gemm); /* NULL is fine */

/* Rows and weights whose rows are multiples of 16 bytes; others are the product kernels' (product.cu). */
bool cuda_gemm_takes(const cdp_tensor *w);

/* Where a product goes: rows of (n_rows, n_out) of `dtype`, `cols` values apart, the first and each a
 * multiple of 16 bytes. */
typedef struct cuda_gemm_out {
    void *data;
    cdp_dtype dtype; /* one that cuda_gemm_writes() */
    int cols;
    bool is_added; /* to what lies there, before the one rounding to `dtype`; else that is not read */
} cuda_gemm_out;

/* f32 always; bf16 where the weights are bf16 and n_out is a multiple of 16 bytes. Not fp16, which cuBLASLt
 * could: an fp16 run rounds no activation (its two products, high and low, are one sum in f32), and fp16 ends
 * at 65504, which gate and up of real models pass. */
bool cuda_gemm_writes(const cdp_tensor *w, cdp_dtype dtype);

/* Whether cuBLASLt has an algorithm for that product: asked once a shape. What it has none for is the product
 * kernels', too; a line says so. */
cdp_status cuda_gemm_has(cuda_gemm *gemm, cdp_device *device, const cuda_gemm_out *out, const cuda_rows *x,
                         const cdp_tensor *w, int n_rows, bool *has_out);

/* Queue out = scale x w^T, or out += scale x w^T, of a product it has. */
cdp_status cuda_gemm_run(cuda_gemm *gemm, cdp_device *device, const cuda_gemm_out *out, const cuda_rows *x,
                         const cdp_tensor *w, float scale, int n_rows);
