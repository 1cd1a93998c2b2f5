/* planner/memory.h - bytes. Every buffer that a stage allocates is counted here: the stage takes sizes and
 * constants from here, and a GPU's slab that is filled to the byte shows that none is missing. So the plan is
 * the truth.
 *
 * A stage holds   weights   its layers' tensors in the run's dtype (norms and biases in f32)
 *                 kv        2 * kv heads * head_dim * kv bytes * 16 tokens, for each block and layer
 *                 scratch   what one step needs while it is computed, rank 0's logits, load staging
 *                 links     one hidden buffer a seat, the tapped rows, the home rows
 *                 context   a stated constant for the process itself
 *
 * On a GPU weights, kv, scratch and links are one slab in which every buffer begins at a multiple of 256
 * bytes, and count the device's memory only; on the CPU scratch counts the host's side of copies and staging
 * as well.
 */
#pragma once

#include "planner/model_card.h"
#include <stdint.h>

enum {
    CDP_KV_BLOCK_TOKENS = 16,
    CDP_HOME_ROWS = 16,               /* rows the head takes at once: logits are (16, vocab) f32 */
    CDP_LOAD_READERS = 8,             /* threads that read weights */
    CDP_LOAD_STAGING_BYTES = 4 << 20, /* of each reader, for values that change form */
    CDP_LOAD_SLOT_BYTES = 8 << 20,    /* of a pinned slot on a GPU's way, at most: not the GPU's memory */
    CDP_STEP_ROW_INTS = 5,            /* int32 of a row in a step: slot, position, token, rope list, home */
    CDP_KV_COMMAND_BYTES = 24,        /* of one cdp_kv_command (kernels/step.h) */
    CDP_SLAB_ALIGNMENT = 256,         /* of every buffer in a GPU's slab (kernels/device.h) */
};

/* What a run is planned for. */
typedef struct cdp_run_shape {
    cdp_dtype dtype;    /* weights and arithmetic: bf16 | fp16 | fp32 */
    cdp_dtype kv_dtype; /* of the cache */
    int ctx;            /* tokens a sequence may reach */
    int max_batch;      /* sequences at once */
    int chunk;          /* prompt tokens of one step at most; rows of every step buffer */
    int n_ranks;        /* that may take part, idle ones too: a stage's bytes must not depend on the split
                         * that they decide. Steps in flight = n_ranks + 1 */
    int n_taps;         /* states of a home row that decoding may look at, beside the last; 0: none */
    bool on_gpu;        /* picks the context constant and the scratch layout */
} cdp_run_shape;

/* Bytes of a stage, part by part. */
typedef struct cdp_stage_bytes {
    uint64_t weights, kv, scratch, links, context, total;
} cdp_stage_bytes;

/* Hidden states travel and lie in bf16 for bf16 runs and in f32 else. */
cdp_dtype cdp_hidden_dtype(const cdp_run_shape *run);

/* Seats of steps in flight: one more than ranks, so that rank 0 fills while the ring is full. */
int cdp_n_seats(const cdp_run_shape *run);

/* Rows of all step buffers: the chunk, or max_batch where that is larger. */
int cdp_step_rows(const cdp_run_shape *run);

/* KV commands of one step at most: every row may open a block, every sequence may be copied. */
int cdp_max_commands(const cdp_run_shape *run);

/* Home rows of a step that may be tapped (0 where n_taps is), and the tapped rows they make: what the hidden
 * states carry along and rank 0 keeps. */
int cdp_tapped_home_rows(const cdp_run_shape *run);
int cdp_tap_rows(const cdp_run_shape *run);

/* KV blocks that one sequence of ctx tokens needs. */
int64_t cdp_blocks_per_sequence(const cdp_run_shape *run);

/* Bytes of one KV block of one layer, keys and values. */
uint64_t cdp_kv_block_bytes(const cdp_model_card *card, const cdp_run_shape *run);

/* Weight bytes: of layer `layer`, of rank 0's two ends as held, and of the whole model in the run's dtype as
 * its files would hold it (a tied matrix once). */
uint64_t cdp_layer_weight_bytes(const cdp_model_card *card, const cdp_run_shape *run, int layer);
uint64_t cdp_vocab_weight_bytes(const cdp_model_card *card, const cdp_run_shape *run);
uint64_t cdp_model_weight_bytes(const cdp_model_card *card, const cdp_run_shape *run);

/* Bytes of the step scratch, buffer by buffer, of f32 values where nothing else is said; rows is
 * cdp_step_rows. The stage allocates exactly these. Activations are rounded where ops.h says so. */
typedef struct cdp_scratch_bytes {
    uint64_t normed;  /* (rows, hidden), also the attention and MLP products before the residual */
    uint64_t qkv;     /* (rows, (n_heads + 2 n_kv_heads) * head_dim) */
    uint64_t context; /* (rows, n_heads * head_dim) */
    uint64_t ffn;     /* (rows, 2 * ffn): gate and up, then their product in the first half */
    uint64_t rope;    /* (rows, 2, rope dim / 2): cos, sin of each row's position */
    uint64_t packed;  /* CPU, bf16 weights: (rows, longest input of a product) in bf16, whole tiles */
    uint64_t logits; /* rank 0: (CDP_HOME_ROWS, vocab), on the CPU twice (device and host), the normed rows */
    uint64_t step;   /* step arrays and KV commands of every seat; block tables */
    uint64_t load;   /* staging of the reader threads while loading; on a GPU it is the host's */
    uint64_t taps;   /* rank 0, where states are tapped: the head's gathered rows and their places; on the CPU
                      * also those rows at home, and what each sequence may keep: rows of logits (vocab) f32,
                      * hidden rows (n_taps + 1, hidden) f32 */
    uint64_t total;
} cdp_scratch_bytes;
cdp_scratch_bytes cdp_scratch(const cdp_model_card *card, const cdp_run_shape *run, bool has_vocab);

/* A seat's hidden rows (rows, hidden), tapped rows (cdp_tap_rows, hidden) and home rows (rows, hidden), one
 * buffer in the hidden dtype: of one seat, and of all. */
uint64_t cdp_seat_bytes(const cdp_model_card *card, const cdp_run_shape *run);
uint64_t cdp_link_bytes(const cdp_model_card *card, const cdp_run_shape *run);

/* The part that the stage allocates on a GPU, in one slab, to the byte: all but the context. */
uint64_t cdp_slab_bytes(const cdp_stage_bytes *bytes);

/* All of it for layers [first_layer, end_layer) with n_blocks KV blocks. */
cdp_stage_bytes cdp_memory_stage(const cdp_model_card *card, const cdp_run_shape *run, int first_layer,
                                 int end_layer, bool has_vocab, int64_t n_blocks);
