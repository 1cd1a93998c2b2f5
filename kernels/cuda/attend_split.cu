/* kernels/cuda/attend_split.cu - attention of few rows: a block = (part of the keys, KV head and 16 of its
 * heads, row). Bound by the bytes of keys and values, each read once for all heads of a group.
 */
#include "kernels/cuda/attend_mma.cuh"
#include "kernels/cuda/attend_parts.cuh"

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

/* Few rows: a block = (split, KV head and 16 of its heads, row); warp w takes KV blocks w, w + n_warps, ...
 * of the part; the warps' results are merged in shared memory in their order, then the parts as above. */
static_assert((int)WARPS == (int)CUDA_SPLIT_BLOCKS, "a part has a KV block for each warp");

template <cdp_dtype KV, int D> __global__ static void attend_split_kernel(const attend_args a) {
    __shared__ int flag;
    CDP_DYNAMIC_SHARED(float, results); /* (warps, heads here, D + 2), behind them in time: queries */
    ptx_wait_previous();
    ptx_launch_next();
    const int n_tiles = (a.group + TILE - 1) / TILE, row = blockIdx.z;
    const int kv_head = blockIdx.y / n_tiles, tile = blockIdx.y % n_tiles;
    const int head = kv_head * a.group + tile * TILE,
              n_here = a.group - tile * TILE < TILE ? a.group - tile * TILE : TILE;
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, g = lane / QUAD, t = lane % QUAD;
    const int slot = a.slot[row], position = a.position[row];
    if (slot < 0)
        return;
    const key_part part = part_of(a, position, blockIdx.x);
    if (part.begin >= part.end)
        return;
    const int first = first_visible(a, position);
    query_tile<KV, D> u;
    const float *queries[2];
    clear(u, results);
#pragma unroll
    for (int which = 0; which < 2; which++) {
        const int h = g + 8 * which;
        queries[which] = h < n_here ? a.qkv + (size_t)row * a.qkv_cols + (head + h) * D : NULL;
        u.first[which] = h < n_here ? first : 1;
        u.last[which] = h < n_here ? position : 0;
    }
    load_queries(u, queries, t);
    const uint16_t *cache = static_cast<const uint16_t *>(a.kv.data);
    for (int b = part.begin + warp; b < part.end; b += WARPS)
        attend_block(u, a, cache + kv_head_at(a.kv, slot, b * CDP_BLOCK_TOKENS, kv_head, false),
                     cache + kv_head_at(a.kv, slot, b * CDP_BLOCK_TOKENS, kv_head, true),
                     b * CDP_BLOCK_TOKENS, first, position, g, t);
    add_up_totals(u);
    if (query_tile<KV, D>::IN_SHARED)
        __syncthreads(); /* other warps still read their queries there */
#pragma unroll
    for (int which = 0; which < 2; which++) {
        if (g + 8 * which >= n_here)
            continue;
        float *mine = results + (size_t)(warp * n_here + g + 8 * which) * (D + CUDA_PARTIAL_EXTRA);
        if (t == 0) {
            mine[0] = u.most[which];
            mine[1] = u.total[which];
        }
#pragma unroll
        for (int j = 0; j < D / 16; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                mine[CUDA_PARTIAL_EXTRA + 16 * j + 4 * t + e] = u.sums[2 * j + e % 2][which * 2 + e / 2];
    }
    __syncthreads();
    for (int x = threadIdx.x; x < n_here * D; x += THREADS) {
        const int h = x / D, i = x % D;
        float most = -INFINITY, total = 0.0f, sum = 0.0f;
        for (int w = 0; w < WARPS; w++)
            most = fmaxf(most, results[(size_t)(w * n_here + h) * (D + CUDA_PARTIAL_EXTRA)]);
        for (int w = 0; w < WARPS; w++) {
            const float *its = results + (size_t)(w * n_here + h) * (D + CUDA_PARTIAL_EXTRA);
            const float weight = exp2f(its[0] - most);
            total += weight * its[1];
            sum += weight * its[CUDA_PARTIAL_EXTRA + i];
        }
        if (part.n_used == 1) {
            store_activation(a.out, row, (head + h) * D + i, sum / total);
            continue;
        }
        float *partial = partial_at(a, row, head + h, blockIdx.x);
        if (i == 0) {
            partial[0] = most;
            partial[1] = total;
        }
        partial[CUDA_PARTIAL_EXTRA + i] = sum;
    }
    if (part.n_used > 1 && is_last_part(a, row, head, part.n_used, &flag))
        merge_parts(a, row, head, n_here, part.n_used);
}

struct split_launcher {
    const attend_args &a;
    cudaStream_t stream;
    template <cdp_dtype KV, int D> cdp_status go() const {
        const unsigned n_head_tiles = ((unsigned)a.group + TILE - 1) / TILE;
        const size_t n_here = (size_t)(a.group < TILE ? a.group : (int)TILE);
        const size_t result_bytes = WARPS * n_here * (D + CUDA_PARTIAL_EXTRA) * sizeof(float),
                     query_bytes = query_tile<KV, D>::SHARED_BYTES;
        return CDP_LAUNCH_PDL(
            (attend_split_kernel<KV, D>),
            dim3((unsigned)a.n_splits, (unsigned)a.kv.n_kv_heads * n_head_tiles, (unsigned)a.n_rows), THREADS,
            result_bytes > query_bytes ? result_bytes : query_bytes, stream, a);
    }
};

cdp_status cuda_attend_split(const attend_args &a, cudaStream_t stream) {
    return attend_with_cache(split_launcher{a, stream}, a.kv);
}
