#include "planner/families.h"

#include <string.h>

#define LLAMA_NORMS NULL, "post_attention_layernorm", NULL
#define AFTER_NORMS "post_attention_layernorm", NULL, "post_feedforward_layernorm"

/* A table reads best in columns. */
/* clang-format off */
static const cdp_family families[] = {
    /* type     eps   theta kv  dim  window tied   before after  qk_norm      bias   fused  nope   mult   su     window rule         norms */
    {"llama",   1e-6, 1e4,  0,  0,   0,     false, true,  false, CDP_QK_NONE, false, false, false, false, false, CDP_WINDOW_NONE,    LLAMA_NORMS},
    {"mistral", 1e-6, 1e4,  8,  0,   4096,  false, true,  false, CDP_QK_NONE, false, false, false, false, false, CDP_WINDOW_ALL,     LLAMA_NORMS},
    {"qwen2",   1e-6, 1e4,  32, 0,   4096,  false, true,  false, CDP_QK_NONE, true,  false, false, false, false, CDP_WINDOW_QWEN,    LLAMA_NORMS},
    {"qwen3",   1e-6, 1e4,  32, 128, 4096,  false, true,  false, CDP_QK_HEAD, false, false, false, false, false, CDP_WINDOW_QWEN,    LLAMA_NORMS},
    {"smollm3", 1e-6, 2e6,  4,  0,   0,     true,  true,  false, CDP_QK_NONE, false, false, true,  false, false, CDP_WINDOW_NO_ROPE, LLAMA_NORMS},
    {"granite", 1e-6, 1e4,  0,  0,   0,     false, true,  false, CDP_QK_NONE, false, false, false, true,  false, CDP_WINDOW_NONE,    LLAMA_NORMS},
    {"olmo2",   1e-5, 1e4,  0,  0,   0,     false, false, true,  CDP_QK_FULL, false, false, false, false, false, CDP_WINDOW_NONE,    AFTER_NORMS},
    {"phi3",    1e-5, 1e4,  0,  0,   0,     false, true,  false, CDP_QK_NONE, false, true,  false, false, true,  CDP_WINDOW_ALL,     LLAMA_NORMS},
};
/* clang-format on */
enum { N_FAMILIES = sizeof families / sizeof families[0] };

const cdp_family *cdp_family_find(const char *type) {
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i].type, type) == 0)
            return &families[i];
    return NULL;
}

const char *cdp_family_list(void) {
    return "llama, mistral, qwen2, qwen3, smollm3, granite, olmo2, phi3";
}
