/* kernels/cuda/attend_split.cu - attention of few rows: a block = (part of the keys, KV head and 16 of its
 * heads, row). Bound by the bytes of keys and values, each read once for all heads of a group.
 */
#include "kernels/cuda/attend_parts.cuh"
#include "kernels/cuda/attend_tile.cuh"

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

namespace {
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
} // namespace

cdp_status cuda_attend_split(const attend_args &a, cudaStream_t stream) {
    return attend_with_cache(split_launcher{a, stream}, a.kv);
}
