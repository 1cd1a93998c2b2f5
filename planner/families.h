/* planner/families.h - one row a family: what config.json leaves unsaid, and the names of its tensors. A new
 * dense family is a new row. */
#pragma once

#include "planner/model_card.h"
#include "planner/roles.h"

/* Which layers look back over a window only, where layer_types does not say. */
typedef enum cdp_window_rule {
    CDP_WINDOW_NONE,    /* no layer */
    CDP_WINDOW_ALL,     /* every layer, when sliding_window is a number */
    CDP_WINDOW_QWEN,    /* layers from max_window_layers on, when use_sliding_window */
    CDP_WINDOW_NO_ROPE, /* layers without rope, when use_sliding_window (smollm3) */
} cdp_window_rule;

typedef struct cdp_family {
    const char *type; /* model_type */
    double norm_eps;  /* defaults for keys that are absent */
    double rope_theta;
    int n_kv_heads; /* 0: as many as heads */
    int head_dim;   /* 0: hidden / heads */
    int window;     /* 0: off */
    bool is_tied;
    bool norm_before, norm_after;
    cdp_qk_norm qk_norm;
    bool qkv_bias;            /* always there, no key says so (qwen2) */
    bool is_fused;            /* qkv_proj and gate_up_proj */
    bool has_nope;            /* no_rope_layers */
    bool has_multipliers;     /* granite's four */
    bool calls_yarn_longrope; /* phi3: the types "su" and "yarn" mean longrope */
    cdp_window_rule window_rule;
    const char *attn_post_norm, *ffn_norm,
        *ffn_post_norm; /* names that change their job; NULL: no such tensor */
} cdp_family;

/* The row of a model_type; NULL when it is not supported. */
const cdp_family *cdp_family_find(const char *type);

/* "llama, mistral, ...": for the message that refuses another one. */
const char *cdp_family_list(void);
