/* The operation table of the CUDA device: which kernels an operation is, for few rows and for many.
 *
 *     few   (decode)    one kernel of product.cu an operation, the norm inside it where it fits
 *     many  (prompts)   norm -> cuBLASLt -> one elementwise kernel of rows.cu; a bare residual by cuBLASLt
 *
 * The f32 buffers of the planner hold activations in the form of kernels.h; a product of many rows leaves its
 * f32 results where the CPU device would.
 */
#include "kernels/cuda/attend_sizes.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/graphs.h"

#include <stdlib.h>

/* What the operations keep on a device. */
typedef struct cuda_state {
    cuda_gemm *gemm;
    cuda_graphs *graphs;
} cuda_state;

static void close_state(void *state) {
    cuda_state *s = state;
    cuda_graphs_close(s->graphs);
    cuda_gemm_close(s->gemm);
    free(s);
}

/* The state, made by the first operation that needs it. */
static cdp_status state_of(cdp_device *device, cuda_state **out) {
    void **place = cdp_cuda_ops_state(device, close_state);
    *out = *place;
    if (*place != NULL)
        return CDP_OK;
    cuda_state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the operations of the GPU");
    *place = *out = state;
    CDP_TRY(cuda_gemm_open(&state->gemm));
    return cuda_graphs_open(&state->graphs);
}

/* Activations that w reads, in a buffer of n f32 a row. */
static cuda_rows rows_for(const cdp_tensor *w, void *buffer, int n) {
    return (cuda_rows){.data = buffer, .row_bytes = (size_t)n * sizeof(float), .weights = w->dtype};
}

/* cuBLASLt, where the product is its own: many rows, in a form it takes, an algorithm for them. NULL: it is
 * the product kernels', which take any. */
static cdp_status library_for(cdp_device *device, const cuda_gemm_out *out, const cuda_rows *rows,
                              const cdp_tensor *w, int n_rows, cuda_gemm **gemm_out) {
    *gemm_out = NULL;
    if (n_rows <= CUDA_FEW_ROWS || !cuda_gemm_takes(w))
        return CDP_OK;
    cuda_state *state = NULL;
    bool has = false;
    CDP_TRY(state_of(device, &state));
    CDP_TRY(cuda_gemm_has(state->gemm, device, out, rows, w, n_rows, &has));
    *gemm_out = has ? state->gemm : NULL;
    return CDP_OK;
}

