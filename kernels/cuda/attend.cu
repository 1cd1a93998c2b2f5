/* kernels/cuda/attend.cu - context[u] = R4(sum_j softmax_j(q[u] . k[j] * scale) v[j]) over the visible
 * positions j.
 *
 * A query vector u is one head of one row; the heads of a row that share a KV head lie side by side and share
 * its reads:
 *
 *     few rows    a block = (part of the keys, KV head, row): its warps take the KV blocks of the part in
 * turn; parts are merged in ascending order by the block that finishes last (it waits for nobody) many rows
 * a warp = 16 query vectors of neighbouring rows and one KV head, all their keys in ascending order
 *
 * With 16-bit caches both products run on tensor cores, fragments straight from the cache's own layout
 * (values.cuh). The probabilities, which no rounding point allows to round, go in as two 16-bit parts.
 * Softmax is f32, in powers of two. Bound by the bytes of keys and values (few rows), by tensor cores and L1
 * (many). f32 caches, odd heads and f32 queries on bf16 keys take the plain kernel.
 *
 * Keys that a query may not see get probability 0; values at positions nobody has written are replaced by 0,
 * because a stale NaN times 0 is a NaN. Truth: attend_head() in kernels/ref/layer.c; compared in
 * tests/kernels/test_layer.c.
 */
#include "kernels/cuda/attend_sizes.h"
#include "kernels/cuda/values.cuh"

enum { TILE = 16, QUAD = 4 };

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

/* The part of a row's KV blocks that split `split` takes: [begin, end), and how many splits have any. */
typedef struct key_part {
    int begin, end, n_used;
} key_part;

__device__ __forceinline__ key_part part_of(const attend_args &a, int position, int split) {
    const int first = first_visible(a, position) / CDP_BLOCK_TOKENS, end = position / CDP_BLOCK_TOKENS + 1;
    int each = (end - first + a.n_splits - 1) / a.n_splits;
    each = each < CUDA_SPLIT_BLOCKS ? (int)CUDA_SPLIT_BLOCKS : each;
    key_part part;
    part.begin = first + split * each;
    part.end = part.begin + each < end ? part.begin + each : end;
    part.n_used = (end - first + each - 1) / each;
    return part;
}

/* --- partial results
 * ---------------------------------------------------------------------------------------- */

__device__ __forceinline__ float *partial_at(const attend_args &a, int row, int head, int split) {
    const size_t number = ((size_t)row * a.n_heads + head) * a.n_splits + split;
    return a.partials + number * (a.kv.head_dim + CUDA_PARTIAL_EXTRA);
}

/* Called by all threads once the block's partial results of heads [head, head + n) are written: true in the
 * last of the n_used blocks, which then sees all of them. `flag` is shared. */
__device__ __forceinline__ bool is_last_part(const attend_args &a, int row, int head, int n_used, int *flag) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned *arrived = a.arrived + (size_t)row * a.n_heads + head;
        *flag = atomicAdd(arrived, 1u) == (unsigned)n_used - 1;
        if (*flag)
            *arrived = 0; /* for the next launch */
    }
    __syncthreads();
    __threadfence();
    return *flag != 0;
}

/* context of heads [head, head + n): parts in ascending order, relative to the largest score of all. */
__device__ __forceinline__ void merge_parts(const attend_args &a, int row, int head, int n, int n_used) {
    const int d = a.kv.head_dim;
    for (int x = threadIdx.x; x < n * d; x += blockDim.x) {
        const int h = head + x / d, i = x % d;
        float most = -INFINITY, total = 0.0f, sum = 0.0f;
        for (int s = 0; s < n_used; s++) {
            const volatile float *part = partial_at(a, row, h, s);
            most = fmaxf(most, part[0]);
        }
        for (int s = 0; s < n_used; s++) {
            const volatile float *part = partial_at(a, row, h, s);
            const float weight = exp2f(part[0] - most);
            total += weight * part[1];
            sum += weight * part[CUDA_PARTIAL_EXTRA + i];
        }
        store_activation(a.out, row, h * d + i, sum / total);
    }
}

