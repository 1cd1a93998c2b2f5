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
    TAP_INTS = 8,      /* int32 of a tapped row: where it lies, host and device, and whose it is */
    KEPT_ROWS = 3,     /* of logits: two of a sequence while its layers are compared; some wait for a slot */
    KEPT_STATES = 2,   /* of all its layers, where hidden rows are compared; as above */
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

/* What a buffer takes in the slab of a GPU; on the CPU every buffer has its own memory. */
static uint64_t placed(const cdp_run_shape *run, uint64_t n_bytes) {
    const uint64_t unit = CDP_SLAB_ALIGNMENT;
    return run->on_gpu && n_bytes % unit != 0 ? add(n_bytes, unit - n_bytes % unit) : n_bytes;
}

cdp_dtype cdp_hidden_dtype(const cdp_run_shape *run) {
    return run->dtype == CDP_BF16 ? CDP_BF16 : CDP_F32;
}

int cdp_n_seats(const cdp_run_shape *run) {
    return run->n_ranks + 1;
}

int cdp_step_rows(const cdp_run_shape *run) {
    return run->chunk > run->max_batch ? run->chunk : run->max_batch;
}

int cdp_max_commands(const cdp_run_shape *run) {
    return cdp_step_rows(run) + run->max_batch;
}

int cdp_tapped_home_rows(const cdp_run_shape *run) {
    if (run->n_taps == 0)
        return 0;
    return run->max_batch > CDP_HOME_ROWS ? run->max_batch : CDP_HOME_ROWS;
}

int cdp_tap_rows(const cdp_run_shape *run) {
    return run->n_taps * cdp_tapped_home_rows(run);
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

/* Roles that lie below the one before them in one tensor of the stage: q, k, v; gate, up. */
static bool joins_previous(cdp_role role) {
    switch (role) {
    case CDP_ROLE_K:
    case CDP_ROLE_V:
    case CDP_ROLE_QKV:
    case CDP_ROLE_K_BIAS:
    case CDP_ROLE_V_BIAS:
    case CDP_ROLE_UP:
    case CDP_ROLE_GATE_UP:
    case CDP_ROLE_UP_BIAS:
        return true;
    default:
        return false;
    }
}

static uint64_t roles_bytes(const cdp_model_card *card, const cdp_run_shape *run, int first, int end,
                            bool as_file) {
    uint64_t sum = 0, tensor = 0;
    for (int role = first; role < end; role++) {
        const uint64_t bytes = role_bytes(card, run, (cdp_role)role, as_file);
        if (joins_previous((cdp_role)role)) {
            tensor = add(tensor, bytes);
            continue;
        }
        sum = add(sum, as_file ? tensor : placed(run, tensor));
        tensor = bytes;
    }
    return add(sum, as_file ? tensor : placed(run, tensor));
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

/* Step arrays, KV commands and block tables. The CPU's figure counts the host's side too and is rounded up; a
 * GPU's is to the byte. */
static uint64_t step_bytes(const cdp_run_shape *run) {
    const uint64_t rows = (uint64_t)cdp_step_rows(run), batch = (uint64_t)run->max_batch;
    const uint64_t seats = (uint64_t)cdp_n_seats(run);
    const uint64_t tables = mul(batch * sizeof(int32_t), (uint64_t)cdp_blocks_per_sequence(run));
    const uint64_t taps = (uint64_t)cdp_tap_rows(run);
    if (!run->on_gpu)
        return add(
            add(mul(2 * STEP_INTS * sizeof(int32_t), mul(seats, add(mul(2, add(rows, batch)), STEP_EXTRA))),
                mul(seats * TAP_INTS * sizeof(int32_t), taps)),
            tables);
    const uint64_t arrays = placed(run, mul(rows, CDP_STEP_ROW_INTS * sizeof(int32_t)));
    const uint64_t commands = placed(run, mul((uint64_t)cdp_max_commands(run), CDP_KV_COMMAND_BYTES));
    const uint64_t tapped = placed(run, mul(taps, sizeof(int32_t)));
    return add(mul(seats, add(add(arrays, commands), tapped)), placed(run, tables));
}

/* Logits and the normed rows; the CPU holds the logits twice, as it does for any device. */
static uint64_t logits_bytes(const cdp_run_shape *run, uint64_t vocab, uint64_t hidden) {
    const uint64_t logits = f32s(CDP_HOME_ROWS, vocab), normed = f32s(CDP_HOME_ROWS, hidden);
    return run->on_gpu ? add(placed(run, logits), placed(run, normed)) : add(mul(2, logits), normed);
}

/* What rank 0 needs to look at tapped rows. */
static uint64_t taps_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    if (run->n_taps == 0)
        return 0;
    const uint64_t row = mul((uint64_t)card->hidden, cdp_dtype_bytes(cdp_hidden_dtype(run)));
    const uint64_t gathered = placed(run, mul(CDP_HOME_ROWS, row)),
                   places = placed(run, CDP_HOME_ROWS * sizeof(int32_t)),
                   kept = mul(KEPT_ROWS * (uint64_t)run->max_batch, f32s(1, (uint64_t)card->vocab)),
                   states = mul(KEPT_STATES * (uint64_t)run->max_batch,
                                f32s((uint64_t)run->n_taps + 1, (uint64_t)card->hidden)),
                   at_home = mul(CDP_HOME_ROWS, row);
    return add(add(gathered, places), run->on_gpu ? 0 : add(add(kept, states), at_home));
}

/* Tiles of the matrix unit take 16 rows and 32 values of each. The head may have more rows than a step. */
static uint64_t packed_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    if (run->on_gpu || run->dtype != CDP_BF16)
        return 0;
    const uint64_t rows = (uint64_t)cdp_step_rows(run),
                   q = (uint64_t)card->n_heads * (uint64_t)card->head_dim;
    uint64_t longest = (uint64_t)card->hidden > q ? (uint64_t)card->hidden : q;
    longest = longest > (uint64_t)card->ffn ? longest : (uint64_t)card->ffn;
    const uint64_t n = rows > CDP_HOME_ROWS ? rows : CDP_HOME_ROWS;
    return mul(mul((n + 15) / 16 * 16, (longest + 31) / 32 * 32), sizeof(uint16_t));
}

