/* tests/unit/cards.h - model cards of real shapes, written by hand: the planner needs no files to decide.
 *
 * `total` counts a rotary table of head_dim bytes that cdpipe computes instead of holding; `layer` and
 * `embed` are bytes in bf16, as the files hold them.
 */
#pragma once

#include <stdio.h>

#include "planner/memory.h"

typedef struct test_shape {
    const char *name, *type;
    int hidden, ffn, n_layers, n_heads, n_kv_heads, head_dim, vocab;
    bool is_tied, qkv_bias;
    uint64_t total, layer, embed;
    int kv_kib; /* of one token over all layers, bf16 */
} test_shape;

enum { LLAMA_2_7B, LLAMA_3_8B, TOOLGEN_8B, QWEN_05B, QWEN_7B, LLAMA_32_1B, LLAMA_2_70B, N_SHAPES };

static const test_shape shapes[N_SHAPES] = {
    {"Llama-2-7B", "llama", 4096, 11008, 32, 32, 32, 128, 32000, false, false, 13476831360, 404766720,
     262144000, 512},
    {"Llama-3-8B", "llama", 4096, 14336, 32, 32, 8, 128, 128256, false, false, 16060522624, 436224000,
     1050673152, 128},
    {"ToolGen-8B", "llama", 4096, 14336, 32, 32, 8, 128, 175241, false, false, 16830324864, 436224000,
     1435574272, 128},
    {"Qwen2.5-0.5B", "qwen2", 896, 4864, 24, 14, 2, 64, 151936, true, true, 988065600, 29824768, 272269312,
     12},
    {"Qwen2.5-7B", "qwen2", 3584, 18944, 28, 28, 4, 128, 152064, false, true, 15231233152, 466115584,
     1089994752, 56},
    {"Llama-3.2-1B", "llama", 2048, 8192, 16, 32, 8, 64, 128256, true, false, 2471628864, 121643008,
     525336576, 32},
    {"Llama-2-70B", "llama", 8192, 28672, 80, 64, 8, 128, 32000, false, false, 137953296512, 1711308800,
     524288000, 320},
};

static inline void test_card_fill(cdp_model_card *card, const test_shape *s) {
    *card = (cdp_model_card){.n_layers = s->n_layers,
                             .hidden = s->hidden,
                             .n_heads = s->n_heads,
                             .n_kv_heads = s->n_kv_heads,
                             .head_dim = s->head_dim,
                             .ffn = s->ffn,
                             .vocab = s->vocab,
                             .max_positions = 8192,
                             .file_dtype = CDP_BF16,
                             .norm_before = true,
                             .qkv_bias = s->qkv_bias,
                             .is_tied = s->is_tied,
                             .rope = {.dim = s->head_dim, .n_lists = 1}};
    snprintf(card->model_type, sizeof card->model_type, "%s", s->type);
}

static inline cdp_run_shape test_run(int ctx, int max_batch) {
    return (cdp_run_shape){.dtype = CDP_BF16,
                           .kv_dtype = CDP_BF16,
                           .ctx = ctx,
                           .max_batch = max_batch,
                           .chunk = 512,
                           .n_ranks = 1,
                           .on_gpu = true};
}
