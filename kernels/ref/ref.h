/* kernels/ref/ref.h - the mathematics of a layer, one formula a function, plain loops, sums in double. The
 * truth that the fast kernels are compared with; layer.c builds the operations of ops.h from these. */
#pragma once

#include "kernels/ops.h"

/* out[i] = x[i] * w[i] / sqrt(mean_i x[i]^2 + eps), i < n (RMSNorm) */
void ref_rmsnorm(float *out, const float *x, const float *w, int n, float eps);

/* out[o] = bias[o] + sum_k w[o,k] * x[k]; bias may have no data. */
void ref_product(float *out, const float *x, const cdp_tensor *w, const cdp_tensor *bias);

/* Turn the first `dim` values of a head: pairs (i, i + dim/2) by the angles whose cos and sin are given. */
void ref_rotate(float *head, const float *cosine, const float *sine, int dim);

/* x / (1 + e^-x) */
float ref_silu(float x);

/* R: the rounding points of ops.h. Rounds n values to bf16 where hidden states are bf16, else leaves them. */
void ref_round(float *x, int n, const cdp_shape *shape);
