/* kernels/cuda/attend_plain.cu - attention for any dtype and any head_dim, by multiply and add in f32: f32
 * caches, odd heads, f32 queries on bf16 keys.
 */
#include "kernels/cuda/attend_parts.cuh"

enum { PLAIN_WARPS = 4 };

/* A block = (row, KV head, split): a grid counts to 65535 in y and z, rows may be more. A warp = one head of
 * the group at a time, the part's keys 16 at once: a lane scores half of one token's dimensions, then sums
 * dimensions lane, lane + 32, ... (DIMS of them at most). */
template <int DIMS> __global__ static void attend_plain_kernel(const attend_args a) {
    __shared__ int flag;
    ptx_wait_previous();
    ptx_launch_next();
    const int row = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z, warp = threadIdx.x / LANES,
              lane = threadIdx.x % LANES;
    const int slot = a.slot[row], position = a.position[row], d = a.kv.head_dim,
              token = lane % CDP_BLOCK_TOKENS;
    if (slot < 0)
        return;
    const key_part part = part_of(a, position, split);
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
        float *partial = part.n_used > 1 ? partial_at(a, row, head, split) : NULL;
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

cdp_status cuda_attend_plain(const attend_args &args, cudaStream_t stream) {
    attend_args a = args;
    if (!a.is_split)
        a.n_splits = 1; /* then no partial results are written */
    const dim3 grid((unsigned)a.n_rows, (unsigned)a.kv.n_kv_heads, (unsigned)a.n_splits);
    if (a.kv.head_dim <= 128)
        return CDP_LAUNCH_PDL((attend_plain_kernel<4>), grid, PLAIN_WARPS * LANES, 0, stream, a);
    return CDP_LAUNCH_PDL((attend_plain_kernel<32>), grid, PLAIN_WARPS * LANES, 0, stream, a);
}
