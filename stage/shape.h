/* stage/shape.h - the model card in the words of the kernels. */
#pragma once

#include "kernels/ops.h"
#include "planner/memory.h"

/* Fill *out from the settled card and the run. out->rope_inv points into the card, which must outlive it. */
void cdp_shape_fill(cdp_shape *out, const cdp_model_card *card, const cdp_run_shape *run);
