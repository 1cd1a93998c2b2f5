/* The operations of ops.h in plain C: a layer in five functions, read top to bottom.
 *
 *     hidden --norm--> normed --qkv--> q, k, v --rope--> KV blocks
 *     q, KV blocks --attend--> context --attn_out--> + hidden
 *     hidden --norm--> normed --gate, up--> silu(gate) * up --down--> + hidden
 *
 * A KV block holds keys (n_kv_heads, 16, head_dim), then values in the same shape. Everything runs on worker
 * 0: the eye matters here, not the clock.
 */
#include "kernels/cpu/queue.h"
#include "kernels/ref/ref.h"

#include <math.h>

typedef struct ref_args {
    const cdp_shape *shape;
    const cdp_layer *layer;
    const cdp_vocab_weights *vocab;
    cdp_step_view step;
    cdp_buffers buf;
    void *out;
    const void *in;
    int n;
} ref_args;

static size_t kv_half(const cdp_shape *s) {
    return (size_t)s->n_kv_heads * CDP_BLOCK_TOKENS * (size_t)s->head_dim;
}

static uint64_t kv_block_bytes(const cdp_shape *s) {
    return 2 * kv_half(s) * cdp_dtype_bytes(s->kv_dtype);
}

/* Where key (or value) `kv_head` of `position` begins in the layer's cache, in elements. */
static size_t kv_place(const ref_args *a, int slot, int position, int kv_head, bool is_value) {
    const cdp_shape *s = a->shape;
    const int32_t block = a->buf.tables[slot * a->buf.max_blocks + position / CDP_BLOCK_TOKENS];
    const size_t in_block =
        (size_t)(kv_head * CDP_BLOCK_TOKENS + position % CDP_BLOCK_TOKENS) * (size_t)s->head_dim;
    return (size_t)block * 2 * kv_half(s) + (is_value ? kv_half(s) : 0) + in_block;
}

static void load_hidden(float *out, const ref_args *a, const void *hidden, int row) {
    const int n = a->shape->hidden;
    for (int i = 0; i < n; i++)
        out[i] = cdp_load(hidden, a->shape->hidden_dtype, (size_t)row * (size_t)n + (size_t)i);
}

/* normed = R2(norm(hidden)), or hidden itself where the family has no norm before. */
static void norm_row(float *out, const ref_args *a, const cdp_tensor *norm, int row) {
    load_hidden(out, a, a->step.hidden, row);
    if (norm->data != NULL)
        ref_rmsnorm(out, out, norm->data, a->shape->hidden, a->shape->norm_eps);
    ref_round(out, a->shape->hidden, a->shape);
}

/* hidden = R5(hidden + residual_scale * post_norm(x)) */
static void add_to_hidden(const ref_args *a, float *x, const cdp_tensor *post_norm, int row) {
    const cdp_shape *s = a->shape;
    if (post_norm->data != NULL)
        ref_rmsnorm(x, x, post_norm->data, s->hidden, s->norm_eps);
    for (int i = 0; i < s->hidden; i++) {
        const size_t at = (size_t)row * (size_t)s->hidden + (size_t)i;
        const float sum = cdp_load(a->step.hidden, s->hidden_dtype, at) + s->residual_scale * x[i];
        cdp_store(a->step.hidden, s->hidden_dtype, at, sum);
    }
}

static void rope_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    const int half = a->shape->rope_dim / 2;
    for (int row = 0; turn->worker == 0 && row < a->step.n_rows; row++) {
        const int list = a->step.rope_list[row];
        float *cosine = a->buf.rope + (size_t)row * 2 * (size_t)half;
        for (int i = 0; i < half; i++) {
            const double angle = a->step.position[row] * a->shape->rope_inv[list][i];
            cosine[i] = (float)cos(angle) * a->shape->rope_factor[list];
            cosine[half + i] = (float)sin(angle) * a->shape->rope_factor[list];
        }
    }
}

/* q/k norm of n_heads heads, each by itself or all at once. */
static void norm_heads(float *heads, int n_heads, const cdp_tensor *norm, const cdp_shape *s) {
    if (s->head_norm == CDP_HEAD_NORM_ALL)
        ref_rmsnorm(heads, heads, norm->data, n_heads * s->head_dim, s->norm_eps);
    for (int h = 0; s->head_norm == CDP_HEAD_NORM_EACH && h < n_heads; h++)
        ref_rmsnorm(heads + h * s->head_dim, heads + h * s->head_dim, norm->data, s->head_dim, s->norm_eps);
}

