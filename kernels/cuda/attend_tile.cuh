/* kernels/cuda/attend_tile.cuh - 16 query vectors of one warp against blocks of 16 keys, by tensor cores.
 *
 * 16-bit caches, heads that are multiples of 16. Both products take their fragments straight from the cache's
 * own layout (values.cuh). The probabilities, which no rounding point allows to round, go in as two 16-bit
 * parts. Softmax is f32, in powers of two.
 *
 * Keys that a query may not see get probability 0; values at positions nobody has written are replaced by 0,
 * because a stale NaN times 0 is a NaN.
 */
#pragma once

#include "kernels/cuda/attend.cuh"

enum { TILE = 16, QUAD = 4 };

template <cdp_dtype KV> __device__ __forceinline__ unsigned pack(float x, float y) {
    return KV == CDP_BF16 ? to_bf16(x) | to_bf16(y) << 16 : to_f16(x) | to_f16(y) << 16;
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

template <cdp_dtype KV>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const unsigned b[2] = {b0, b1};
    if (KV == CDP_BF16)
        ptx_mma_bf16(d, a, b);
    else
        ptx_mma_f16(d, a, b);
}

/* 16 query vectors of one warp: a lane has vectors g and g + 8 (index 0 and 1). bf16 queries are exact in the
 * cache's format; f32 queries (fp16 runs) take two parts. Wide heads have no registers for queries beside
 * their sums: a lane keeps its own in shared memory, where nobody else looks. */
enum { WARPS = 4, THREADS = WARPS * LANES }; /* of a block, here */

template <cdp_dtype KV, int D> struct query_tile {
    enum { STEPS = (D + 31) / 32, Q_PARTS = KV == CDP_F16 ? 2 : 1, FRAGMENTS = STEPS * 2 * Q_PARTS };
    enum { IN_SHARED = D > 128, SHARED_BYTES = IN_SHARED ? FRAGMENTS * THREADS * 16 : 0 };
    /* a fragments of 32 dimensions: 8t..8t+3, then 8t+4..8t+7 of each 32; part after part */
    unsigned q[IN_SHARED ? 1 : FRAGMENTS][4];
    uint4 *shared_q;         /* (FRAGMENTS, THREADS), this lane's column */
    int first[2], last[2];   /* visible positions; none where first > last */
    float most[2], total[2]; /* total: this lane's share */
    float sums[D / 8][4];    /* dimensions 16j + 4t + {0, 2} in [2j], {1, 3} in [2j + 1] */
};

