#include "stage/shape.h"

static cdp_head_norm head_norm(cdp_qk_norm norm) {
    return norm == CDP_QK_HEAD   ? CDP_HEAD_NORM_EACH
           : norm == CDP_QK_FULL ? CDP_HEAD_NORM_ALL
                                 : CDP_HEAD_NORM_NONE;
}

void cdp_shape_fill(cdp_shape *out, const cdp_model_card *card, const cdp_run_shape *run) {
    *out = (cdp_shape){
        .hidden = card->hidden,
        .n_heads = card->n_heads,
        .n_kv_heads = card->n_kv_heads,
        .head_dim = card->head_dim,
        .ffn = card->ffn,
        .vocab = card->vocab,
        .hidden_dtype = cdp_hidden_dtype(run),
        .kv_dtype = run->kv_dtype,
        .head_norm = head_norm(card->qk_norm),
        .norm_eps = (float)card->norm_eps,
        .attn_scale = (float)card->attn_scale,
        .embed_scale = (float)card->embed_scale,
        .residual_scale = (float)card->residual_scale,
        .logit_scale = (float)card->logit_scale,
        .rope_dim = card->rope.dim,
    };
    for (int list = 0; list < 2; list++) {
        const int from = list < card->rope.n_lists ? list : 0;
        out->rope_inv[list] = card->rope.inv[from];
        out->rope_factor[list] = (float)card->rope.factor[from];
    }
}
