/* plan: which layers would go where, from config.json alone if need be, without loading and without a GPU. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/jobs/jobs.h"
#include "launcher/place.h"
#include "launcher/request.h"
#include "launcher/sample/decoding.h"
#include "planner/file.h"
#include "planner/json.h"
#include "planner/roles.h"

/* Weights are looked at when they are there; a folder with config.json alone is planned from that. */
static cdp_status read_model(cdp_model_card *card, const char *dir) {
    cdp_tensor_index *index = NULL;
    CDP_TRY(cdp_model_card_read(card, dir));
    cdp_status st = cdp_tensor_index_open(&index, dir);
    if (st == CDP_NO_INPUT) {
        cdp_error_clear();
        cdp_note("%s has no weights: planned from config.json alone", dir);
        return CDP_OK;
    }
    if (st == CDP_OK)
        st = cdp_model_card_settle(card, index);
    cdp_tensor_index_close(index);
    return st;
}

/* The GPUs of --gpus, or the places this machine has. */
static cdp_status find_places(cdp_plan_request *request, cdp_device_kind *kind_out, const cdp_options *o) {
    *kind_out = CDP_DEVICE_CUDA;
    if (o->gpus == NULL)
        return cdp_place_list(request->places, CDP_MAX_RANKS, &request->n_places, kind_out, o);
    cdp_size *sizes = calloc(CDP_MAX_RANKS, sizeof *sizes);
    if (sizes == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for --gpus");
    cdp_status st = cdp_size_parse_list(sizes, CDP_MAX_RANKS, &request->n_places, o->gpus);
    for (int i = 0; st == CDP_OK && i < request->n_places; i++) {
        cdp_place *place = &request->places[i];
        if (sizes[i].is_share)
            st = cdp_fail(CDP_USAGE,
                          "--gpus takes the free memory of each GPU, as in 24GiB; a share needs a GPU");
        snprintf(place->name, sizeof place->name, "cuda:%d", i);
        snprintf(place->label, sizeof place->label, "GPU %d", i);
        place->free_bytes = sizes[i].bytes;
    }
    free(sizes);
    return st;
}

static cdp_status fill_request(cdp_plan_request *request, const cdp_options *o, const cdp_model_card *card) {
    cdp_device_kind kind;
    CDP_TRY(find_places(request, &kind, o));
    cdp_decoding decoding;
    CDP_TRY(cdp_decoding_settle(&decoding, o->decoding, o, card));
    CDP_TRY(cdp_request_fill(request, o, card, kind, decoding.n_taps));
    /* Without --ctx the plan is batch's: the model's own length, or what fits of it. */
    request->ctx_is_limit = o->ctx == 0;
    request->run.ctx = o->ctx == CDP_OPTION_MAX ? 0 : o->ctx > 0 ? o->ctx : card->max_positions;
    request->run.max_batch = o->max_batch == CDP_OPTION_MAX ? 0 : o->max_batch > 0 ? o->max_batch : 1;
    return CDP_OK;
}

static cdp_status print_json(const cdp_plan *plan, const cdp_model_card *card) {
    cJSON *json = cdp_plan_json(plan, card);
    char *text = json != NULL ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to print the plan");
    const int n = printf("%s\n", text);
    cJSON_free(text);
    return n < 0 || fflush(stdout) != 0 ? cdp_fail(CDP_IO, "writing the plan: %s", strerror(errno)) : CDP_OK;
}

static cdp_status make_and_show(const cdp_options *o, cdp_model_card *card, cdp_plan_request *request,
                                cdp_plan *plan) {
    CDP_TRY(read_model(card, o->model));
    CDP_TRY(fill_request(request, o, card));
    CDP_TRY(cdp_plan_make(plan, card, request));
    if (o->json)
        CDP_TRY(print_json(plan, card));
    else
        cdp_plan_print(plan, card);
    CDP_TRY(cdp_plan_demand_fit(plan, card, request));
    return o->save != NULL ? cdp_plan_save(plan, card, o->save) : CDP_OK;
}

cdp_status cdp_job_plan(const cdp_options *options) {
    cdp_model_card *card = calloc(1, sizeof *card);
    cdp_plan_request *request = calloc(1, sizeof *request);
    cdp_plan *plan = calloc(1, sizeof *plan);
    cdp_status st = card == NULL || request == NULL || plan == NULL
                        ? cdp_fail(CDP_SYSTEM, "no memory for the plan")
                        : make_and_show(options, card, request, plan);
    free(plan);
    free(request);
    free(card);
    return st;
}
