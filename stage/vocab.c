#include "stage/vocab.h"

#include <stdlib.h>

#include "planner/roles.h"

struct cdp_vocab {
    cdp_device *device;
    const cdp_stage *stage;
    cdp_vocab_weights weights, bare; /* bare: without the final norm */
    cdp_shape unscaled;              /* the stage's shape without the logit scale */
    bool is_tied;
    float *logits;  /* device, (CDP_HOME_ROWS, vocab) */
    float *normed;  /* device, (CDP_HOME_ROWS, hidden): the stage's own may be in use by the next step */
    float *host;    /* (CDP_HOME_ROWS, vocab), memory the device copies to by itself */
    void *gathered; /* device, (CDP_HOME_ROWS, hidden): tapped rows, from where they lie; NULL without taps */
    int32_t *at;    /* device, (CDP_HOME_ROWS) */
    void *hidden;   /* (CDP_HOME_ROWS, hidden), as `host`: tapped rows as they are; NULL without taps */
    float *row;     /* (hidden) one of them as f32 */
};

static cdp_status open_weight(cdp_vocab *vocab, cdp_tensor *out, cdp_role role, cdp_dtype dtype,
                              const cdp_model_card *card, const cdp_tensor_index *index, cdp_loader *loader) {
    uint64_t shape[2] = {1, 1};
    const int n_dims = cdp_role_shape(card, role, shape);
    const cdp_tensor_entry *entry = cdp_role_find(card, index, role, 0);
    if (entry == NULL)
        return cdp_fail(CDP_INTERNAL, "role %d of the vocabulary is not in the files", (int)role);
    CDP_TRY(cdp_weight_alloc(vocab->device, out, dtype, (int)shape[0], n_dims == 2 ? (int)shape[1] : 1));
    return cdp_loader_add(loader, entry, out, 0);
}

static cdp_status open_weights(cdp_vocab *vocab, const cdp_model_card *card, cdp_dtype dtype,
                               const cdp_tensor_index *index, cdp_loader *loader) {
    cdp_vocab_weights *w = &vocab->weights;
    CDP_TRY(open_weight(vocab, &w->embed, CDP_ROLE_EMBED, dtype, card, index, loader));
    CDP_TRY(open_weight(vocab, &w->final_norm, CDP_ROLE_FINAL_NORM, CDP_F32, card, index, loader));
    vocab->is_tied = card->is_tied;
    w->head = w->embed;
    if (!card->is_tied)
        CDP_TRY(open_weight(vocab, &w->head, CDP_ROLE_HEAD, dtype, card, index, loader));
    return CDP_OK;
}

