/* kernels/cuda/attend.cu - context[u] = R4(sum_j softmax_j(q[u] . k[j] * scale) v[j]) over the visible
 * positions j: which kernel does it.
 *
 * A query vector u is one head of one row; the heads of a row that share a KV head lie side by side and share
 * its reads:
 *
 *     few rows    attend_split.cu    a block = (part of the keys, KV head, row): its warps take the KV blocks
 *                                    of the part in turn; parts are merged in ascending order by the block
 *                                    that finishes last (it waits for nobody)
 *     many rows   attend_prompt.cu   a warp = 32 query vectors of neighbouring rows and one KV head
 *     others      attend_plain.cu    f32 caches, odd heads, f32 queries on bf16 keys
 *
 * Truth: attend_head() in kernels/ref/layer.c; compared in tests/kernels/test_layer.c.
 */
#include "kernels/cuda/attend.cuh"

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
    const bool is_exact = shape->kv_dtype == CDP_F16 || shape->hidden_dtype == CDP_BF16;
    if (!a.kv.is_tiled || !is_exact || !attend_has_tiles(shape->head_dim))
        return cuda_attend_plain(a, stream);
    return a.is_split ? cuda_attend_split(a, stream) : cuda_attend_prompt(a, stream);
}
