/* launcher/request.h - what a run is planned for, as its options say. */
#pragma once

#include "kernels/device.h"
#include "launcher/options/options.h"
#include "planner/plan.h"

/* Fill in what does not depend on the command: GPUs and budgets, costs, dtypes, chunk, devices. The caller
 * has set places and n_places before, and sets run.ctx, run.max_batch and ctx_is_limit. */
cdp_status cdp_request_fill(cdp_plan_request *request, const cdp_options *options, const cdp_model_card *card,
                            cdp_device_kind kind, int n_taps);