static int qkv_cols(const cdp_shape *s) {
    return (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
}

static uint64_t kv_block_bytes(const cdp_shape *s) {
    return 2 * (uint64_t)s->n_kv_heads * CDP_BLOCK_TOKENS * (uint64_t)s->head_dim *
           cdp_dtype_bytes(s->kv_dtype);
}

static cdp_status kv_update(cdp_device *device, const cdp_shape *shape, const cdp_layer *layers, int n_layers,
                            const cdp_kv_command *commands, int n_commands, const cdp_buffers *buffers) {
    return cuda_kv_update(kv_block_bytes(shape), layers, n_layers, commands, n_commands, buffers,
                          cdp_cuda_stream(device));
}

static cdp_status embed(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                        const cdp_step_view *step) {
    return cuda_embed(shape, &vocab->embed, step, cdp_cuda_stream(device));
}

static cdp_status rope(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step,
                       const cdp_buffers *buffers) {
    return cuda_rope(shape, step, buffers->rope, cdp_cuda_stream(device));
}

static cdp_status qkv(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                      const cdp_step_view *step, const cdp_buffers *buffers) {
    const cuda_input in = {rows_for(&layer->qkv, buffers->normed, shape->hidden), step->hidden,
                           layer->attn_norm.data};
    const cudaStream_t stream = cdp_cuda_stream(device);
    const int n_rows = step->n_rows;
    const cuda_gemm_out out = {buffers->qkv, CDP_F32, qkv_cols(shape), false};
    cuda_gemm *gemm = NULL;
    CDP_TRY(library_for(device, &out, &in.rows, &layer->qkv, n_rows, &gemm));
    if (gemm == NULL && cuda_can_fuse_qkv(shape, layer))
        return cuda_product_qkv(layer, &in, shape, step, buffers, stream);
    if (gemm == NULL) {
        CDP_TRY(cuda_product(buffers->qkv, qkv_cols(shape), &layer->qkv, layer->qkv_bias.data, 1.0f, &in,
                             shape, n_rows, stream));
        return cuda_heads(shape, layer, NULL, step, buffers, stream);
    }
    CDP_TRY(cuda_norm(in.rows, step->hidden, shape->hidden_dtype, in.norm, shape, n_rows, stream));
    CDP_TRY(cuda_gemm_run(gemm, device, &out, &in.rows, &layer->qkv, 1.0f, n_rows));
    return cuda_heads(shape, layer, layer->qkv_bias.data, step, buffers, stream);
}

static cdp_status attend(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                         const cdp_step_view *step, const cdp_buffers *buffers) {
    return cuda_attend(rows_for(&layer->attn_out, buffers->context, shape->n_heads * shape->head_dim), shape,
                       layer, step, buffers, cdp_cuda_scratch(device), CDP_CUDA_SCRATCH_BYTES,
                       cdp_cuda_stream(device));
}

/* hidden += product of w, with what stands around it: attn_out and down. Many rows add to the hidden states
 * in the product itself where nothing stands between. */
static cdp_status add_product(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step,
                              const cdp_buffers *buffers, cuda_rows rows, const cdp_tensor *w,
                              const cdp_tensor *bias, const cdp_tensor *post_norm) {
    const cuda_input in = {rows, NULL, NULL};
    const cudaStream_t stream = cdp_cuda_stream(device);
    const int n_rows = step->n_rows, n = shape->hidden;
    float *product = buffers->normed;
    const cuda_gemm_out hidden = {step->hidden, shape->hidden_dtype, n, true},
                        apart = {product, CDP_F32, n, false};
    const bool is_bare =
        bias->data == NULL && post_norm->data == NULL && cuda_gemm_writes(w, shape->hidden_dtype);
    const cuda_gemm_out *const out = is_bare ? &hidden : &apart;
    cuda_gemm *gemm = NULL;
    CDP_TRY(library_for(device, out, &rows, w, n_rows, &gemm));
    if (gemm == NULL && post_norm->data == NULL)
        return cuda_product_add(step->hidden, w, bias->data, &in, shape, n_rows, stream);
    if (gemm == NULL) {
        CDP_TRY(cuda_product(product, n, w, bias->data, 1.0f, &in, shape, n_rows, stream));
        return cuda_add(step->hidden, product, NULL, post_norm->data, shape, n_rows, stream);
    }
    CDP_TRY(cuda_gemm_run(gemm, device, out, &rows, w, is_bare ? shape->residual_scale : 1.0f, n_rows));
    if (is_bare)
        return CDP_OK;
    return cuda_add(step->hidden, product, bias->data, post_norm->data, shape, n_rows, stream);
}

static cdp_status attn_out(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                           const cdp_step_view *step, const cdp_buffers *buffers) {
    const cuda_rows context = rows_for(&layer->attn_out, buffers->context, shape->n_heads * shape->head_dim);
    return add_product(device, shape, step, buffers, context, &layer->attn_out, &layer->attn_out_bias,
                       &layer->attn_post_norm);
}

/* Gate and up of many rows are written in bf16 where what they become is: half the bytes, written and read.
 * It is one rounding more than ops.h has, in the widest place of the layer; bf16 runs elsewhere have it too.
 */
static cdp_status gate_up(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                          const cdp_step_view *step, const cdp_buffers *buffers) {
    const cuda_input in = {rows_for(&layer->gate_up, buffers->normed, shape->hidden), step->hidden,
                           layer->ffn_norm.data};
    const cuda_rows out = rows_for(&layer->down, buffers->ffn, 2 * shape->ffn);
    const cudaStream_t stream = cdp_cuda_stream(device);
    const int n_rows = step->n_rows;
    const bool is_narrow = layer->down.dtype == CDP_BF16 && cuda_gemm_takes(&layer->down) &&
                           cuda_gemm_writes(&layer->gate_up, CDP_BF16);
    const cdp_dtype dtype = is_narrow ? CDP_BF16 : CDP_F32;
    const cuda_gemm_out products = {out.data, dtype, (int)(out.row_bytes / cdp_dtype_bytes(dtype)), false};
    cuda_gemm *gemm = NULL;
    CDP_TRY(library_for(device, &products, &in.rows, &layer->gate_up, n_rows, &gemm));
    if (gemm == NULL)
        return cuda_product_gate_up(out, layer, &in, shape, n_rows, stream);
    CDP_TRY(cuda_norm(in.rows, step->hidden, shape->hidden_dtype, in.norm, shape, n_rows, stream));
    CDP_TRY(cuda_gemm_run(gemm, device, &products, &in.rows, &layer->gate_up, 1.0f, n_rows));
    return cuda_silu(out, dtype, layer->gate_up_bias.data, shape, n_rows, stream);
}

static cdp_status down(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                       const cdp_step_view *step, const cdp_buffers *buffers) {
    const cuda_rows ffn = rows_for(&layer->down, buffers->ffn, 2 * shape->ffn);
    return add_product(device, shape, step, buffers, ffn, &layer->down, &layer->down_bias,
                       &layer->ffn_post_norm);
}

static cdp_status pick(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step, void *picked) {
    return cuda_pick(shape, step, picked, cdp_cuda_stream(device));
}

/* A step brings home at most 16 rows at once, so that the head is mostly the kernel for few. */
static cdp_status logits(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                         const void *rows, int n_rows, const cdp_buffers *buffers, float *normed,
                         float *out) {
    (void)buffers;
    const cuda_input in = {rows_for(&vocab->head, normed, shape->hidden), rows, vocab->final_norm.data};
    const cudaStream_t stream = cdp_cuda_stream(device);
    const cuda_gemm_out to = {out, CDP_F32, shape->vocab, false};
    cuda_gemm *gemm = NULL;
    CDP_TRY(library_for(device, &to, &in.rows, &vocab->head, n_rows, &gemm));
    if (gemm == NULL)
        return cuda_product(out, shape->vocab, &vocab->head, NULL, shape->logit_scale, &in, shape, n_rows,
                            stream);
    CDP_TRY(cuda_norm(in.rows, rows, shape->hidden_dtype, in.norm, shape, n_rows, stream));
    return cuda_gemm_run(gemm, device, &to, &in.rows, &vocab->head, shape->logit_scale, n_rows);
}

/* Decode batches double. Prompts are rounded up to multiples of 64, from 512 rows on to four sizes a
 * doubling: few shapes for cuBLASLt to plan and to load, and a quarter more rows at most. */
static int bucket(int n_rows) {
    int rows = 1, apart = CUDA_SPLIT_ROWS;
    while (rows < n_rows)
        rows *= 2;
    while (8 * apart < n_rows)
        apart *= 2;
    return rows <= CUDA_SPLIT_ROWS ? rows : (n_rows + apart - 1) / apart * apart;
}

static cdp_status record_begin(cdp_device *device, const void *owner, const cdp_step_view *step,
                               bool *is_replayed_out) {
    *is_replayed_out = false;
    if (step->n_rows > CUDA_SPLIT_ROWS)
        return CDP_OK;
    cuda_state *state = NULL;
    CDP_TRY(state_of(device, &state));
    return cuda_graphs_begin(state->graphs, device, owner, step, is_replayed_out);
}

static cdp_status record_end(cdp_device *device, cdp_status queued, bool *is_queued_out) {
    cuda_state *state = NULL;
    CDP_TRY(state_of(device, &state));
    return cuda_graphs_end(state->graphs, device, queued, is_queued_out);
}

const cdp_ops cdp_ops_cuda = {
    .name = "cuda",
    .kv_block_bytes = kv_block_bytes,
    .kv_update = kv_update,
    .embed = embed,
    .rope = rope,
    .qkv = qkv,
    .attend = attend,
    .attn_out = attn_out,
    .gate_up = gate_up,
    .down = down,
    .pick = pick,
    .logits = logits,
    .bucket = bucket,
    .record_begin = record_begin,
    .record_end = record_end,
};
