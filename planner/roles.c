#include "planner/roles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "planner/families.h"
#include "planner/file.h"

/* Names that all families here share, inside model.layers.N. for the layer roles; the norms are the family's.
 */
static const char *const names[CDP_N_ROLES] = {
    [CDP_ROLE_EMBED] = "model.embed_tokens.weight",
    [CDP_ROLE_FINAL_NORM] = "model.norm.weight",
    [CDP_ROLE_HEAD] = "lm_head.weight",
    [CDP_ROLE_ATTN_NORM] = "input_layernorm.weight",
    [CDP_ROLE_Q] = "self_attn.q_proj.weight",
    [CDP_ROLE_K] = "self_attn.k_proj.weight",
    [CDP_ROLE_V] = "self_attn.v_proj.weight",
    [CDP_ROLE_QKV] = "self_attn.qkv_proj.weight",
    [CDP_ROLE_Q_BIAS] = "self_attn.q_proj.bias",
    [CDP_ROLE_K_BIAS] = "self_attn.k_proj.bias",
    [CDP_ROLE_V_BIAS] = "self_attn.v_proj.bias",
    [CDP_ROLE_Q_NORM] = "self_attn.q_norm.weight",
    [CDP_ROLE_K_NORM] = "self_attn.k_norm.weight",
    [CDP_ROLE_ATTN_OUT] = "self_attn.o_proj.weight",
    [CDP_ROLE_ATTN_OUT_BIAS] = "self_attn.o_proj.bias",
    [CDP_ROLE_GATE] = "mlp.gate_proj.weight",
    [CDP_ROLE_UP] = "mlp.up_proj.weight",
    [CDP_ROLE_GATE_UP] = "mlp.gate_up_proj.weight",
    [CDP_ROLE_GATE_BIAS] = "mlp.gate_proj.bias",
    [CDP_ROLE_UP_BIAS] = "mlp.up_proj.bias",
    [CDP_ROLE_DOWN] = "mlp.down_proj.weight",
    [CDP_ROLE_DOWN_BIAS] = "mlp.down_proj.bias",
};

bool cdp_role_name(char *out, size_t out_size, const cdp_model_card *card, cdp_role role, int layer) {
    const cdp_family *family = cdp_family_find(card->model_type);
    if ((int)role < CDP_FIRST_LAYER_ROLE) {
        snprintf(out, out_size, "%s", names[role]);
        return true;
    }
    const char *norm = role == CDP_ROLE_ATTN_POST_NORM  ? family->attn_post_norm
                       : role == CDP_ROLE_FFN_NORM      ? family->ffn_norm
                       : role == CDP_ROLE_FFN_POST_NORM ? family->ffn_post_norm
                                                        : NULL;
    if (norm == NULL && names[role] == NULL)
        return false;
    if (role == CDP_ROLE_ATTN_NORM && !family->norm_before)
        return false;
    if (norm != NULL)
        snprintf(out, out_size, "model.layers.%d.%s.weight", layer, norm);
    else
        snprintf(out, out_size, "model.layers.%d.%s", layer, names[role]);
    return true;
}

bool cdp_role_is_used(const cdp_model_card *card, cdp_role role) {
    switch (role) {
    case CDP_ROLE_HEAD:
        return !card->is_tied;
    case CDP_ROLE_ATTN_NORM:
    case CDP_ROLE_FFN_NORM:
        return card->norm_before;
    case CDP_ROLE_ATTN_POST_NORM:
    case CDP_ROLE_FFN_POST_NORM:
        return card->norm_after;
    case CDP_ROLE_Q:
    case CDP_ROLE_K:
    case CDP_ROLE_V:
        return !card->fused_qkv;
    case CDP_ROLE_QKV:
        return card->fused_qkv;
    case CDP_ROLE_Q_BIAS:
    case CDP_ROLE_K_BIAS:
    case CDP_ROLE_V_BIAS:
        return card->qkv_bias;
    case CDP_ROLE_Q_NORM:
    case CDP_ROLE_K_NORM:
        return card->qk_norm != CDP_QK_NONE;
    case CDP_ROLE_ATTN_OUT_BIAS:
        return card->attn_out_bias;
    case CDP_ROLE_GATE:
    case CDP_ROLE_UP:
        return !card->fused_gate_up;
    case CDP_ROLE_GATE_UP:
        return card->fused_gate_up;
    case CDP_ROLE_GATE_BIAS:
    case CDP_ROLE_UP_BIAS:
    case CDP_ROLE_DOWN_BIAS:
        return card->mlp_bias;
    default:
        return true;
    }
}

static int vector_shape(uint64_t shape[2], uint64_t n) {
    shape[0] = n;
    return 1;
}

static int matrix_shape(uint64_t shape[2], uint64_t rows, uint64_t cols) {
    shape[0] = rows;
    shape[1] = cols;
    return 2;
}

