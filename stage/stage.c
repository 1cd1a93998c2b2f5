#include "stage/stage.h"

#include <stdlib.h>

#include "planner/roles.h"
#include "stage/shape.h"

_Static_assert((int)CDP_SLAB_ALIGNMENT == (int)CDP_DEVICE_ALIGNMENT, "the plan counts as the device places");

struct cdp_stage {
    cdp_device *device;
    const cdp_ops *ops;
    cdp_shape shape;
    int first_layer, n_layers;
    cdp_layer *layers; /* (n_layers) */
    cdp_buffers buffers;
};

cdp_status cdp_weight_alloc(cdp_device *device, cdp_tensor *out, cdp_dtype dtype, int rows, int cols) {
    *out = (cdp_tensor){.dtype = dtype, .rows = rows, .cols = cols};
    return cdp_device_alloc_unwritten(device, &out->data,
                                      (uint64_t)rows * (uint64_t)cols * cdp_dtype_bytes(dtype));
}

/* What a tensor of the stage is made of: up to three tensors of the files, one below the other. */
typedef struct recipe {
    size_t tensor; /* offset in cdp_layer */
    cdp_role parts[3];
    int n_parts;
    cdp_role fused; /* the same rows as one tensor of the file, or CDP_N_ROLES */
} recipe;

#define AT(field) offsetof(cdp_layer, field)
static const recipe recipes[] = {
    {AT(attn_norm), {CDP_ROLE_ATTN_NORM}, 1, CDP_N_ROLES},
    {AT(qkv), {CDP_ROLE_Q, CDP_ROLE_K, CDP_ROLE_V}, 3, CDP_ROLE_QKV},
    {AT(qkv_bias), {CDP_ROLE_Q_BIAS, CDP_ROLE_K_BIAS, CDP_ROLE_V_BIAS}, 3, CDP_N_ROLES},
    {AT(q_norm), {CDP_ROLE_Q_NORM}, 1, CDP_N_ROLES},
    {AT(k_norm), {CDP_ROLE_K_NORM}, 1, CDP_N_ROLES},
    {AT(attn_out), {CDP_ROLE_ATTN_OUT}, 1, CDP_N_ROLES},
    {AT(attn_out_bias), {CDP_ROLE_ATTN_OUT_BIAS}, 1, CDP_N_ROLES},
    {AT(attn_post_norm), {CDP_ROLE_ATTN_POST_NORM}, 1, CDP_N_ROLES},
    {AT(ffn_norm), {CDP_ROLE_FFN_NORM}, 1, CDP_N_ROLES},
    {AT(gate_up), {CDP_ROLE_GATE, CDP_ROLE_UP}, 2, CDP_ROLE_GATE_UP},
    {AT(gate_up_bias), {CDP_ROLE_GATE_BIAS, CDP_ROLE_UP_BIAS}, 2, CDP_N_ROLES},
    {AT(down), {CDP_ROLE_DOWN}, 1, CDP_N_ROLES},
    {AT(down_bias), {CDP_ROLE_DOWN_BIAS}, 1, CDP_N_ROLES},
    {AT(ffn_post_norm), {CDP_ROLE_FFN_POST_NORM}, 1, CDP_N_ROLES},
};

/* Rows and columns of one part; a vector is as many rows of one column, so that parts stack. */
static void part_shape(const cdp_model_card *card, cdp_role role, int *rows_out, int *cols_out) {
    uint64_t shape[2] = {1, 1};
    const int n_dims = cdp_role_shape(card, role, shape);
    *rows_out = (int)shape[0];
    *cols_out = n_dims == 2 ? (int)shape[1] : 1;
}

static cdp_status load_part(const cdp_model_card *card, const cdp_tensor_index *index, cdp_loader *loader,
                            cdp_role role, int layer, const cdp_tensor *to, int first_row) {
    const cdp_tensor_entry *entry = cdp_role_find(card, index, role, layer);
    if (entry == NULL)
        return cdp_fail(CDP_INTERNAL, "layer %d: role %d is used but not in the files", layer, (int)role);
    return cdp_loader_add(loader, entry, to, first_row);
}