/* Room to bring tapped rows together, where the run taps any. */
static cdp_status open_gather(cdp_vocab *vocab, const cdp_run_shape *run) {
    if (run->n_taps == 0)
        return CDP_OK;
    const cdp_shape *shape = cdp_stage_shape(vocab->stage);
    const uint64_t row_bytes = (uint64_t)shape->hidden * cdp_dtype_bytes(shape->hidden_dtype);
    CDP_TRY(cdp_device_alloc(vocab->device, &vocab->gathered, CDP_HOME_ROWS * row_bytes));
    CDP_TRY(cdp_device_alloc(vocab->device, (void **)&vocab->at, CDP_HOME_ROWS * sizeof *vocab->at));
    vocab->row = calloc((size_t)shape->hidden, sizeof *vocab->row);
    if (vocab->row == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a hidden row");
    return cdp_device_host_alloc(vocab->device, &vocab->hidden, CDP_HOME_ROWS * row_bytes);
}

cdp_status cdp_vocab_open(cdp_vocab **out, cdp_device *device, const cdp_model_card *card,
                          const cdp_plan *plan, const cdp_stage *stage, const cdp_tensor_index *index,
                          cdp_loader *loader) {
    *out = NULL;
    cdp_vocab *vocab = calloc(1, sizeof *vocab);
    if (vocab == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the vocabulary");
    vocab->device = device;
    vocab->stage = stage;
    const uint64_t logits_bytes = (uint64_t)CDP_HOME_ROWS * (uint64_t)card->vocab * sizeof(float);
    const uint64_t normed_bytes = (uint64_t)CDP_HOME_ROWS * (uint64_t)card->hidden * sizeof(float);
    cdp_status st = CDP_OK;
    CDP_TRY_GOTO(open_weights(vocab, card, plan->run.dtype, index, loader), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, (void **)&vocab->logits, logits_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_alloc(device, (void **)&vocab->normed, normed_bytes), st, done);
    CDP_TRY_GOTO(cdp_device_host_alloc(device, (void **)&vocab->host, logits_bytes), st, done);
    CDP_TRY_GOTO(open_gather(vocab, &plan->run), st, done);
    vocab->bare = vocab->weights;
    vocab->bare.final_norm.data = NULL;
    vocab->unscaled = *cdp_stage_shape(stage);
    vocab->unscaled.logit_scale = 1.0f;
    *out = vocab;
    return CDP_OK;
done:
    cdp_vocab_close(vocab);
    return st;
}

void cdp_vocab_close(cdp_vocab *vocab) {
    if (vocab == NULL)
        return;
    free(vocab->row);
    cdp_device_host_free(vocab->device, vocab->hidden);
    cdp_device_host_free(vocab->device, vocab->host);
    cdp_device_free(vocab->device, vocab->at);
    cdp_device_free(vocab->device, vocab->gathered);
    cdp_device_free(vocab->device, vocab->normed);
    cdp_device_free(vocab->device, vocab->logits);
    if (!vocab->is_tied)
        cdp_device_free(vocab->device, vocab->weights.head.data);
    cdp_device_free(vocab->device, vocab->weights.final_norm.data);
    cdp_device_free(vocab->device, vocab->weights.embed.data);
    free(vocab);
}

cdp_status cdp_vocab_embed(cdp_vocab *vocab, const cdp_step_view *step) {
    return cdp_device_ops(vocab->device)
        ->embed(vocab->device, cdp_stage_shape(vocab->stage), &vocab->weights, step);
}

static bool follow_each_other(const int32_t *at, int n) {
    for (int i = 1; i < n; i++)
        if (at[i] != at[0] + i)
            return false;
    return true;
}

/* *rows_out: the rows one behind the other, where they lie if they do so already. */
static cdp_status gather(cdp_vocab *vocab, void *rows, const int32_t *at, int n_rows, const void **rows_out) {
    const cdp_shape *shape = cdp_stage_shape(vocab->stage);
    *rows_out = (char *)rows + (size_t)at[0] * (size_t)shape->hidden * cdp_dtype_bytes(shape->hidden_dtype);
    if (follow_each_other(at, n_rows))
        return CDP_OK;
    if (vocab->gathered == NULL)
        return cdp_fail(CDP_INTERNAL, "rows that lie apart in a run without taps");
    const cdp_step_view view = {.n_rows = n_rows, .n_home = n_rows, .home = vocab->at, .hidden = rows};
    *rows_out = vocab->gathered;
    CDP_TRY(cdp_device_copy_in(vocab->device, vocab->at, at, (uint64_t)n_rows * sizeof *at));
    return cdp_device_ops(vocab->device)->pick(vocab->device, shape, &view, vocab->gathered);
}

cdp_status cdp_vocab_logits(cdp_vocab *vocab, void *rows, const int32_t *at, int n_rows, int head,
                            const float **logits_out) {
    const cdp_shape *shape = head & CDP_HEAD_NO_SCALE ? &vocab->unscaled : cdp_stage_shape(vocab->stage);
    const cdp_vocab_weights *weights = head & CDP_HEAD_NO_NORM ? &vocab->bare : &vocab->weights;
    const void *together;
    *logits_out = vocab->host;
    CDP_TRY(gather(vocab, rows, at, n_rows, &together));
    if (head & CDP_HEAD_HIDDEN)
        CDP_TRY(cdp_device_copy_out(vocab->device, vocab->hidden, together,
                                    (uint64_t)n_rows * (uint64_t)shape->hidden *
                                        cdp_dtype_bytes(shape->hidden_dtype)));
    CDP_TRY(cdp_device_ops(vocab->device)
                ->logits(vocab->device, shape, weights, together, n_rows, cdp_stage_buffers(vocab->stage),
                         vocab->normed, vocab->logits));
    return cdp_device_copy_out(vocab->device, vocab->host, vocab->logits,
                               (uint64_t)n_rows * (uint64_t)shape->vocab * sizeof(float));
}

const float *cdp_vocab_hidden(cdp_vocab *vocab, int i) {
    const cdp_shape *shape = cdp_stage_shape(vocab->stage);
    const size_t width = (size_t)shape->hidden;
    for (size_t k = 0; k < width; k++)
        vocab->row[k] = cdp_load(vocab->hidden, shape->hidden_dtype, (size_t)i * width + k);
    return vocab->row;
}
