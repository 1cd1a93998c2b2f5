/* Operations that only move bytes, and the choice of a tier. */
#include <string.h>

#include "kernels/cpu/measure.h"

#if defined(__x86_64__)
extern const cdp_ops cdp_ops_avx2, cdp_ops_avx512, cdp_ops_amx;
extern const cdp_peak cdp_ops_avx2_peak, cdp_ops_avx512_peak, cdp_ops_amx_peak;
#endif
extern const cdp_peak cdp_ops_plain_peak;

const cdp_ops *cdp_ops_for_tier(cdp_cpu_tier tier) {
    if (tier > cdp_cpu_best_tier())
        return NULL;
#if defined(__x86_64__)
    if (tier == CDP_TIER_AMX)
        return &cdp_ops_amx;
    if (tier == CDP_TIER_AVX512)
        return &cdp_ops_avx512;
    if (tier == CDP_TIER_AVX2)
        return &cdp_ops_avx2;
#endif
    return &cdp_ops_plain;
}

const cdp_peak *cdp_peak_for(const cdp_ops *ops) {
#if defined(__x86_64__)
    if (ops == &cdp_ops_amx)
        return &cdp_ops_amx_peak;
    if (ops == &cdp_ops_avx512)
        return &cdp_ops_avx512_peak;
    if (ops == &cdp_ops_avx2)
        return &cdp_ops_avx2_peak;
#endif
    (void)ops;
    return &cdp_ops_plain_peak;
}

typedef struct kv_args {
    const cdp_layer *layers;
    const cdp_kv_command *commands;
    size_t block_bytes;
    int n_layers, n_commands;
    cdp_buffers buf;
} kv_args;

static void kv_job(const void *args, const cdp_turn *turn) {
    const kv_args *a = args;
    for (int c = 0; turn->worker == 0 && c < a->n_commands; c++) {
        const cdp_kv_command *command = &a->commands[c];
        if (command->verb == CDP_KV_APPEND)
            a->buf.tables[(size_t)command->slot * (size_t)a->buf.max_blocks + (size_t)command->index] =
                command->block;
        for (int l = 0; command->verb == CDP_KV_COPY && l < a->n_layers; l++) {
            char *kv = a->layers[l].kv;
            memcpy(kv + (size_t)command->block * a->block_bytes, kv + (size_t)command->from * a->block_bytes,
                   a->block_bytes);
        }
    }
}

cdp_status cdp_cpu_kv_update(cdp_device *device, const cdp_shape *shape, const cdp_layer *layers,
                             int n_layers, const cdp_kv_command *commands, int n_commands,
                             const cdp_buffers *buffers) {
    const kv_args args = {layers,   commands,   cdp_device_ops(device)->kv_block_bytes(shape),
                          n_layers, n_commands, *buffers};
    return n_commands == 0 ? CDP_OK : cdp_cpu_submit(device, kv_job, &args, sizeof args);
}

typedef struct move_args {
    const cdp_shape *shape;
    cdp_tensor embed;
    cdp_step_view step;
    char *picked;
} move_args;

static void embed_job(const void *args, const cdp_turn *turn) {
    const move_args *a = args;
    const size_t n = (size_t)a->shape->hidden;
    int row, end;
    while (cdp_turn_take(turn, a->step.n_rows, 1, &row, &end)) {
        const size_t from = (size_t)a->step.token[row] * n, to = (size_t)row * n;
        for (size_t i = 0; i < n; i++)
            cdp_store(a->step.hidden, a->shape->hidden_dtype, to + i,
                      cdp_load(a->embed.data, a->embed.dtype, from + i) * a->shape->embed_scale); /* R1 */
    }
}

cdp_status cdp_cpu_embed(cdp_device *device, const cdp_shape *shape, const cdp_vocab_weights *vocab,
                         const cdp_step_view *step) {
    const move_args args = {shape, vocab->embed, *step, NULL};
    return cdp_cpu_submit(device, embed_job, &args, sizeof args);
}

static void pick_job(const void *args, const cdp_turn *turn) {
    const move_args *a = args;
    const size_t row_bytes = (size_t)a->shape->hidden * cdp_dtype_bytes(a->shape->hidden_dtype);
    for (int i = 0; turn->worker == 0 && i < a->step.n_home; i++)
        memcpy(a->picked + (size_t)i * row_bytes,
               (const char *)a->step.hidden + (size_t)a->step.home[i] * row_bytes, row_bytes);
}

cdp_status cdp_cpu_pick(cdp_device *device, const cdp_shape *shape, const cdp_step_view *step, void *picked) {
    const move_args args = {shape, {0}, *step, picked};
    return cdp_cpu_submit(device, pick_job, &args, sizeof args);
}