static cdp_status open_tensor(cdp_stage *stage, const recipe *r, const cdp_model_card *card, cdp_dtype dtype,
                              int layer, cdp_tensor *out, const cdp_tensor_index *index, cdp_loader *loader) {
    const bool is_fused = r->fused != CDP_N_ROLES && cdp_role_is_used(card, r->fused);
    const cdp_role *parts = is_fused ? &r->fused : r->parts;
    const int n_parts = is_fused ? 1 : r->n_parts;
    if (!cdp_role_is_used(card, parts[0]))
        return CDP_OK; /* the model has none: data stays NULL */
    int rows[3] = {0}, total = 0, cols = 1;
    for (int i = 0; i < n_parts; i++) {
        part_shape(card, parts[i], &rows[i], &cols);
        total += rows[i];
    }
    const bool is_vector = cols == 1;
    CDP_TRY(cdp_weight_alloc(stage->device, out, is_vector ? CDP_F32 : dtype, total, cols));
    for (int i = 0, first = 0; i < n_parts; first += rows[i++])
        CDP_TRY(load_part(card, index, loader, parts[i], layer, out, first));
    return CDP_OK;
}

static cdp_status open_layer(cdp_stage *stage, cdp_layer *layer, const cdp_model_card *card,
                             const cdp_plan *plan, int number, const cdp_tensor_index *index,
                             cdp_loader *loader) {
    layer->window = card->layers[number].window;
    layer->has_rope = card->layers[number].has_rope && stage->shape.rope_dim > 0;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        CDP_TRY(open_tensor(stage, &recipes[i], card, plan->run.dtype, number,
                            (cdp_tensor *)((char *)layer + recipes[i].tensor), index, loader));
    return cdp_device_alloc(stage->device, &layer->kv,
                            (uint64_t)plan->n_blocks * stage->ops->kv_block_bytes(&stage->shape));
}

static cdp_status open_buffers(cdp_stage *stage, const cdp_model_card *card, const cdp_plan *plan) {
    const cdp_scratch_bytes bytes = cdp_scratch(card, &plan->run, false);
    cdp_buffers *b = &stage->buffers;
    b->rows = cdp_step_rows(&plan->run);
    b->max_blocks = (int)cdp_blocks_per_sequence(&plan->run);
    CDP_TRY(cdp_device_alloc(stage->device, (void **)&b->normed, bytes.normed));
    CDP_TRY(cdp_device_alloc(stage->device, (void **)&b->qkv, bytes.qkv));
    CDP_TRY(cdp_device_alloc(stage->device, (void **)&b->context, bytes.context));
    CDP_TRY(cdp_device_alloc(stage->device, (void **)&b->ffn, bytes.ffn));
    CDP_TRY(cdp_device_alloc(stage->device, (void **)&b->rope, bytes.rope));
    CDP_TRY(cdp_device_alloc(stage->device, (void **)&b->packed, bytes.packed));
    return cdp_device_alloc(stage->device, (void **)&b->tables,
                            (uint64_t)plan->run.max_batch * (uint64_t)b->max_blocks * sizeof(int32_t));
}

