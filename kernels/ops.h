/* kernels/ops.h - the table every device fills: a layer is five operations, the vocabulary two.
 *
 *     rope                                             once a step: cos and sin of every row's position
 *     qkv       hidden  -> q, KV blocks                norm, projections, bias, q/k norm, rope, append to KV
 *     attend    q, KV   -> context                     softmax(q k scale) v over the row's past; window
 *     attn_out  context -> hidden                      projection, bias, post norm, residual
 *     gate_up   hidden  -> ffn                         norm, gate and up projections, bias, silu(gate) * up
 *     down      ffn     -> hidden                      projection, bias, post norm, residual
 *     embed     tokens  -> hidden          logits      hidden -> norm, head, scale -> logits
 *
 * A tensor whose data is NULL means the model has none: families differ by data, not by branches. A mixture
 * of experts will replace gate_up and down by one more slot; quantized weights bring `scales`.
 *
 * Every call queues work on the device and returns. Step arrays lie on the device at addresses that do not
 * change from step to step, and rows beyond the real ones (slot -1) are padding that writes nothing a real
 * row reads: so a device may record a step once and replay it (CUDA graphs).
 *
 * Rounding. Arithmetic is f32; a value is rounded to bf16, in runs whose hidden_dtype is bf16, at exactly
 * these points (R marks them in kernels/ref), and nowhere in other runs:
 *   1 embed's result        2 the norm's result, where a product reads it       3 q and k after rope, v
 *   4 the context           5 hidden after attn_out and after down, residual added
 *   6 silu(gate) * up       7 the final norm's result, where the head reads it
 * A GPU rounds gate and up of prompts as well (kernels/cuda/ops.c).
 * Keys and values are rounded to the KV dtype as they are stored. Logits are f32.
 *
 * Sums. A row's bits depend on that row alone: k of a product is summed in one order, keys are taken in
 * groups that begin at fixed positions, in ascending order, whatever other rows, chunks, threads or ranks
 * there are.
 */
#pragma once

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/step.h"

enum { CDP_BLOCK_TOKENS = 16 }; /* positions of one KV block */

/* A weight on the device, row-major. Vectors have cols = their length and rows = 1, and are f32. */
typedef struct cdp_tensor {
    void *data; /* NULL: the model has none */
    cdp_dtype dtype;
    int rows, cols;
    const void *scales; /* for quantized weights; NULL today */
} cdp_tensor;

typedef enum cdp_head_norm { CDP_HEAD_NORM_NONE, CDP_HEAD_NORM_EACH, CDP_HEAD_NORM_ALL } cdp_head_norm;

/* What all layers of a model share. */
typedef struct cdp_shape {
    int hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    cdp_dtype hidden_dtype; /* bf16 (values rounded as above) or f32 */
    cdp_dtype kv_dtype;
    cdp_head_norm head_norm; /* q/k norm over each head, or over all heads at once */
    float norm_eps, attn_scale, embed_scale, residual_scale, logit_scale;
    int rope_dim; /* rotated values of a head, pairs (i, i + rope_dim / 2); 0: none */
    /* (rope_dim / 2) radians per position; [1] is longrope's long list, else = [0] */
    const double *rope_inv[2];
    float rope_factor[2]; /* times cos and sin */
} cdp_shape;

/* One layer. Rows of qkv are q heads, k heads, v heads; of gate_up gate rows, up rows. */
typedef struct cdp_layer {
    cdp_tensor attn_norm;               /* (hidden) */
    cdp_tensor qkv, qkv_bias;           /* ((n_heads + 2 n_kv_heads) * head_dim, hidden) */
    cdp_tensor q_norm, k_norm;          /* (head_dim), or all heads of q, of k */
    cdp_tensor attn_out, attn_out_bias; /* (hidden, n_heads * head_dim) */
    cdp_tensor attn_post_norm;          /* (hidden) */
    cdp_tensor ffn_norm;                /* (hidden) */
    cdp_tensor gate_up, gate_up_bias;   /* (2 * ffn, hidden) */
    cdp_tensor down, down_bias;         /* (hidden, ffn) */
    cdp_tensor ffn_post_norm;           /* (hidden) */
    int window;                         /* 0: none; else key k is seen by q when k > q - window */
    bool has_rope;
    void *kv; /* this layer's blocks; layout inside belongs to the device */
} cdp_layer;

/* Rank 0's two ends. A tied head has the embedding's data. */
typedef struct cdp_vocab_weights {
    cdp_tensor embed;      /* (vocab, hidden) */
    cdp_tensor final_norm; /* (hidden) */
    cdp_tensor head;       /* (vocab, hidden) */
} cdp_vocab_weights;

