/* planner/roles.h - a tensor's job, its name in each family, and the shape it must have.
 *
 * The same name means different jobs in different families (post_attention_layernorm is the norm before the
 * MLP in llama and the norm after attention in olmo2), so nobody guesses from names: a role is asked for, the
 * family's table answers.
 */
#pragma once

#include "planner/model_card.h"
#include "planner/tensor_index.h"

typedef enum cdp_role {
    /* rank 0's two ends */
    CDP_ROLE_EMBED,      /* (vocab, hidden) */
    CDP_ROLE_FINAL_NORM, /* (hidden) */
    CDP_ROLE_HEAD,       /* (vocab, hidden); absent when tied */
    /* a layer */
    CDP_ROLE_ATTN_NORM,      /* (hidden) before attention */
    CDP_ROLE_Q,              /* (n_heads * head_dim, hidden) */
    CDP_ROLE_K,              /* (n_kv_heads * head_dim, hidden) */
    CDP_ROLE_V,              /* (n_kv_heads * head_dim, hidden) */
    CDP_ROLE_QKV,            /* fused: q rows, k rows, v rows */
    CDP_ROLE_Q_BIAS,         /* (n_heads * head_dim) */
    CDP_ROLE_K_BIAS,         /* (n_kv_heads * head_dim) */
    CDP_ROLE_V_BIAS,         /* (n_kv_heads * head_dim) */
    CDP_ROLE_Q_NORM,         /* (head_dim) or (n_heads * head_dim) */
    CDP_ROLE_K_NORM,         /* (head_dim) or (n_kv_heads * head_dim) */
    CDP_ROLE_ATTN_OUT,       /* (hidden, n_heads * head_dim) */
    CDP_ROLE_ATTN_OUT_BIAS,  /* (hidden) */
    CDP_ROLE_ATTN_POST_NORM, /* (hidden) after attention, before the residual */
    CDP_ROLE_FFN_NORM,       /* (hidden) before the MLP */
    CDP_ROLE_GATE,           /* (ffn, hidden) */
    CDP_ROLE_UP,             /* (ffn, hidden) */
    CDP_ROLE_GATE_UP,        /* fused: gate rows, up rows */
    CDP_ROLE_GATE_BIAS,      /* (ffn) */
    CDP_ROLE_UP_BIAS,        /* (ffn) */
    CDP_ROLE_DOWN,           /* (hidden, ffn) */
    CDP_ROLE_DOWN_BIAS,      /* (hidden) */
    CDP_ROLE_FFN_POST_NORM,  /* (hidden) after the MLP, before the residual */
    CDP_N_ROLES,
} cdp_role;

enum { CDP_FIRST_LAYER_ROLE = CDP_ROLE_ATTN_NORM };

/* The name of `role` in layer `layer` (ignored for the two ends) into out; false when the family has no such
 * role. Whether the model has the tensor is another question: cdp_role_is_used. */
bool cdp_role_name(char *out, size_t out_size, const cdp_model_card *card, cdp_role role, int layer);

/* True when this model has the role, as the settled card says (a bias that is not there is not used). */
bool cdp_role_is_used(const cdp_model_card *card, cdp_role role);

/* Expected shape; returns the number of dimensions (1 or 2), rows in shape[0]. */
int cdp_role_shape(const cdp_model_card *card, cdp_role role, uint64_t shape[2]);

/* Find a used role's tensor; NULL when it is not in the index. */
const cdp_tensor_entry *cdp_role_find(const cdp_model_card *card, const cdp_tensor_index *index,
                                      cdp_role role, int layer);

/* Presence beats config: set the card's biases, q/k norm, fused matrices and file dtype from the tensors, and
 * the tied head where config.json is silent about it; then demand that every used role is there with its
 * shape and a float type, and that every tensor of the file is consumed or on the ignore list (rotary
 * inv_freq, masked bias, ...). CDP_BAD_MODEL with tensor, found and expected. Sets card->has_tensors. */
cdp_status cdp_model_card_settle(cdp_model_card *card, const cdp_tensor_index *index);
