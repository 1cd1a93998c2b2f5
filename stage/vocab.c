#include "stage/vocab.h"

#include <stdlib.h>

#include "planner/roles.h"

struct cdp_vocab {
    cdp_device *device;
    const cdp_stage *stage;
    cdp_vocab_weights weights;
    bool is_tied;
    float *logits; /* device, (CDP_HOME_ROWS, vocab) */
    float *normed; /* device, (CDP_HOME_ROWS, hidden): the stage's own may be in use by the next step */
    float *host;   /* (CDP_HOME_ROWS, vocab), memory the device copies to by itself */
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
    *out = vocab;
    return CDP_OK;
done:
    cdp_vocab_close(vocab);
    return st;
}

void cdp_vocab_close(cdp_vocab *vocab) {
    if (vocab == NULL)
        return;
    cdp_device_host_free(vocab->device, vocab->host);
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

cdp_status cdp_vocab_logits(cdp_vocab *vocab, const void *rows, int n_rows, const float **logits_out) {
    const cdp_shape *shape = cdp_stage_shape(vocab->stage);
    *logits_out = vocab->host;
    CDP_TRY(cdp_device_ops(vocab->device)
                ->logits(vocab->device, shape, &vocab->weights, rows, n_rows, vocab->normed, vocab->logits));
    return cdp_device_copy_out(vocab->device, vocab->host, vocab->logits,
                               (uint64_t)n_rows * (uint64_t)shape->vocab * sizeof(float));
}
