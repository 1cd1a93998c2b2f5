/* kernels/cuda/attend_mma.cuh - what attention by tensor cores is made of, for 16-bit caches whose heads are
 * multiples of 16.
 *
 * Both products take their fragments from the cache's own layout (values.cuh). The probabilities, which no
 * rounding point allows to round, go in as two 16-bit parts. Softmax is f32, in powers of two.
 *
 * Keys that a query may not see get probability 0; values at positions nobody has written are replaced by 0,
 * because a stale NaN times 0 is a NaN.
 */
#pragma once

#include "kernels/cuda/attend.cuh"

enum { TILE = 16, QUAD = 4 };

/* x, y side by side in the cache's format, by one instruction. */
template <cdp_dtype KV> __device__ __forceinline__ unsigned pack(float x, float y) {
    unsigned bits;
    if (KV == CDP_BF16) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(x, y);
        memcpy(&bits, &two, sizeof bits);
    } else {
        const __half2 two = __floats2half2_rn(x, y);
        memcpy(&bits, &two, sizeof bits);
    }
    return bits;
}

/* x, y as two numbers of the cache's format each: what the first leaves over. */
template <cdp_dtype KV>
__device__ __forceinline__ void pack_two(float x, float y, unsigned *high, unsigned *low) {
    *high = pack<KV>(x, y);
    if (KV == CDP_BF16)
        *low = pack<KV>(x - from_bf16(*high & 0xffff), y - from_bf16(*high >> 16));
    else
        *low = pack<KV>(x - from_f16(*high & 0xffff), y - from_f16(*high >> 16));
}

/* Two values of neighbouring tokens; the one at a position outside [first, last] becomes 0. */
__device__ __forceinline__ unsigned keep_written(unsigned two, int position, int first, int last) {
    const bool keeps_low = position >= first && position <= last,
               keeps_high = position + 1 >= first && position < last;
    return (keeps_low ? two & 0xffffu : 0u) | (keeps_high ? two & 0xffff0000u : 0u);
}