cdp_scratch_bytes cdp_scratch(const cdp_model_card *card, const cdp_run_shape *run, bool has_vocab) {
    const uint64_t rows = (uint64_t)cdp_step_rows(run), hidden = (uint64_t)card->hidden;
    const uint64_t q = (uint64_t)card->n_heads * (uint64_t)card->head_dim;
    const uint64_t kv = (uint64_t)card->n_kv_heads * (uint64_t)card->head_dim;
    cdp_scratch_bytes b = {
        .normed = placed(run, f32s(rows, hidden)),
        .qkv = placed(run, f32s(rows, q + 2 * kv)),
        .context = placed(run, f32s(rows, q)),
        .ffn = placed(run, f32s(rows, 2 * (uint64_t)card->ffn)),
        .rope = placed(run, f32s(rows, (uint64_t)card->rope.dim)),
        .packed = packed_bytes(card, run),
        .logits = has_vocab ? logits_bytes(run, (uint64_t)card->vocab, hidden) : 0,
        .step = step_bytes(run),
        .taps = has_vocab ? taps_bytes(card, run) : 0,
        .load = run->on_gpu ? 0 : (uint64_t)CDP_LOAD_READERS * CDP_LOAD_STAGING_BYTES,
    };
    const uint64_t parts[] = {b.normed, b.qkv,    b.context, b.ffn,  b.rope,
                              b.packed, b.logits, b.step,    b.load, b.taps};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        b.total = add(b.total, parts[i]);
    return b;
}

uint64_t cdp_seat_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    const uint64_t row = mul((uint64_t)card->hidden, cdp_dtype_bytes(cdp_hidden_dtype(run)));
    return mul(2 * (uint64_t)cdp_step_rows(run) + (uint64_t)cdp_tap_rows(run), row);
}

uint64_t cdp_link_bytes(const cdp_model_card *card, const cdp_run_shape *run) {
    return mul((uint64_t)cdp_n_seats(run), placed(run, cdp_seat_bytes(card, run)));
}

uint64_t cdp_slab_bytes(const cdp_stage_bytes *bytes) {
    return bytes->total - bytes->context;
}

cdp_stage_bytes cdp_memory_stage(const cdp_model_card *card, const cdp_run_shape *run, int first_layer,
                                 int end_layer, bool has_vocab, int64_t n_blocks) {
    const uint64_t n_layers = (uint64_t)(end_layer - first_layer);
    cdp_stage_bytes b = {
        .kv = mul(n_layers, placed(run, mul((uint64_t)n_blocks, cdp_kv_block_bytes(card, run)))),
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
