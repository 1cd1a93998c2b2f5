/* tests/support/layer_case.h - one layer and the vocabulary's two ends on any device, with random weights:
 * the cases that every operation table runs.
 *
 * What each case catches: one row (decode), widths of exactly one vector, one more and one less (tails), odd
 * heads, groups of one, three and more than sixteen heads, every head size a GPU has a kernel for, a window
 * that cuts a block, norms after, biases, q/k norms, partial rope, each dtype beside each cache, results
 * whose rows are no multiple of 16 bytes in bf16; and each with its head once more on rows that no norm has
 * passed.
 */
#pragma once

#include "kernels/ops.h"

enum { TEST_LAYER_SLOTS = 3, TEST_LAYER_BLOCKS = 20, TEST_LAYER_ROWS = 96, TEST_LAYER_COLLECTED = 72 };

typedef struct layer_spec {
    const char *name;
    int hidden, n_heads, n_kv_heads, head_dim, ffn, vocab, rope_dim, window;
    cdp_dtype dtype, kv_dtype;
    cdp_head_norm head_norm;
    bool has_bias, norm_before, norm_after;
    float residual_scale;
} layer_spec;

extern const layer_spec test_layer_specs[];
extern const int test_n_layer_specs;

typedef struct layer_case {
    const layer_spec *spec;
    cdp_device *device;
    const cdp_ops *ops;
    cdp_shape shape;
    cdp_layer layer;
    cdp_vocab_weights vocab;
    cdp_buffers buf;
    double inv[256];
    int32_t host_arrays[5][TEST_LAYER_ROWS], *arrays;
    void *hidden;
    float *device_logits, *device_bare, *logits_scratch;
    int n_rows;       /* added since the last run */
    bool is_recorded; /* set by the test: the layer's operations are recorded and replayed (ops.h) */
    cdp_step_view view;
    /* Results of the last run, on the host: */
    float *context; /* (rows, n_heads * head_dim) */
    float *ffn;     /* (rows, ffn) */
    float *states;  /* (rows, hidden) */
    float *logits;  /* (rows, vocab) */
    float *bare;    /* (rows, vocab), the head without the final norm */
} layer_case;

/* Takes the device over. */
layer_case *test_layer_open(const layer_spec *spec, cdp_device *device);

/* Frees all, sees that nothing is left allocated, closes the device. */
void test_layer_close(layer_case *c);

/* n rows of `slot` from `position` on; the token id of a row depends on slot and position alone. Slot -1:
 * padding. */
void test_layer_add_rows(layer_case *c, int slot, int position, int n);

/* Every operation on the rows added, results to the host, and a new list begins. */
void test_layer_run(layer_case *c);

/* Play step 0 .. test_layer_steps() - 1: prompts and decoding rows, alone and mixed. Returns the step's rows.
 */
int test_layer_steps(void);
int test_layer_play(layer_case *c, int step);

/* Fails the test where got and want differ in the last run's first n_rows rows by more than rounding
 * explains. */
void test_layer_compare(const layer_case *got, const layer_case *want, int n_rows);

/* Two cases of one spec that are fed the same rows: `want` on a device that is trusted, `got` on another. */
typedef struct layer_pair {
    layer_case *want, *got;
} layer_pair;
layer_pair test_pair_open(const layer_spec *spec, cdp_device *want, cdp_device *got);
void test_pair_add_rows(const layer_pair *pair, int slot, int position, int n);
/* Run both and compare all rows. */
void test_pair_run(const layer_pair *pair);
void test_pair_close(const layer_pair *pair);

/* The logits bits of slot 0's first TEST_LAYER_COLLECTED rows (more than one group of keys of any tier), fed
 * in the given chunks, with or without another sequence beside, into out (rows, vocab). Takes the device
 * over. */
void test_layer_collect(const layer_spec *spec, cdp_device *device, int chunk, bool has_company, float *out);

/* A block copied and a table entry written by commands. Takes the device over. */
void test_layer_commands(cdp_device *device);