int cdp_role_shape(const cdp_model_card *card, cdp_role role, uint64_t shape[2]) {
    const uint64_t hidden = (uint64_t)card->hidden, ffn = (uint64_t)card->ffn, dim = (uint64_t)card->head_dim;
    const uint64_t q = (uint64_t)card->n_heads * dim, kv = (uint64_t)card->n_kv_heads * dim;
    const bool is_full = card->qk_norm == CDP_QK_FULL;
    switch (role) {
    case CDP_ROLE_EMBED:
    case CDP_ROLE_HEAD:
        return matrix_shape(shape, (uint64_t)card->vocab, hidden);
    case CDP_ROLE_Q:
        return matrix_shape(shape, q, hidden);
    case CDP_ROLE_K:
    case CDP_ROLE_V:
        return matrix_shape(shape, kv, hidden);
    case CDP_ROLE_QKV:
        return matrix_shape(shape, q + 2 * kv, hidden);
    case CDP_ROLE_Q_BIAS:
        return vector_shape(shape, q);
    case CDP_ROLE_K_BIAS:
    case CDP_ROLE_V_BIAS:
        return vector_shape(shape, kv);
    case CDP_ROLE_Q_NORM:
        return vector_shape(shape, is_full ? q : dim);
    case CDP_ROLE_K_NORM:
        return vector_shape(shape, is_full ? kv : dim);
    case CDP_ROLE_ATTN_OUT:
        return matrix_shape(shape, hidden, q);
    case CDP_ROLE_GATE:
    case CDP_ROLE_UP:
        return matrix_shape(shape, ffn, hidden);
    case CDP_ROLE_GATE_UP:
        return matrix_shape(shape, 2 * ffn, hidden);
    case CDP_ROLE_GATE_BIAS:
    case CDP_ROLE_UP_BIAS:
        return vector_shape(shape, ffn);
    case CDP_ROLE_DOWN:
        return matrix_shape(shape, hidden, ffn);
    default: /* norms and the biases of what goes back to hidden */
        return vector_shape(shape, hidden);
    }
}

const cdp_tensor_entry *cdp_role_find(const cdp_model_card *card, const cdp_tensor_index *index,
                                      cdp_role role, int layer) {
    char name[256];
    return cdp_role_name(name, sizeof name, card, role, layer) ? cdp_tensor_index_find(index, name) : NULL;
}

/* What the first layer's tensors show beats what config.json says. */
static void read_presence(cdp_model_card *card, const cdp_tensor_index *index) {
    card->fused_qkv = cdp_role_find(card, index, CDP_ROLE_QKV, 0) != NULL;
    card->fused_gate_up = cdp_role_find(card, index, CDP_ROLE_GATE_UP, 0) != NULL;
    card->qkv_bias = cdp_role_find(card, index, CDP_ROLE_Q_BIAS, 0) != NULL;
    card->attn_out_bias = cdp_role_find(card, index, CDP_ROLE_ATTN_OUT_BIAS, 0) != NULL;
    card->mlp_bias = cdp_role_find(card, index, CDP_ROLE_DOWN_BIAS, 0) != NULL;
    const cdp_tensor_entry *q_norm = cdp_role_find(card, index, CDP_ROLE_Q_NORM, 0);
    const uint64_t whole = (uint64_t)card->n_heads * (uint64_t)card->head_dim;
    card->qk_norm = q_norm == NULL                                                          ? CDP_QK_NONE
                    : q_norm->n_dims == 1 && q_norm->shape[0] == whole && card->n_heads > 1 ? CDP_QK_FULL
                                                                                            : CDP_QK_HEAD;
    const cdp_tensor_entry *embed = cdp_role_find(card, index, CDP_ROLE_EMBED, 0);
    if (embed != NULL && embed->is_float)
        card->file_dtype = embed->dtype;
}

/* A path as messages name it. */
typedef struct shown_path {
    char text[CDP_SHOWN_PATH];
} shown_path;

static const char *show(shown_path *out, const char *path) {
    return cdp_escape(out->text, sizeof out->text, path, strlen(path));
}

/* A head that is there and a tie in config.json: the tie wins, with a note. No head and no word: tied. */
static cdp_status settle_tie(cdp_model_card *card, const cdp_tensor_index *index) {
    const bool has_head = cdp_role_find(card, index, CDP_ROLE_HEAD, 0) != NULL;
    shown_path dir;
    if (!card->tie_is_said)
        card->is_tied = !has_head;
    if (card->is_tied && has_head)
        cdp_note("tie_word_embeddings is true and lm_head.weight is there: the embedding serves as head");
    if (!card->is_tied && !has_head)
        return cdp_fail(
            CDP_BAD_MODEL,
            "%s: tensor \"lm_head.weight\" is missing, and config.json says tie_word_embeddings false",
            show(&dir, card->dir));
    return CDP_OK;
}