static void append_kv(const ref_args *a, const float *k, const float *v, int row) {
    const cdp_shape *s = a->shape;
    for (int h = 0; h < s->n_kv_heads; h++) {
        const size_t at_k = kv_place(a, a->step.slot[row], a->step.position[row], h, false);
        const size_t at_v = kv_place(a, a->step.slot[row], a->step.position[row], h, true);
        for (int i = 0; i < s->head_dim; i++) {
            cdp_store(a->layer->kv, s->kv_dtype, at_k + (size_t)i, k[h * s->head_dim + i]);
            cdp_store(a->layer->kv, s->kv_dtype, at_v + (size_t)i, v[h * s->head_dim + i]);
        }
    }
}

static void qkv_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    const cdp_shape *s = a->shape;
    const int q_width = s->n_heads * s->head_dim, kv_width = s->n_kv_heads * s->head_dim;
    for (int row = 0; turn->worker == 0 && row < a->step.n_rows; row++) {
        if (a->step.slot[row] < 0)
            continue;
        float *normed = a->buf.normed + (size_t)row * (size_t)s->hidden;
        float *q = a->buf.qkv + (size_t)row * (size_t)(q_width + 2 * kv_width);
        float *k = q + q_width, *v = k + kv_width;
        norm_row(normed, a, &a->layer->attn_norm, row);
        ref_product(q, normed, &a->layer->qkv, &a->layer->qkv_bias);
        if (s->head_norm != CDP_HEAD_NORM_NONE) {
            norm_heads(q, s->n_heads, &a->layer->q_norm, s);
            norm_heads(k, s->n_kv_heads, &a->layer->k_norm, s);
        }
        const float *cosine = a->buf.rope + (size_t)row * (size_t)s->rope_dim;
        for (int h = 0; a->layer->has_rope && h < s->n_heads + s->n_kv_heads; h++)
            ref_rotate(q + h * s->head_dim, cosine, cosine + s->rope_dim / 2, s->rope_dim);
        ref_round(q, q_width + 2 * kv_width, s); /* R3 */
        append_kv(a, k, v, row);
    }
}

/* context = R4(sum_j softmax_j(q.k_j * scale) v_j) over the visible positions j of one head */
static void attend_head(const ref_args *a, int row, int head) {
    const cdp_shape *s = a->shape;
    const int position = a->step.position[row], window = a->layer->window;
    const int first = window > 0 && position - window + 1 > 0 ? position - window + 1 : 0;
    const int kv_head = head / (s->n_heads / s->n_kv_heads);
    const float *q = a->buf.qkv + (size_t)row * (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim) +
                     head * s->head_dim;
    float *out = a->buf.context + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)s->head_dim;
    double best = -INFINITY, total = 0;
    double sums[1024] = {0};               /* head_dim is at most 1024 */
    for (int pass = 0; pass < 2; pass++) { /* first the largest score, then the sums */
        for (int j = first; j <= position; j++) {
            const size_t key = kv_place(a, a->step.slot[row], j, kv_head, false);
            const size_t value = kv_place(a, a->step.slot[row], j, kv_head, true);
            double score = 0;
            for (int i = 0; i < s->head_dim; i++)
                score += (double)q[i] * cdp_load(a->layer->kv, s->kv_dtype, key + (size_t)i);
            score *= (double)s->attn_scale;
            if (pass == 0) {
                best = score > best ? score : best;
                continue;
            }
            const double weight = exp(score - best);
            total += weight;
            for (int i = 0; i < s->head_dim; i++)
                sums[i] += weight * cdp_load(a->layer->kv, s->kv_dtype, value + (size_t)i);
        }
    }
    for (int i = 0; i < s->head_dim; i++)
        out[i] = (float)(sums[i] / total);
    ref_round(out, s->head_dim, s);
}

static void attend_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    for (int row = 0; turn->worker == 0 && row < a->step.n_rows; row++)
        for (int head = 0; a->step.slot[row] >= 0 && head < a->shape->n_heads; head++)
            attend_head(a, row, head);
}

