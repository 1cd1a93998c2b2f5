/* stage/stage.h - a contiguous range of layers on one device: open, forward, close.
 *
 *     hidden (n_rows, hidden) --> [ layer first ] --> ... --> [ layer end-1 ] --> hidden, in place
 *                                      KV blocks, one set a layer, numbers from rank 0
 *
 * A stage knows no ranks and no messages. Weights are only its own layers'; memory is allocated once, when it
 * opens, with the sizes of planner/memory.h, and never after.
 */
#pragma once

#include "kernels/ops.h"
#include "planner/plan.h"
#include "stage/loader.h"

typedef struct cdp_stage cdp_stage;

/* Allocate the stage of `rank` of the plan on `device` and put its tensors on the loader's list. The card
 * must outlive it. CDP_SYSTEM when the device has no room. The caller closes *out. */
cdp_status cdp_stage_open(cdp_stage **out, cdp_device *device, const cdp_model_card *card,
                          const cdp_plan *plan, int rank, const cdp_tensor_index *index, cdp_loader *loader);
void cdp_stage_close(cdp_stage *stage); /* NULL is fine; the device must be idle */

/* Rows whose state is copied before layer `state` changes them (kernels/step.h: taps). */
typedef struct cdp_tap {
    int state;           /* a layer of this stage */
    int n_rows;          /* at least 1 */
    const int32_t *rows; /* device, (n_rows) rows of the step */
    void *to;            /* device, (n_rows, hidden) */
} cdp_tap;

/* Queue: apply the step's KV commands, then every layer, step->hidden changed in place; on the way the taps
 * (n_taps, ascending by state; NULL for none). `commands` is device memory. Returns once queued. */
cdp_status cdp_stage_forward(cdp_stage *stage, const cdp_step_view *step, const cdp_kv_command *commands,
                             int n_commands, const cdp_tap *taps, int n_taps);

/* Queue: the rows of step->hidden that go home, in order, to `picked` (n_home, hidden). */
cdp_status cdp_stage_pick(cdp_stage *stage, const cdp_step_view *step, void *picked);

/* What all operations of this stage share: for the vocabulary ends, which use the same scratch. */
const cdp_shape *cdp_stage_shape(const cdp_stage *stage);
const cdp_buffers *cdp_stage_buffers(const cdp_stage *stage);

/* Allocate a weight (rows, cols) on the device: shared with vocab.c. */
cdp_status cdp_weight_alloc(cdp_device *device, cdp_tensor *out, cdp_dtype dtype, int rows, int cols);