/* The step as the device sees it: all pointers are device memory. */
typedef struct cdp_step_view {
    int n_rows, n_home;
    const int32_t *slot, *position, *token, *rope_list; /* (n_rows); slot -1: a padding row */
    const int32_t *home;                                /* (n_home) rows that go home, ascending */
    void *hidden; /* (n_rows, hidden) in hidden_dtype, changed in place */
} cdp_step_view;

/* Scratch that the operations of one step share; sizes from planner/memory.h. Activations are f32 values (on
 * the CPU also when they are rounded). No two overlap: families that run attention and MLP side by side call
 * gate_up before attn_out. Before gate_up, `ffn` is scratch of attend. */
typedef struct cdp_buffers {
    int rows;         /* of normed to rope */
    float *normed;    /* (rows, hidden) */
    float *qkv;       /* (rows, (n_heads + 2 n_kv_heads) * head_dim); q is left in its first columns */
    float *context;   /* (rows, n_heads * head_dim) */
    float *ffn;       /* (rows, 2 * ffn); the result is left in the first ffn columns of each row, or, where
                       * only down can read it, from the beginning on in the order of its tiles */
    float *rope;      /* (rows, 2, rope_dim / 2): cos, sin */
    uint16_t *packed; /* bf16 weights on the CPU: the input of a product in the order of the matrix unit,
                       * (rows, longest input) rounded up to whole (16, 32); else NULL */
    int32_t *tables;  /* (slots, max_blocks): block number of each 16 positions of a sequence */
    int max_blocks;
} cdp_buffers;

/* A device that records may have to load and to allocate for a new number of rows, and for that to wait until
 * nothing runs on it: in so many of the first steps of an owner, step arrays and row count, never later. */
enum { CDP_LOADING_STEPS = 2 };

typedef struct cdp_ops {
    const char *name; /* "ref", "plain", "avx2", "avx512", "amx", "cuda" */

    /* Bytes of one layer's KV block, keys and values. */
    uint64_t (*kv_block_bytes)(const cdp_shape *shape);
    /* Apply block commands (device memory, n of them) to the tables, and copy blocks in each of n_layers. */
    cdp_status (*kv_update)(cdp_device *device, const cdp_shape *shape, const cdp_layer *layers, int n_layers,
                            const cdp_kv_command *commands, int n_commands, const cdp_buffers *buffers);
    cdp_status (*embed)(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                        const cdp_step_view *step);
    cdp_status (*rope)(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step,
                       const cdp_buffers *buffers);
    cdp_status (*qkv)(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                      const cdp_step_view *step, const cdp_buffers *buffers);
    cdp_status (*attend)(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                         const cdp_step_view *step, const cdp_buffers *buffers);
    cdp_status (*attn_out)(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                           const cdp_step_view *step, const cdp_buffers *buffers);
    cdp_status (*gate_up)(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                          const cdp_step_view *step, const cdp_buffers *buffers);
    cdp_status (*down)(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                       const cdp_step_view *step, const cdp_buffers *buffers);
    /* Copy the rows that go home, in order, to `picked` (n_home, hidden). */
    cdp_status (*pick)(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step, void *picked);
    /* rows (n_rows, hidden) in hidden_dtype -> logits (n_rows, vocab) f32; normed is scratch (n_rows,
     * hidden), of the buffers only `packed` is used. A final norm without data: the head reads the rows as
     * they are (DoLa looks at layers so). */
    cdp_status (*logits)(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                         const void *rows, int n_rows, const cdp_buffers *buffers, float *normed,
                         float *logits);

    /* Recording, where queueing a step costs more than a short one takes; NULL elsewhere. A step is padded to
     * bucket(n_rows) rows, of which there are few numbers. Its layers stand between begin and end; where
     * begin says is_replayed, they are in the queue already, as the same owner queued them before for the
     * same step arrays and row count. End is told what the layers said. Where it says !is_queued, they could
     * not be recorded and nothing is queued: the caller queues them again, plainly. */
    int (*bucket)(int n_rows);
    cdp_status (*record_begin)(cdp_device *device, const void *owner, const cdp_step_view *step,
                               bool *is_replayed_out);
    cdp_status (*record_end)(cdp_device *device, cdp_status queued, bool *is_queued_out);
} cdp_ops;

/* Plain C, written for the eye: the truth the others are compared with. Runs on a CPU device. */
extern const cdp_ops cdp_ops_ref;
