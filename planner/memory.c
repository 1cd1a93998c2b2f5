#include "planner/memory.h"

#include "kernels/checked.h"
#include "planner/roles.h"

/* What the process itself takes beside its buffers. CPU: program, MPI, threads and the tokenizer's tables.
 * GPU: context and modules, 32 MiB of cuBLASLt workspace, NCCL's channels. Reserved, not measured. */
static const uint64_t cpu_context_bytes = UINT64_C(64) << 20;
static const uint64_t gpu_context_bytes = UINT64_C(768) << 20;

enum {
    STEP_INTS = 16,    /* int32 of a row in the step arrays and its KV commands, host and device each */
    STEP_EXTRA = 1024, /* rows' worth of room for the commands of sequences */
};

/* Card and run are range checked; a sum that overflows all the same is larger than any memory. */
static uint64_t mul(uint64_t a, uint64_t b) {
    uint64_t r;
    return cdp_mul_u64(a, b, &r) ? r : UINT64_MAX;
}
static uint64_t add(uint64_t a, uint64_t b) {
    uint64_t r;
    return cdp_add_u64(a, b, &r) ? r : UINT64_MAX;
}
static uint64_t f32s(uint64_t rows, uint64_t cols) {
    return mul(mul(rows, cols), sizeof(float));
}

cdp_dtype cdp_hidden_dtype(const cdp_run_shape *run) {
    return run->dtype == CDP_BF16 ? CDP_BF16 : CDP_F32;
}

int cdp_n_slots(const cdp_run_shape *run) {
    return run->n_ranks + 1;
}

int cdp_step_rows(const cdp_run_shape *run) {
    return run->chunk > run->max_batch ? run->chunk : run->max_batch;
}

int64_t cdp_blocks_per_sequence(const cdp_run_shape *run) {
    return ((int64_t)run->ctx + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS;
}

uint64_t cdp_kv_block_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    const uint64_t values = mul(2 * (uint64_t)card->n_kv_heads, (uint64_t)card->head_dim);
    return mul(mul(values, CDP_KV_BLOCK_TOKENS), cdp_dtype_bytes(run->kv_dtype));
}

/* Matrices are held in the run's dtype, vectors (norms, biases) in f32; files hold both in one dtype. */
static uint64_t role_bytes(const cdp_model_card *card, const cdp_run_shape *run, cdp_role role,
                           bool as_file) {
    uint64_t shape[2] = {1, 1};
    if (!cdp_role_is_used(card, role))
        return 0;
    const int n_dims = cdp_role_shape(card, role, shape);
    const size_t width = n_dims == 2 || as_file ? cdp_dtype_bytes(run->dtype) : sizeof(float);
    return mul(n_dims == 2 ? mul(shape[0], shape[1]) : shape[0], width);
}

static uint64_t roles_bytes(const cdp_model_card *card, const cdp_run_shape *run, int first, int end,
                            bool as_file) {
    uint64_t sum = 0;
    for (int role = first; role < end; role++)
        sum = add(sum, role_bytes(card, run, (cdp_role)role, as_file));
    return sum;
}

uint64_t cdp_layer_weight_bytes(const cdp_model_card *card, const cdp_run_shape *run, int layer) {
    (void)layer; /* all layers of the families here are alike */
    return roles_bytes(card, run, CDP_FIRST_LAYER_ROLE, CDP_N_ROLES, false);
}

uint64_t cdp_vocab_weight_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    return roles_bytes(card, run, 0, CDP_FIRST_LAYER_ROLE, false);
}

uint64_t cdp_model_weight_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    const uint64_t layer = roles_bytes(card, run, CDP_FIRST_LAYER_ROLE, CDP_N_ROLES, true);
    return add(roles_bytes(card, run, 0, CDP_FIRST_LAYER_ROLE, true), mul(layer, (uint64_t)card->n_layers));
}

cdp_scratch_bytes cdp_scratch(const cdp_model_card *card, const cdp_run_shape *run, bool has_vocab) {
    const uint64_t rows = (uint64_t)cdp_step_rows(run), hidden = (uint64_t)card->hidden,
                   vocab = (uint64_t)card->vocab;
    const uint64_t q = (uint64_t)card->n_heads * (uint64_t)card->head_dim;
    const uint64_t kv = (uint64_t)card->n_kv_heads * (uint64_t)card->head_dim;
    const uint64_t seats = (uint64_t)cdp_n_slots(run), batch = (uint64_t)run->max_batch;
    cdp_scratch_bytes b = {
        .normed = f32s(rows, hidden),
        .qkv = f32s(rows, q + 2 * kv),
        .context = f32s(rows, q),
        .ffn = f32s(rows, 2 * (uint64_t)card->ffn),
        .rope = f32s(rows, (uint64_t)card->rope.dim),
        .logits = has_vocab ? add(mul(2, f32s(CDP_HOME_ROWS, vocab)), f32s(CDP_HOME_ROWS, hidden)) : 0,
        .step = mul(2 * STEP_INTS * sizeof(int32_t), mul(seats, add(mul(2, add(rows, batch)), STEP_EXTRA))),
        .load = (uint64_t)CDP_LOAD_READERS * CDP_LOAD_STAGING_BYTES,
    };
    b.step = add(b.step, mul(batch * sizeof(int32_t), (uint64_t)cdp_blocks_per_sequence(run)));
    const uint64_t parts[] = {b.normed, b.qkv, b.context, b.ffn, b.rope, b.logits, b.step, b.load};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        b.total = add(b.total, parts[i]);
    return b;
}

uint64_t cdp_link_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    const uint64_t row = mul((uint64_t)card->hidden, cdp_dtype_bytes(cdp_hidden_dtype(run)));
    return mul(mul(2 * (uint64_t)cdp_n_slots(run), (uint64_t)cdp_step_rows(run)), row);
}

cdp_stage_bytes cdp_memory_stage(const cdp_model_card *card, const cdp_run_shape *run, int first_layer,
                                 int end_layer, bool has_vocab, int64_t n_blocks) {
    const uint64_t n_layers = (uint64_t)(end_layer - first_layer);
    cdp_stage_bytes b = {
        .kv = mul(mul(n_layers, (uint64_t)n_blocks), cdp_kv_block_bytes(card, run)),
        .scratch = cdp_scratch(card, run, has_vocab).total,
        .links = cdp_link_bytes(card, run),
        .context = run->on_gpu ? gpu_context_bytes : cpu_context_bytes,
    };
    for (int l = first_layer; l < end_layer; l++)
        b.weights = add(b.weights, cdp_layer_weight_bytes(card, run, l));
    if (has_vocab)
        b.weights = add(b.weights, cdp_vocab_weight_bytes(card, run));
    b.total = add(add(add(add(b.weights, b.kv), b.scratch), b.links), b.context);
    return b;
}
