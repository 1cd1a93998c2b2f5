/* kernels/cuda/attend_prompt.cu - attention of many rows: a warp = 16 query vectors of neighbouring rows and
 * one KV head, all their keys in ascending order. Bound by tensor cores and L1.
 */
#include "kernels/cuda/attend_tile.cuh"

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

namespace {
struct prompt_launcher {
    const attend_args &a;
    cudaStream_t stream;
    template <cdp_dtype KV, int D> cdp_status go() const {
        const unsigned n_tiles = ((unsigned)a.n_rows * (unsigned)a.group + TILE - 1) / TILE;
        return CDP_LAUNCH_PDL((attend_prompt_kernel<KV, D>),
                              dim3((n_tiles + WARPS - 1) / WARPS, (unsigned)a.kv.n_kv_heads), THREADS,
                              (query_tile<KV, D>::SHARED_BYTES), stream, a);
    }
};
} // namespace

cdp_status cuda_attend_prompt(const attend_args &a, cudaStream_t stream) {
    return attend_with_cache(prompt_launcher{a, stream}, a.kv);
}
