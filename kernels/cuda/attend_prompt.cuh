/* kernels/cuda/attend_prompt.cuh - a warp's query vectors against one tile of keys in shared memory: the
 * arithmetic of attend_prompt.cu, and the sizes it follows from.
 *
 *     score    s = q k          a fragment of keys serves all the warp's vectors
 *     mask     at the edges of what a vector sees
 *     weigh    s = 2^(s - near the largest so far), sums follow
 *     add      sums += s v      s as two 16-bit parts
 *
 * Sums grow tile after tile in ascending order of absolute positions, whatever other vectors the warp has.
 */
#pragma once

#include <limits.h>

#include "kernels/cuda/attend_mma.cuh"

enum {
    TEAM_WARPS = 4,
    TEAM_THREADS = TEAM_WARPS * LANES,
    STAGES = 2,
    MOST_SHARED = 99 << 10 /* what every GPU from compute capability 8.0 on gives a block */
};

/* Scores grow by this power of two before sums are scaled down to the new largest one: powers stay below 256,
 * and most tiles scale nothing. */
constexpr float SLACK = 8.0f;

/* Below every score: what powers are relative to before a key is seen. Finite, so that -inf less it is -inf.
 */
constexpr float LEAST = -1e30f;

template <cdp_dtype KV, int D> struct prompt_shape {
    static constexpr int TILES = D > 128 ? 1 : 2; /* of 16 vectors, a warp */
    static constexpr int VECTORS = 2 * TILES;     /* a lane's: g and g + 8 of each tile */
    static constexpr int WARP_VECTORS = TILES * TILE, BLOCK_VECTORS = TEAM_WARPS * WARP_VECTORS;
    /* bf16 queries are exact in the cache's format; f32 queries (fp16 runs) take two parts. */
    static constexpr int Q_PARTS = KV == CDP_F16 ? 2 : 1;
    static constexpr int PIECES = (D + 31) / 32 * 2; /* of 16 dimensions, as the products take them */
    static constexpr int FRAGMENTS = TILES * PIECES * Q_PARTS, Q_BYTES = FRAGMENTS * TEAM_THREADS * 16;
    static constexpr int KEYS = Q_BYTES + 2 * STAGES * 32 * D * 4 <= MOST_SHARED ? 32 : 16; /* of a tile */
    static constexpr int HALF = KEYS * D / 8; /* pieces of 16 bytes: a tile's keys, or its values */
    static constexpr int STAGE_BYTES = 2 * HALF * 16;
    static constexpr int TEAMS = Q_BYTES + 2 * STAGES * STAGE_BYTES <= MOST_SHARED ? 2 : 1;
    static constexpr int THREADS = TEAMS * TEAM_THREADS;
    static constexpr int TILE_BYTES = Q_BYTES + TEAMS * STAGES * STAGE_BYTES;
    static constexpr int SHARED_BYTES = TILE_BYTES + TEAMS * BLOCK_VECTORS * 4;
    /* A result of a lane, in pieces of 16 bytes, where tiles were before: sums, then largest scores and
     * totals. */
    static constexpr int RESULT = TILES * D / 8 + TILES;
    static_assert(TEAMS == 1 || RESULT * TEAM_THREADS * 16 <= SHARED_BYTES, "results fit");
    static_assert(SHARED_BYTES <= MOST_SHARED, "a block fits");
};

/* What a lane keeps of its vectors. */
template <cdp_dtype KV, int D> struct prompt_state {
    typedef prompt_shape<KV, D> shape;
    float most[shape::VECTORS];         /* what powers are relative to */
    float total[shape::VECTORS];        /* this lane's share */
    float sums[shape::TILES][D / 8][4]; /* dimensions 16j + 4t + {0, 2} in [2j], {1, 3} in [2j + 1] */
};