/* The highest model.layers.N + 1 of the files. */
static int layers_in_files(const cdp_tensor_index *index) {
    int n = 0, layer;
    for (size_t i = 0; i < index->n_tensors; i++)
        if (sscanf(index->tensors[i].name, "model.layers.%6d.", &layer) == 1 && layer + 1 > n)
            n = layer + 1;
    return n;
}

static void shape_text(char *out, size_t out_size, const uint64_t *shape, int n) {
    size_t used = (size_t)snprintf(out, out_size, "[");
    for (int i = 0; i < n && used < out_size; i++)
        used += (size_t)snprintf(out + used, out_size - used, "%s%llu", i > 0 ? "," : "",
                                 (unsigned long long)shape[i]);
    if (used < out_size)
        snprintf(out + used, out_size - used, "]");
}

static cdp_status check_role(const cdp_model_card *card, const cdp_tensor_index *index, cdp_role role,
                             int layer, bool *is_consumed) {
    char name[256], want[64], got[256];
    uint64_t shape[2];
    shown_path path;
    if (!cdp_role_is_used(card, role) || !cdp_role_name(name, sizeof name, card, role, layer))
        return CDP_OK;
    const int n_dims = cdp_role_shape(card, role, shape);
    const cdp_tensor_entry *entry = cdp_tensor_index_find(index, name);
    shape_text(want, sizeof want, shape, n_dims);
    if (entry == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: tensor \"%s\" is missing, expected shape %s",
                        show(&path, card->dir), name, want);
    const char *file = index->files[entry->file].path;
    shape_text(got, sizeof got, entry->shape, entry->n_dims);
    if (entry->n_dims != n_dims || memcmp(entry->shape, shape, (size_t)n_dims * sizeof *shape) != 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: tensor \"%s\" has shape %s, config.json asks for %s",
                        show(&path, file), name, got, want);
    if (!entry->is_float)
        return cdp_fail(CDP_BAD_MODEL, "%s: tensor \"%s\" is %s, expected BF16, F16 or F32",
                        show(&path, file), name, entry->type);
    is_consumed[entry - index->tensors] = true;
    return CDP_OK;
}

static cdp_status check_roles(const cdp_model_card *card, const cdp_tensor_index *index, bool *is_consumed) {
    for (int role = 0; role < CDP_N_ROLES; role++) {
        const int n = role < CDP_FIRST_LAYER_ROLE ? 1 : card->n_layers;
        for (int layer = 0; layer < n; layer++)
            CDP_TRY(check_role(card, index, (cdp_role)role, layer, is_consumed));
    }
    return CDP_OK;
}

static bool ends_with(const char *name, const char *suffix) {
    const size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

/* Every tensor of the file is consumed or known to carry nothing: this catches most wrong-architecture loads.
 */
static cdp_status check_rest(const cdp_model_card *card, const cdp_tensor_index *index,
                             const bool *is_consumed) {
    int n_ignored = 0;
    for (size_t i = 0; i < index->n_tensors; i++) {
        const char *name = index->tensors[i].name;
        char shown[256];
        shown_path file;
        if (is_consumed[i])
            continue;
        const bool is_known = ends_with(name, "rotary_emb.inv_freq") || ends_with(name, ".attention.bias") ||
                              ends_with(name, ".masked_bias") ||
                              (card->is_tied && strcmp(name, names[CDP_ROLE_HEAD]) == 0);
        if (!is_known)
            return cdp_fail(CDP_BAD_MODEL, "%s: tensor \"%s\" has no place in a %s model",
                            show(&file, index->files[index->tensors[i].file].path),
                            cdp_escape(shown, sizeof shown, name, strlen(name)), card->model_type);
        n_ignored++;
    }
    if (n_ignored > 0)
        cdp_note("%d tensors carry nothing for inference and are ignored", n_ignored);
    return CDP_OK;
}

cdp_status cdp_model_card_settle(cdp_model_card *card, const cdp_tensor_index *index) {
    shown_path dir;
    read_presence(card, index);
    const int n_layers = layers_in_files(index);
    if (n_layers != card->n_layers)
        return cdp_fail(CDP_BAD_MODEL, "%s: num_hidden_layers is %d, the tensors show %d layers",
                        show(&dir, card->dir), card->n_layers, n_layers);
    CDP_TRY(settle_tie(card, index));
    bool *is_consumed = calloc(index->n_tensors + 1, sizeof *is_consumed);
    if (is_consumed == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to check %zu tensors", index->n_tensors);
    cdp_status st = check_roles(card, index, is_consumed);
    if (st == CDP_OK)
        st = check_rest(card, index, is_consumed);
    free(is_consumed);
    card->has_tensors = st == CDP_OK;
    return st;
}