/* --- any dtype, any head_dim: f32 arithmetic
 * ------------------------------------------------------------------ */

enum { PLAIN_WARPS = 4 };

/* A block = (split, KV head, row); a warp = one head of the group at a time, the part's keys 16 at once: a
 * lane scores half of one token's dimensions, then sums dimensions lane, lane + 32, ... (DIMS of them at
 * most). */
template <int DIMS> __global__ static void attend_plain_kernel(const attend_args a) {
    __shared__ int flag;
    ptx_wait_previous();
    ptx_launch_next();
    const int row = blockIdx.z, kv_head = blockIdx.y, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int slot = a.slot[row], position = a.position[row], d = a.kv.head_dim,
              token = lane % CDP_BLOCK_TOKENS;
    if (slot < 0)
        return;
    const key_part part = part_of(a, position, blockIdx.x);
    if (part.begin >= part.end)
        return;
    const int first = first_visible(a, position);
    for (int h = warp; h < a.group; h += PLAIN_WARPS) {
        const int head = kv_head * a.group + h;
        const float *q = a.qkv + (size_t)row * a.qkv_cols + head * d;
        float most = -INFINITY, total = 0.0f, sums[DIMS] = {};
        for (int b = part.begin; b < part.end; b++) {
            const size_t keys = kv_head_at(a.kv, slot, b * CDP_BLOCK_TOKENS, kv_head, false);
            const size_t values = kv_head_at(a.kv, slot, b * CDP_BLOCK_TOKENS, kv_head, true);
            const int j = b * CDP_BLOCK_TOKENS + token;
            float score = 0.0f;
            if (j >= first && j <= position)
                for (int i = lane / CDP_BLOCK_TOKENS; i < d; i += 2)
                    score += q[i] * load(a.kv.data, a.kv.dtype, keys + key_at(a.kv, token, i));
            score += __shfl_xor_sync(ALL_LANES, score, CDP_BLOCK_TOKENS);
            score = j >= first && j <= position ? score * a.scale : -INFINITY;
            float largest = score;
            for (int m = CDP_BLOCK_TOKENS / 2; m > 0; m >>= 1)
                largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, m));
            largest = fmaxf(most, largest); /* every block of a part holds a visible key */
            const float shrink = exp2f(most - largest), p = exp2f(score - largest);
            most = largest;
            float here = p;
            for (int m = CDP_BLOCK_TOKENS / 2; m > 0; m >>= 1)
                here += __shfl_xor_sync(ALL_LANES, here, m);
            total = total * shrink + here;
#pragma unroll
            for (int n = 0; n < DIMS; n++)
                sums[n] *= shrink;
            for (int k = 0; k < CDP_BLOCK_TOKENS; k++) {
                const float weight = __shfl_sync(ALL_LANES, p, k);
                if (weight == 0.0f)
                    continue; /* not visible: what lies there may be anything */
#pragma unroll
                for (int n = 0; n < DIMS; n++)
                    if (n * LANES + lane < d)
                        sums[n] += weight *
                                   load(a.kv.data, a.kv.dtype, values + value_at(a.kv, k, n * LANES + lane));
            }
        }
        float *partial = part.n_used > 1 ? partial_at(a, row, head, blockIdx.x) : NULL;
        if (partial != NULL && lane == 0) {
            partial[0] = most;
            partial[1] = total;
        }
#pragma unroll
        for (int n = 0; n < DIMS; n++) {
            const int i = n * LANES + lane;
            if (i < d && partial != NULL)
                partial[CUDA_PARTIAL_EXTRA + i] = sums[n];
            else if (i < d)
                store_activation(a.out, row, head * d + i, sums[n] / total);
        }
    }
    if (part.n_used > 1 && is_last_part(a, row, kv_head * a.group, part.n_used, &flag))
        merge_parts(a, row, kv_head * a.group, a.group, part.n_used);
}

/* --- 16-bit caches, heads that are multiples of 16: tensor cores
 * ---------------------------------------------- */

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

/* Many rows: a warp = 16 query vectors, numbered (row, head of the group), of one KV head. Neighbouring rows
 * are mostly one sequence; where they are not, the warp takes one sequence after the other, the others'
 * vectors masked. The last rows of a prompt have the most keys and start first. */