/* Values i and i + 1 of a vector as the cache's format has them, in two parts; zero where it is not there. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void query_pair(const float *q, int i, unsigned *high, unsigned *low) {
    const bool is_there = q != NULL && i < D;
    pack_two<KV>(is_there ? q[i] : 0.0f, is_there ? q[i + 1] : 0.0f, high, low);
}

/* Vectors q[0] and q[1] (NULL: not there) as a fragments. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void load_queries(query_tile<KV, D> &u, const float *const (&q)[2], int t) {
    typedef query_tile<KV, D> tile;
#pragma unroll
    for (int n = 0; n < tile::STEPS * 2; n++) {
        unsigned parts[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            query_pair<KV, D>(q[i % 2], n / 2 * 32 + t * 8 + n % 2 * 4 + i / 2 * 2, &parts[0][i],
                              &parts[1][i]);
#pragma unroll
        for (int part = 0; part < tile::Q_PARTS; part++) {
            const unsigned(&from)[4] = parts[part];
            if constexpr (tile::IN_SHARED) {
                u.shared_q[(n * tile::Q_PARTS + part) * THREADS] =
                    make_uint4(from[0], from[1], from[2], from[3]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    u.q[n * tile::Q_PARTS + part][i] = from[i];
            }
        }
    }
}

template <cdp_dtype KV, int D>
__device__ __forceinline__ void query_fragment(const query_tile<KV, D> &u, int number, unsigned (&out)[4]) {
    if constexpr (query_tile<KV, D>::IN_SHARED) {
        const uint4 q = u.shared_q[number * THREADS];
        out[0] = q.x, out[1] = q.y, out[2] = q.z, out[3] = q.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            out[i] = u.q[number][i];
    }
}

/* `shared`: SHARED_BYTES of the block's. */
template <cdp_dtype KV, int D> __device__ __forceinline__ void clear(query_tile<KV, D> &u, void *shared) {
    u.shared_q = static_cast<uint4 *>(shared) + threadIdx.x;
#pragma unroll
    for (int which = 0; which < 2; which++) {
        u.most[which] = -INFINITY;
        u.total[which] = 0.0f;
        u.first[which] = 1;
        u.last[which] = 0;
    }
#pragma unroll
    for (int j = 0; j < D / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            u.sums[j][i] = 0.0f;
}

/* Two values of neighbouring tokens; the one at a position outside [first, last] becomes 0. */
__device__ __forceinline__ unsigned keep_written(unsigned two, int position, int first, int last) {
    const bool keeps_low = position >= first && position <= last,
               keeps_high = position + 1 >= first && position < last;
    return (keeps_low ? two & 0xffffu : 0u) | (keeps_high ? two & 0xffff0000u : 0u);
}

/* One KV block of 16 tokens, the first at `position`. [written_first, written_last]: positions that hold
 * values. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void attend_block(query_tile<KV, D> &u, const attend_args &a, const uint16_t *keys,
                                             const uint16_t *values, int position, int written_first,
                                             int written_last, int g, int t) {
    constexpr int parts = query_tile<KV, D>::Q_PARTS;
    float s[2][4] = {}; /* tokens 8n + 2t, 8n + 2t + 1 of vector g, then of g + 8 */
#pragma unroll
    for (int step = 0; step < query_tile<KV, D>::STEPS; step++) {
        const int chunk = step * 4 + t; /* 8 dimensions */
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const uint4 k = chunk < D / 8 ? ptx_load16(keys + (chunk * CDP_BLOCK_TOKENS + n * 8 + g) * 8)
                                          : make_uint4(0, 0, 0, 0);
#pragma unroll
            for (int part = 0; part < parts; part++) {
                unsigned q[4];
                query_fragment(u, step * 2 * parts + part, q);
                mma<KV>(s[n], q, k.x, k.y);
                query_fragment(u, (step * 2 + 1) * parts + part, q);
                mma<KV>(s[n], q, k.z, k.w);
            }
        }
    }
    unsigned high[4], low[4]; /* probabilities as a fragments: registers 0, 2 of vector g, 1, 3 of g + 8 */
#pragma unroll
    for (int which = 0; which < 2; which++) {
        float most = u.most[which];
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int j = position + n * 8 + 2 * t + e;
                float *score = &s[n][which * 2 + e];
                *score = j >= u.first[which] && j <= u.last[which] ? *score * a.scale : -INFINITY;
                most = fmaxf(most, *score);
            }
        most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
        const float base = most == -INFINITY ? 0.0f : most; /* nothing seen yet: all powers are 0 */
        const float shrink = exp2f(u.most[which] - base);
        u.most[which] = most;
        u.total[which] *= shrink;
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float x = exp2f(s[n][which * 2] - base), y = exp2f(s[n][which * 2 + 1] - base);
            u.total[which] += x + y;
            pack_two<KV>(x, y, &high[n * 2 + which], &low[n * 2 + which]);
        }
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            u.sums[j][which * 2] *= shrink;
            u.sums[j][which * 2 + 1] *= shrink;
        }
    }
    const bool is_edge = position < written_first || position + CDP_BLOCK_TOKENS - 1 > written_last;
#pragma unroll
    for (int j = 0; j < D / 16; j++) {
        uint4 v = ptx_load16(values + (8 * j + g) * 32 +
                             t * 8); /* tokens 2t, 2t+1, 2t+8, 2t+9 of an even, an odd one */
        if (is_edge) {
            v.x = keep_written(v.x, position + 2 * t, written_first, written_last);
            v.y = keep_written(v.y, position + 2 * t + 8, written_first, written_last);
            v.z = keep_written(v.z, position + 2 * t, written_first, written_last);
            v.w = keep_written(v.w, position + 2 * t + 8, written_first, written_last);
        }
        mma<KV>(u.sums[2 * j], high, v.x, v.y);
        mma<KV>(u.sums[2 * j], low, v.x, v.y);
        mma<KV>(u.sums[2 * j + 1], high, v.z, v.w);
        mma<KV>(u.sums[2 * j + 1], low, v.z, v.w);
    }
}

template <cdp_dtype KV, int D> __device__ __forceinline__ void add_up_totals(query_tile<KV, D> &u) {
#pragma unroll
    for (int which = 0; which < 2; which++) {
        u.total[which] += __shfl_xor_sync(ALL_LANES, u.total[which], 1);
        u.total[which] += __shfl_xor_sync(ALL_LANES, u.total[which], 2);
    }
}