cdp_status cdp_stage_open(cdp_stage **out, cdp_device *device, const cdp_model_card *card,
                          const cdp_plan *plan, int rank, const cdp_tensor_index *index, cdp_loader *loader) {
    *out = NULL;
    const cdp_stage_plan *mine = &plan->stages[rank];
    cdp_stage *stage = calloc(1, sizeof *stage);
    if (stage == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the stage");
    stage->device = device;
    stage->ops = cdp_device_ops(device);
    stage->first_layer = mine->first_layer;
    stage->n_layers = mine->end_layer - mine->first_layer;
    cdp_shape_fill(&stage->shape, card, &plan->run);
    stage->layers = calloc((size_t)stage->n_layers + 1, sizeof *stage->layers);
    cdp_status st = CDP_OK;
    if (stage->layers == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory for the stage");
        goto done;
    }
    CDP_TRY_GOTO(open_buffers(stage, card, plan), st, done);
    for (int i = 0; i < stage->n_layers; i++)
        CDP_TRY_GOTO(open_layer(stage, &stage->layers[i], card, plan, mine->first_layer + i, index, loader),
                     st, done);
    *out = stage;
    return CDP_OK;
done:
    cdp_stage_close(stage);
    return st;
}

static void close_layer(cdp_device *device, cdp_layer *layer) {
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        cdp_device_free(device, ((cdp_tensor *)((char *)layer + recipes[i].tensor))->data);
    cdp_device_free(device, layer->kv);
}

void cdp_stage_close(cdp_stage *stage) {
    if (stage == NULL)
        return;
    for (int i = 0; stage->layers != NULL && i < stage->n_layers; i++)
        close_layer(stage->device, &stage->layers[i]);
    void *buffers[] = {stage->buffers.normed, stage->buffers.qkv,  stage->buffers.context,
                       stage->buffers.ffn,    stage->buffers.rope, stage->buffers.packed,
                       stage->buffers.tables};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        cdp_device_free(stage->device, buffers[i]);
    free(stage->layers);
    free(stage);
}

/* The same pick that brings rows home, with other rows. */
static cdp_status tap_state(cdp_stage *stage, const cdp_step_view *step, const cdp_tap *tap) {
    cdp_step_view view = *step;
    view.home = tap->rows;
    view.n_home = tap->n_rows;
    return stage->ops->pick(stage->device, &stage->shape, &view, tap->to);
}

static cdp_status forward_layers(cdp_stage *stage, const cdp_step_view *step, const cdp_tap *taps,
                                 int n_taps) {
    const cdp_ops *ops = stage->ops;
    const cdp_shape *shape = &stage->shape;
    const cdp_buffers *b = &stage->buffers;
    CDP_TRY(ops->rope(stage->device, shape, step, b));
    for (int i = 0; i < stage->n_layers; i++) {
        const cdp_layer *layer = &stage->layers[i];
        for (; n_taps > 0 && taps->state == stage->first_layer + i; taps++, n_taps--)
            CDP_TRY(tap_state(stage, step, taps));
        CDP_TRY(ops->qkv(stage->device, shape, layer, step, b));
        CDP_TRY(ops->attend(stage->device, shape, layer, step, b));
        CDP_TRY(ops->attn_out(stage->device, shape, layer, step, b));
        CDP_TRY(ops->gate_up(stage->device, shape, layer, step, b));
        CDP_TRY(ops->down(stage->device, shape, layer, step, b));
    }
    return CDP_OK;
}

/* Block commands and taps differ from step to step; what lies between is the same and may be recorded. */
cdp_status cdp_stage_forward(cdp_stage *stage, const cdp_step_view *step, const cdp_kv_command *commands,
                             int n_commands, const cdp_tap *taps, int n_taps) {
    const cdp_ops *ops = stage->ops;
    CDP_TRY(ops->kv_update(stage->device, &stage->shape, stage->layers, stage->n_layers, commands, n_commands,
                           &stage->buffers));
    if (ops->record_begin == NULL || n_taps > 0)
        return forward_layers(stage, step, taps, n_taps);
    bool is_replayed, is_queued;
    CDP_TRY(ops->record_begin(stage->device, stage, step, &is_replayed));
    if (is_replayed)
        return CDP_OK;
    CDP_TRY(ops->record_end(stage->device, forward_layers(stage, step, taps, n_taps), &is_queued));
    return is_queued ? CDP_OK : forward_layers(stage, step, taps, n_taps);
}

cdp_status cdp_stage_pick(cdp_stage *stage, const cdp_step_view *step, void *picked) {
    return stage->ops->pick(stage->device, &stage->shape, step, picked);
}

const cdp_shape *cdp_stage_shape(const cdp_stage *stage) {
    return &stage->shape;
}
const cdp_buffers *cdp_stage_buffers(const cdp_stage *stage) {
    return &stage->buffers;
}
