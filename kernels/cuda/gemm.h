/* kernels/cuda/gemm.h - products of many rows by cuBLASLt, f32 sums and results.
 *
 *     out (n_rows, n_out)  =  x (n_rows, k)  *  w (n_out, k) transposed
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

/* Queue out = scale x w^T, rows of out out_cols apart. */
cdp_status cuda_gemm_run(cuda_gemm *gemm, cdp_device *device, float *out, int out_cols, const cuda_rows *x,
                         const cdp_tensor *w, float scale, int n_rows);