/* s = q k: tokens 8n + 2t, 8n + 2t + 1 of vector g of the tile, then of g + 8. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void
score_tile(float (&s)[prompt_shape<KV, D>::TILES][prompt_shape<KV, D>::KEYS / 8][4], const uint4 *queries,
           const uint4 *keys, int t) {
    typedef prompt_shape<KV, D> shape;
#pragma unroll
    for (int step = 0; step < shape::PIECES / 2; step++) {
        uint4 q[shape::TILES][2][shape::Q_PARTS];
#pragma unroll
        for (int m = 0; m < shape::TILES; m++)
#pragma unroll
            for (int which = 0; which < 2; which++)
#pragma unroll
                for (int part = 0; part < shape::Q_PARTS; part++)
                    q[m][which][part] = ptx_load16(
                        queries +
                        ((m * shape::PIECES + step * 2 + which) * shape::Q_PARTS + part) * TEAM_THREADS);
#pragma unroll
        for (int n = 0; n < shape::KEYS / 8; n++) {
            const bool is_there = D % 32 == 0 || step * QUAD + t < D / 8;
            const uint4 k =
                is_there ? ptx_load16(keys + n / 2 * 2 * D + step * QUAD * CDP_BLOCK_TOKENS + n % 2 * 8)
                         : make_uint4(0, 0, 0, 0);
#pragma unroll
            for (int which = 0; which < 2; which++)
#pragma unroll
                for (int part = 0; part < shape::Q_PARTS; part++)
#pragma unroll
                    for (int m = 0; m < shape::TILES; m++) {
                        const uint4 &from = q[m][which][part];
                        const unsigned a[4] = {from.x, from.y, from.z, from.w};
                        mma<KV>(s[m][n], a, which == 0 ? k.x : k.z, which == 0 ? k.y : k.w);
                    }
        }
    }
}

/* A vector sees the keys (last - window, last]; scores of others become -inf. `lasts` begins at the lane's
 * first vector, `first` is its first key. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void
mask_tile(float (&s)[prompt_shape<KV, D>::TILES][prompt_shape<KV, D>::KEYS / 8][4], const int *lasts,
          int window, int first) {
    typedef prompt_shape<KV, D> shape;
#pragma unroll
    for (int v = 0; v < shape::VECTORS; v++) {
        const int last = lasts[v * 8];
#pragma unroll
        for (int n = 0; n < shape::KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int j = first + n * 8 + e;
                float *score = &s[v / 2][n][v % 2 * 2 + e];
                *score = j <= last && j > last - window ? *score : -INFINITY;
            }
    }
}

/* Scores become powers, relative to a score that has been near the largest; sums follow where it moves.
 * Multiplying by 1 changes nothing, so a vector's bits do not depend on whose move it was. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void
weigh_tile(prompt_state<KV, D> &u, float (&s)[prompt_shape<KV, D>::TILES][prompt_shape<KV, D>::KEYS / 8][4],
           float scale) {
    typedef prompt_shape<KV, D> shape;
    float most[shape::VECTORS], shrink[shape::VECTORS];
    bool is_moved = false;
#pragma unroll
    for (int v = 0; v < shape::VECTORS; v++) {
        most[v] = -INFINITY;
#pragma unroll
        for (int n = 0; n < shape::KEYS / 8; n++)
            most[v] = fmaxf(most[v], fmaxf(s[v / 2][n][v % 2 * 2], s[v / 2][n][v % 2 * 2 + 1]));
    }
#pragma unroll
    for (int m = 1; m < QUAD; m *= 2) { /* shuffles side by side, not one after another */
        float other[shape::VECTORS];
#pragma unroll
        for (int v = 0; v < shape::VECTORS; v++)
            other[v] = __shfl_xor_sync(ALL_LANES, most[v], m);
#pragma unroll
        for (int v = 0; v < shape::VECTORS; v++)
            most[v] = fmaxf(most[v], other[v]);
    }
#pragma unroll
    for (int v = 0; v < shape::VECTORS; v++) {
        most[v] *= scale;
        const bool moves = most[v] > u.most[v] + SLACK;
        shrink[v] = moves ? ptx_exp2(u.most[v] - most[v]) : 1.0f;
        u.most[v] = moves ? most[v] : u.most[v];
        is_moved = is_moved || moves;
    }
    if (__any_sync(ALL_LANES, is_moved)) {
#pragma unroll
        for (int v = 0; v < shape::VECTORS; v++) {
            u.total[v] *= shrink[v];
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                u.sums[v / 2][j][v % 2 * 2] *= shrink[v];
                u.sums[v / 2][j][v % 2 * 2 + 1] *= shrink[v];
            }
        }
    }
#pragma unroll
    for (int v = 0; v < shape::VECTORS; v++) {
#pragma unroll
        for (int n = 0; n < shape::KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float *score = &s[v / 2][n][v % 2 * 2 + e];
                *score = ptx_exp2(fmaf(*score, scale, -u.most[v]));
                u.total[v] += *score;
            }
    }
}

/* sums += p v */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void
add_values(prompt_state<KV, D> &u,
           const float (&s)[prompt_shape<KV, D>::TILES][prompt_shape<KV, D>::KEYS / 8][4],
           const uint4 *values) {
    typedef prompt_shape<KV, D> shape;
#pragma unroll
    for (int b = 0; b < shape::KEYS / CDP_BLOCK_TOKENS; b++) {
        unsigned p[2][shape::TILES][4]; /* high, low parts as a fragments */
#pragma unroll
        for (int m = 0; m < shape::TILES; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                pack_two<KV>(s[m][b * 2 + i / 2][i % 2 * 2], s[m][b * 2 + i / 2][i % 2 * 2 + 1], &p[0][m][i],
                             &p[1][m][i]);
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            const uint4 v = ptx_load16(values + b * 2 * D + j * LANES);
#pragma unroll
            for (int part = 0; part < 2; part++)
#pragma unroll
                for (int m = 0; m < shape::TILES; m++) {
                    mma<KV>(u.sums[m][2 * j], p[part][m], v.x, v.y);
                    mma<KV>(u.sums[m][2 * j + 1], p[part][m], v.z, v.w);
                }
        }
    }
}