static void attn_out_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    const size_t width = (size_t)(a->shape->n_heads * a->shape->head_dim);
    for (int row = 0; turn->worker == 0 && row < a->step.n_rows; row++) {
        float *product = a->buf.normed + (size_t)row * (size_t)a->shape->hidden;
        ref_product(product, a->buf.context + (size_t)row * width, &a->layer->attn_out,
                    &a->layer->attn_out_bias);
        add_to_hidden(a, product, &a->layer->attn_post_norm, row);
    }
}

static void gate_up_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    const int ffn = a->shape->ffn;
    for (int row = 0; turn->worker == 0 && row < a->step.n_rows; row++) {
        float *normed = a->buf.normed + (size_t)row * (size_t)a->shape->hidden;
        float *gate = a->buf.ffn + (size_t)row * 2 * (size_t)ffn, *up = gate + ffn;
        norm_row(normed, a, &a->layer->ffn_norm, row);
        ref_product(gate, normed, &a->layer->gate_up, &a->layer->gate_up_bias);
        for (int i = 0; i < ffn; i++)
            gate[i] = ref_silu(gate[i]) * up[i];
        ref_round(gate, ffn, a->shape); /* R6 */
    }
}

static void down_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    for (int row = 0; turn->worker == 0 && row < a->step.n_rows; row++) {
        float *product = a->buf.normed + (size_t)row * (size_t)a->shape->hidden;
        ref_product(product, a->buf.ffn + (size_t)row * 2 * (size_t)a->shape->ffn, &a->layer->down,
                    &a->layer->down_bias);
        add_to_hidden(a, product, &a->layer->ffn_post_norm, row);
    }
}

static void logits_job(const void *args, const cdp_turn *turn) {
    const ref_args *a = args;
    const cdp_shape *s = a->shape;
    for (int row = 0; turn->worker == 0 && row < a->n; row++) {
        float *normed = a->buf.normed + (size_t)row * (size_t)s->hidden;
        float *logits = (float *)a->out + (size_t)row * (size_t)s->vocab;
        load_hidden(normed, a, a->in, row);
        if (a->vocab->final_norm.data != NULL)
            ref_rmsnorm(normed, normed, a->vocab->final_norm.data, s->hidden, s->norm_eps);
        ref_round(normed, s->hidden, s); /* R7 */
        ref_product(logits, normed, &a->vocab->head, &(cdp_tensor){0});
        for (int i = 0; i < s->vocab; i++)
            logits[i] *= s->logit_scale;
    }
}

static cdp_status submit(cdp_device *device, cdp_job job, const cdp_shape *shape, const cdp_layer *layer,
                         const cdp_step_view *step, const cdp_buffers *buffers) {
    const ref_args args = {.shape = shape, .layer = layer, .step = *step, .buf = *buffers};
    return cdp_cpu_submit(device, job, &args, sizeof args);
}

#define LAYER_OP(name)                                                                                       \
    static cdp_status name(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,               \
                           const cdp_step_view *step, const cdp_buffers *buffers) {                          \
        return submit(device, name##_job, shape, layer, step, buffers);                                      \
    }
LAYER_OP(qkv)
LAYER_OP(attend)
LAYER_OP(attn_out)
LAYER_OP(gate_up)
LAYER_OP(down)

static cdp_status rope(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step,
                       const cdp_buffers *buffers) {
    return submit(device, rope_job, shape, NULL, step, buffers);
}

static cdp_status logits(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                         const void *rows, int n_rows, const cdp_buffers *buffers, float *normed,
                         float *out) {
    (void)buffers;
    const ref_args args = {
        .shape = shape, .vocab = vocab, .buf = {.normed = normed}, .out = out, .in = rows, .n = n_rows};
    return cdp_cpu_submit(device, logits_job, &args, sizeof args);
}

const cdp_ops cdp_ops_ref = {
    .name = "ref",
    .kv_block_bytes = kv_block_bytes,
    .kv_update = cdp_cpu_kv_update,
    .embed = cdp_cpu_embed,
    .rope = rope,
    .qkv = qkv,
    .attend = attend,
    .attn_out = attn_out,
    .gate_up = gate_up,
    .down = down,
    .pick = cdp_cpu_pick,
    .logits = logits,
};
