/* stage/vocab.h - rank 0's two ends: tokens -> hidden, hidden -> logits.
 *
 *     tokens --embed--> hidden ...the ring... hidden --final norm, head--> logits
 *
 * A tied head is the embedding's memory. The head takes CDP_HOME_ROWS rows at a time, so that its logits
 * buffer stays small whatever a step brings home.
 */
#pragma once

#include "planner/plan.h"
#include "stage/stage.h"

typedef struct cdp_vocab cdp_vocab;

/* Allocate and put the tensors on the loader's list. Uses the stage's shape and scratch, so the stage must
 * outlive it. The caller closes *out. */
cdp_status cdp_vocab_open(cdp_vocab **out, cdp_device *device, const cdp_model_card *card,
                          const cdp_plan *plan, const cdp_stage *stage, const cdp_tensor_index *index,
                          cdp_loader *loader);
void cdp_vocab_close(cdp_vocab *vocab); /* NULL is fine; the device must be idle */

/* Queue: step->token -> step->hidden. */
cdp_status cdp_vocab_embed(cdp_vocab *vocab, const cdp_step_view *step);

/* Queue: n_rows (<= CDP_HOME_ROWS) of the hidden rows that begin at `rows`, those at the places `at` (n_rows)
 * -> logits on the host, (n_rows, vocab) f32, there when an event recorded after this call is reached. head:
 * the CDP_HEAD_ bits of kernels/step.h, 0 for the model's own way. Places that do not follow each other come
 * only in runs that are planned with taps, and so does CDP_HEAD_HIDDEN. `at` must stay as it is until then;
 * *logits_out belongs to the vocab and lasts until the next call. */
cdp_status cdp_vocab_logits(cdp_vocab *vocab, void *rows, const int32_t *at, int n_rows, int head,
                            const float **logits_out);

/* Hidden row i of the last call whose head had CDP_HEAD_HIDDEN, once that event is reached: (hidden) f32 on
 * the host. It belongs to the vocab and lasts until this or cdp_vocab_logits is called again. */
const float *cdp_vocab_hidden(cdp_vocab *vocab, int i);