/* Blocks that a multiprocessor is to hold: as many as there are registers for, without one that spills. */
template <cdp_dtype KV, int D> struct prompt_blocks {
    enum { WIDTH = D * (1 + query_tile<KV, D>::Q_PARTS), N = WIDTH < 160 ? 4 : WIDTH <= 288 ? 3 : 2 };
};

template <cdp_dtype KV, int D>
__global__ static void __launch_bounds__(THREADS, (prompt_blocks<KV, D>::N))
    attend_prompt_kernel(const attend_args a) {
    ptx_wait_previous();
    ptx_launch_next();
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, g = lane / QUAD, t = lane % QUAD;
    const int kv_head = blockIdx.y, n_vectors = a.n_rows * a.group;
    const int begin = ((int)(gridDim.x - 1 - blockIdx.x) * WARPS + warp) * TILE;
    if (begin >= n_vectors)
        return;
    const int end_row = ((begin + TILE < n_vectors ? begin + TILE : n_vectors) - 1) / a.group + 1;
    CDP_DYNAMIC_SHARED(void, shared);
    int rows[2], heads[2];
    const float *queries[2];
    query_tile<KV, D> u;
    clear(u, shared);
#pragma unroll
    for (int which = 0; which < 2; which++) {
        const int vector = begin + g + 8 * which;
        rows[which] = vector < n_vectors ? vector / a.group : a.n_rows;
        heads[which] = kv_head * a.group + vector % a.group;
        queries[which] =
            vector < n_vectors ? a.qkv + (size_t)rows[which] * a.qkv_cols + heads[which] * D : NULL;
    }
    load_queries(u, queries, t);
    const uint16_t *cache = static_cast<const uint16_t *>(a.kv.data);
    for (int row = begin / a.group, next; row < end_row; row = next) {
        const int slot = a.slot[row];
        int first = first_visible(a, a.position[row]), last = a.position[row];
        for (next = row + 1; next < end_row && a.slot[next] == slot; next++) {
            first = min(first, first_visible(a, a.position[next]));
            last = max(last, a.position[next]);
        }
        if (slot < 0)
            continue;
#pragma unroll
        for (int which = 0; which < 2; which++) {
            const bool is_here = rows[which] >= row && rows[which] < next;
            u.first[which] = is_here ? first_visible(a, a.position[rows[which]]) : 1;
            u.last[which] = is_here ? a.position[rows[which]] : 0;
        }
        for (int b = first / CDP_BLOCK_TOKENS; b <= last / CDP_BLOCK_TOKENS; b++)
            attend_block(u, a, cache + kv_head_at(a.kv, slot, b * CDP_BLOCK_TOKENS, kv_head, false),
                         cache + kv_head_at(a.kv, slot, b * CDP_BLOCK_TOKENS, kv_head, true),
                         b * CDP_BLOCK_TOKENS, first, last, g, t);
    }
    add_up_totals(u);
#pragma unroll
    for (int which = 0; which < 2; which++) {
        if (rows[which] >= a.n_rows || a.slot[rows[which]] < 0)
            continue;
#pragma unroll
        for (int j = 0; j < D / 16; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                store_activation(a.out, rows[which], heads[which] * D + 16 * j + 4 * t + e,
                                 u.sums[2 * j + e % 2][which * 2 + e / 2] / u.total[which]);
    }
}

/* --- launchers
 * ---------------------------------------------------------------------------------------------- */

template <cdp_dtype KV, int D> static cdp_status launch_tiles(const attend_args &a, cudaStream_t stream) {
    const unsigned n_kv = (unsigned)a.kv.n_kv_heads;
    if (!a.is_split) {
        const unsigned n_tiles = ((unsigned)a.n_rows * (unsigned)a.group + TILE - 1) / TILE;
        return CDP_LAUNCH_PDL((attend_prompt_kernel<KV, D>), dim3((n_tiles + WARPS - 1) / WARPS, n_kv),
                              THREADS, (query_tile<KV, D>::SHARED_BYTES), stream, a);
    }
    const unsigned n_head_tiles = ((unsigned)a.group + TILE - 1) / TILE;
    const size_t n_here = (size_t)(a.group < TILE ? a.group : (int)TILE);
    const size_t result_bytes = WARPS * n_here * (D + CUDA_PARTIAL_EXTRA) * sizeof(float),
                 query_bytes = query_tile<KV, D>::SHARED_BYTES;
    return CDP_LAUNCH_PDL((attend_split_kernel<KV, D>),
                          dim3((unsigned)a.n_splits, n_kv * n_head_tiles, (unsigned)a.n_rows), THREADS,
                          result_bytes > query_bytes ? result_bytes : query_bytes, stream, a);
}

static cdp_status launch_plain(attend_args &a, cudaStream_t stream) {
    if (!a.is_split)
        a.n_splits = 1; /* then no partial results are written */
    const dim3 grid((unsigned)a.n_splits, (unsigned)a.kv.n_kv_heads, (unsigned)a.n_rows);
    if (a.kv.head_dim <= 128)
        return CDP_LAUNCH_PDL((attend_plain_kernel<4>), grid, PLAIN_WARPS * LANES, 0, stream, a);
    return CDP_LAUNCH_PDL((attend_plain_kernel<32>), grid, PLAIN_WARPS * LANES, 0, stream, a);
}

/* The head sizes that models have; others take the plain kernel. */
template <cdp_dtype KV> static cdp_status launch_dtype(attend_args &a, cudaStream_t stream) {
    switch (a.kv.head_dim) {
    case 16:
        return launch_tiles<KV, 16>(a, stream);
    case 32:
        return launch_tiles<KV, 32>(a, stream);
    case 64:
        return launch_tiles<KV, 64>(a, stream);
    case 80:
        return launch_tiles<KV, 80>(a, stream);
    case 96:
        return launch_tiles<KV, 96>(a, stream);
    case 128:
        return launch_tiles<KV, 128>(a, stream);
    case 256:
        return launch_tiles<KV, 256>(a, stream);
    default:
        return launch_plain(a, stream);
    }
}

extern "C" cdp_status cuda_attend(cuda_rows out, const cdp_shape *shape, const cdp_layer *layer,
                                  const cdp_step_view *step, const cdp_buffers *buffers, void *scratch,
                                  size_t scratch_bytes, cudaStream_t stream) {
    if (step->n_rows == 0)
        return CDP_OK;
    if (shape->head_dim > 1024 || shape->n_heads > 1024)
        return cdp_fail(CDP_BAD_MODEL,
                        "%d heads of %d values: the cuda device takes up to 1024 of up to 1024",
                        shape->n_heads, shape->head_dim);
    attend_args a = {};
    a.kv = kv_cache_of(shape, layer, buffers);
    a.qkv = buffers->qkv;
    a.out = out;
    a.slot = step->slot;
    a.position = step->position;
    a.qkv_cols = (shape->n_heads + 2 * shape->n_kv_heads) * shape->head_dim;
    a.n_rows = step->n_rows;
    a.n_heads = shape->n_heads;
    a.group = shape->n_heads / shape->n_kv_heads;
    a.window = layer->window;
    a.n_splits = cuda_attend_splits(shape->n_kv_heads, buffers->max_blocks);
    a.scale = shape->attn_scale * 1.44269504f;
    a.is_split =
        step->n_rows <= cuda_attend_split_rows(shape->n_heads, a.n_splits, shape->head_dim, scratch_bytes);
    a.arrived = static_cast<unsigned *>(scratch);
    a.partials = static_cast<float *>(scratch) + CUDA_COUNTER_BYTES / sizeof(float);
    /* bf16 keys want queries that are bf16 already; f16 keys take any. */
    if (a.kv.is_tiled && shape->kv_dtype == CDP_BF16 && shape->hidden_dtype == CDP_BF16)
        return launch_dtype<CDP_BF16>(a, stream);
    if (a.kv.is_tiled && shape->kv_dtype == CDP_F16)
        return launch_dtype<CDP_F16>(a, stream);
    return launch_plain(a, stream);
}
