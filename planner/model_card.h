/* planner/model_card.h - what a model is: config.json read by one table row a family.
 *
 * The card is a plain fact sheet that planner, stage and launcher read; nobody else opens config.json.
 * Presence beats config: what the tensors show (biases, q/k norms, fused matrices) is read off the tensor
 * index by cdp_model_card_settle(); config.json supplies what tensors cannot show, and says first whether the
 * head is tied. Traps and
 * defaults of each family: planner/families.c, after the tables of the model documentation.
 */
#pragma once

#include "kernels/dtype.h"
#include "kernels/status.h"

enum {
    CDP_MAX_LAYERS = 1024,
    CDP_MAX_EOS = 16,
    CDP_MAX_ROPE = 512, /* rotated pairs of a head: head_dim / 2 at most */
};

/* How an attention layer sees its past. */
typedef struct cdp_layer_card {
    int window;    /* key k is visible to query q when q - window < k <= q; 0: everything before q */
    bool has_rope; /* false: no position is mixed in (NoPE) */
} cdp_layer_card;

typedef enum cdp_qk_norm {
    CDP_QK_NONE,
    CDP_QK_HEAD,
    CDP_QK_FULL
} cdp_qk_norm; /* per head, or over all heads */

/* Rotary embedding, already worked out: angle of pair i at position p is p * inv[i]. */
typedef struct cdp_rope_card {
    char type[16];               /* default, linear, dynamic is refused, llama3, yarn, longrope */
    int dim;                     /* rotated values of a head: pairs (i, i + dim/2); 0: no rope at all */
    int n_lists;                 /* 2 for longrope: [0] short, [1] long; else 1 */
    int original_max;            /* longrope: requests longer than this use the long list */
    double inv[2][CDP_MAX_ROPE]; /* 1 / radians per position, (n_lists, dim/2) */
    double factor[2];            /* cos and sin are multiplied by it (attention_factor) */
} cdp_rope_card;

typedef struct cdp_model_card {
    char dir[4096];
    char model_type[32];
    int n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    int max_positions;
    cdp_dtype file_dtype; /* of the embedding in the file; from config alone: its dtype key, else bf16 */
    bool tie_is_said; /* config.json has tie_word_embeddings: it wins over a head that is or is not there */
    bool has_tensors; /* false: from config.json alone, weights not downloaded yet */

    double norm_eps;
    bool norm_before, norm_after; /* RMSNorm before each sublayer (llama), after it (olmo2) */
    cdp_qk_norm qk_norm;
    bool qkv_bias, attn_out_bias, mlp_bias;
    bool is_tied; /* the head is the embedding */
    bool fused_qkv, fused_gate_up;
    double attn_scale;                               /* scores are q.k times this */
    double embed_scale, residual_scale, logit_scale; /* 1 when the family has none */
    cdp_rope_card rope;
    cdp_layer_card layers[CDP_MAX_LAYERS];

    int n_eos;
    int eos[CDP_MAX_EOS]; /* config.json's, replaced by generation_config.json's where that names any */
    int bos;              /* -1: none */
} cdp_model_card;

/* What generation_config.json asks for; a negative or NaN value means: not said. */
typedef struct cdp_generation_card {
    bool do_sample;
    double temperature, top_p, min_p, repetition_penalty;
    int top_k;
} cdp_generation_card;

/* Read and check DIR/config.json (and generation_config.json's eos ids). Unknown model_type, a number out of
 * range, a contradiction: CDP_BAD_MODEL with file, key, found and expected. */
cdp_status cdp_model_card_read(cdp_model_card *out, const char *dir);

/* Read DIR/generation_config.json; a missing file says nothing, a broken one is CDP_BAD_MODEL. */
cdp_status cdp_generation_card_read(cdp_generation_card *out, const char *dir);
