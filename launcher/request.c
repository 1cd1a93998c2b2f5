#include "launcher/request.h"

#include <string.h>

#include "launcher/place.h"
#include "planner/sizes.h"

static cdp_dtype dtype_of(const char *word, cdp_dtype otherwise) {
    for (int d = CDP_F32; d <= CDP_BF16; d++)
        if (strcmp(word, cdp_dtype_name((cdp_dtype)d)) == 0)
            return (cdp_dtype)d;
    return otherwise;
}

cdp_status cdp_request_fill(cdp_plan_request *request, const cdp_options *o, const cdp_model_card *card,
                            cdp_device_kind kind, int n_taps) {
    request->max_ranks = o->num_gpus > 0 ? o->num_gpus : 0;
    request->memory_fraction = o->gpu_memory_fraction;
    request->device_map = o->device_map;
    request->run.dtype = dtype_of(o->dtype, card->file_dtype);
    request->run.kv_dtype = dtype_of(o->kv_dtype, request->run.dtype);
    request->run.chunk = cdp_place_chunk(o, kind);
    request->run.n_ranks = request->n_places;
    request->run.n_taps = n_taps;
    request->run.on_gpu = kind == CDP_DEVICE_CUDA;
    if (o->costs != NULL)
        CDP_TRY(cdp_costs_read(&request->costs, o->costs, card->n_layers, request->n_places));
    if (o->max_gpu_memory != NULL)
        CDP_TRY(cdp_size_parse_list(request->budgets, CDP_MAX_RANKS, &request->n_budgets, o->max_gpu_memory));
    return CDP_OK;
}
