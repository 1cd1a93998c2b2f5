/* kernels/cuda/attend.cuh - what the attention kernels share: their arguments, and which rows see which keys.
 */
#pragma once

#include "kernels/cuda/attend_sizes.h"
#include "kernels/cuda/values.cuh"

typedef struct attend_args {
    kv_cache kv;
    const float *qkv; /* q in the first n_heads * head_dim of qkv_cols values a row */
    cuda_rows out;
    const int32_t *slot, *position;
    int qkv_cols, n_rows, n_heads, group, window, n_splits;
    bool is_split;
    float scale; /* attn_scale * log2(e) */
    float *partials;
    unsigned *arrived; /* (rows, n_heads): parts that are done, 0 between launches */
} attend_args;

__device__ __forceinline__ int first_visible(const attend_args &a, int position) {
    return a.window > 0 && position - a.window + 1 > 0 ? position - a.window + 1 : 0;
}

/* Each takes any number of rows; out is what attn_out reads. The tiled ones want attend_has_tiles(), and the
 * split and the plain one scratch for n_splits partial results a row where is_split. */
cdp_status cuda_attend_plain(const attend_args &a, cudaStream_t stream);  /* any dtype, any head_dim */
cdp_status cuda_attend_split(const attend_args &a, cudaStream_t stream);  /* few rows */
cdp_status cuda_attend_prompt(const attend_args &a, cudaStream_t stream); /* many */

/* The head sizes that models have; others take the plain kernel. */
static inline bool attend_has_tiles(int head_dim) {
    return head_dim == 16 || head_dim == 32 || head_dim == 64 || head_dim == 80 || head_dim == 96 ||
           head_dim == 128 || head_dim == 256;
}

/* launcher.go<KV, D>(): format and head size of the cache as constants. */
template <cdp_dtype KV, class Launcher>
static cdp_status attend_with_head(const Launcher &launcher, int head_dim) {
    switch (head_dim) {
    case 16:
        return launcher.template go<KV, 16>();
    case 32:
        return launcher.template go<KV, 32>();
    case 64:
        return launcher.template go<KV, 64>();
    case 80:
        return launcher.template go<KV, 80>();
    case 96:
        return launcher.template go<KV, 96>();
    case 128:
        return launcher.template go<KV, 128>();
    default:
        return launcher.template go<KV, 256>();
    }
}
template <class Launcher> static cdp_status attend_with_cache(const Launcher &launcher, const kv_cache &kv) {
    return kv.dtype == CDP_BF16 ? attend_with_head<CDP_BF16>(launcher, kv.head_dim)
                                : attend_with_head<CDP_F16>(launcher, kv.head_dim);
}
