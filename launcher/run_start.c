/* The start-up phases of run.h, each with one verdict of all ranks. */
#include "launcher/run.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "comm/watchdog.h"
#include "kernels/fault.h"
#include "kernels/log.h"
#include "launcher/loading.h"
#include "launcher/place.h"
#include "launcher/report.h"
#include "launcher/request.h"
#include "planner/file.h"
#include "planner/roles.h"

/* The end of a phase: everyone's verdict. */
#define AGREE(run, call)                                                                                     \
    do {                                                                                                     \
        cdp_status agreed_ = cdp_world_agree((run)->world, (call));                                          \
        if (agreed_ != CDP_OK)                                                                               \
            return agreed_;                                                                                  \
    } while (0)

enum { MAX_CONFIG_BYTES = 64 << 20 };

static cdp_status hash_config(cdp_run *run) {
    char path[4200], *text = NULL;
    size_t n = 0;
    if (!cdp_file_join(path, sizeof path, run->options->model, "config.json"))
        return CDP_OK; /* the card would not have been read */
    CDP_TRY(cdp_file_read_text(&text, &n, path, MAX_CONFIG_BYTES));
    run->config_hash = cdp_hash_add(CDP_HASH_START, text, n);
    free(text);
    return CDP_OK;
}

static cdp_status read_files(cdp_run *run, const cdp_job_spec *job) {
    const char *dir = run->options->model;
    CDP_TRY(cdp_fault_pass("config"));
    run->card = calloc(1, sizeof *run->card);
    run->plan = calloc(1, sizeof *run->plan);
    if (run->card == NULL || run->plan == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the model card");
    CDP_TRY(cdp_model_card_read(run->card, dir));
    CDP_TRY(hash_config(run));
    CDP_TRY(cdp_tensor_index_open(&run->index, dir));
    CDP_TRY(cdp_model_card_settle(run->card, run->index));
    char path[4200];
    if (run->rank != 0 || !job->opens_tokenizer)
        return CDP_OK;
    if (!cdp_file_join(path, sizeof path, dir, "tokenizer.json") || !cdp_file_exists(path))
        return run->options->n_stops == 0
                   ? CDP_OK
                   : cdp_fail(CDP_USAGE, "--stop looks for a text, but %s has no tokenizer.json", dir);
    CDP_TRY(cdp_tokenizer_open(&run->tokenizer, dir));
    malloc_trim(0); /* the JSON tree is gone: give its pages back before weights are loaded beside them */
    return CDP_OK;
}

/* All ranks must see the same files: a folder on a network disk may lag behind on one of them. */
static cdp_status compare_files(cdp_run *run) {
    const uint64_t mine = run->index->fingerprint;
    struct {
        uint64_t weights;
        cdp_hash128 config;
    } first = {mine, run->config_hash};
    char shown[2][CDP_HASH_TEXT];
    CDP_TRY(cdp_world_broadcast(run->world, &first, sizeof first));
    if (cdp_hash_compare(run->config_hash, first.config) != 0)
        return cdp_fail(CDP_BAD_MODEL,
                        "%s/config.json: this rank sees another file than rank 0 (hash %s, not %s)",
                        run->options->model, cdp_hash_text(shown[0], run->config_hash),
                        cdp_hash_text(shown[1], first.config));
    if (mine != first.weights)
        return cdp_fail(
            CDP_BAD_MODEL,
            "%s: this rank sees other weight files than rank 0 (header hash %016llx, not %016llx)",
            run->options->model, (unsigned long long)mine, (unsigned long long)first.weights);
    return CDP_OK;
}

/* The kind of device that all ranks have: where nobody asks for one, a rank without a GPU decides for the
 * CPU. */
static cdp_status agree_kind(cdp_run *run) {
    int64_t kind = run->choice.kind, most = -kind;
    CDP_TRY(cdp_world_min(run->world, &kind));
    CDP_TRY(cdp_world_min(run->world, &most));
    if (kind != -most)
        cdp_note("not every rank sees a GPU: all take the CPU (--device cuda insists)");
    run->choice.kind = (cdp_device_kind)kind;
    return CDP_OK;
}

/* This rank's GPU, with a context and nothing else on it yet. */
static cdp_status open_gpu(cdp_run *run) {
    CDP_TRY(cdp_place_choose(&run->choice, run->options, run->world, run->choice.kind));
    if (run->choice.kind == CDP_DEVICE_CPU || run->choice.is_idle)
        return CDP_OK;
    return cdp_device_open_cuda(&run->device, &(cdp_cuda_options){.index = run->choice.gpu.index});
}

static cdp_status find_cores(cdp_run *run) {
    CDP_TRY(cdp_place_cores(&run->cores, run->options, run->world));
    return cdp_place_tier(&run->tier, run->options);
}

/* The tier that all ranks have: another one is another order of sums, and other bits. */
static cdp_status agree_tier(cdp_run *run) {
    int64_t tier = run->tier, best = -tier;
    CDP_TRY(cdp_world_min(run->world, &tier));
    CDP_TRY(cdp_world_min(run->world, &best));
    if (tier != -best && run->choice.kind == CDP_DEVICE_CPU)
        cdp_note("not every rank has %s: all compute with %s, the best that all have",
                 cdp_cpu_tier_name((cdp_cpu_tier)-best), cdp_cpu_tier_name((cdp_cpu_tier)tier));
    run->tier = (cdp_cpu_tier)tier;
    return CDP_OK;
}

/* Every rank has its context by now and nobody has allocated: what is free is free for stages. */
static cdp_status find_place(cdp_run *run, cdp_place *place) {
    CDP_TRY(agree_tier(run));
    run->free_bytes = run->choice.is_idle ? 0 : cdp_cpu_free_bytes();
    if (run->device != NULL)
        CDP_TRY(cdp_device_free_bytes(run->device, &run->free_bytes));
    const bool is_cpu = run->choice.kind == CDP_DEVICE_CPU;
    cdp_place_fill(place, &run->choice, run->cores.n, run->tier, run->free_bytes,
                   is_cpu ? cdp_world_local_size(run->world) : run->n_sharing);
    return CDP_OK;
}

cdp_status cdp_run_find_place(cdp_run *run, cdp_place *out) {
    AGREE(run, cdp_place_kind(&run->choice.kind, run->options, run->world));
    AGREE(run, agree_kind(run));
    AGREE(run, open_gpu(run));
    AGREE(run, cdp_place_share(&run->n_sharing, run->options, run->world, &run->choice));
    AGREE(run, find_cores(run));
    AGREE(run, find_place(run, out));
    return CDP_OK;
}

static cdp_status make_plan(cdp_run *run, const cdp_place *places, int n_tokens, const cdp_job_spec *job) {
    const cdp_options *o = run->options;
    cdp_plan_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the plan");
    request->n_places = run->size;
    memcpy(request->places, places, (size_t)run->size * sizeof *places);
    cdp_status st = CDP_OK;
    CDP_TRY_GOTO(cdp_request_fill(request, o, run->card, run->choice.kind, run->n_taps), st, done);
    request->run.ctx = o->ctx > 0 ? o->ctx : n_tokens;
    request->run.max_batch = job->max_batch > 0 ? job->max_batch : 1;
    request->ctx_is_limit = job->ctx_is_limit && o->ctx == 0;
    CDP_TRY_GOTO(cdp_plan_make(run->plan, run->card, request), st, done);
    CDP_TRY_GOTO(cdp_plan_demand_fit(run->plan, run->card, request), st, done);
    if (run->plan->run.ctx > run->card->max_positions)
        cdp_note("ctx %d is beyond the model's max_position_embeddings %d: quality may suffer",
                 run->plan->run.ctx, run->card->max_positions);
done:
    free(request);
    return st;
}

/* Rank 0 reads its text and plans with the places of all. */
static cdp_status decide(cdp_run *run, const cdp_job_spec *job, const cdp_place *place) {
    int n_tokens = 0;
    if (run->size > CDP_MAX_RANKS)
        return cdp_fail(CDP_USAGE, "%d ranks, %d at most", run->size, CDP_MAX_RANKS);
    cdp_place *places = calloc((size_t)run->size, sizeof *places);
    cdp_status st = places != NULL ? cdp_fault_pass("plan")
                                   : cdp_fail(CDP_SYSTEM, "no memory for the places of %d ranks", run->size);
    st = cdp_world_agree(run->world, st); /* all gather, or none */
    if (st == CDP_OK)
        st = cdp_world_gather(run->world, places, place, sizeof *place);
    if (st == CDP_OK && run->rank == 0)
        st = job->prepare(run, job->of, &n_tokens);
    if (st == CDP_OK && run->rank == 0)
        st = make_plan(run, places, n_tokens, job);
    free(places);
    return st;
}

/* The plan goes to everyone; this rank finds its stage in it. */
static cdp_status share_plan(cdp_run *run) {
    CDP_TRY(cdp_world_broadcast(run->world, run->plan, sizeof *run->plan));
    for (int i = 0, n = 0; i < run->size; i++) {
        const bool is_idle = run->plan->stages[i].is_idle;
        if (i == run->rank && !is_idle)
            run->stage_number = n;
        n += is_idle ? 0 : 1;
    }
    return CDP_OK;
}

static cdp_status on_block(void *of) {
    CDP_TRY(cdp_fault_pass("load"));
    cdp_watchdog_progress(of);
    return CDP_OK;
}

static uint64_t device_progress(void *of) {
    return cdp_device_progress(of);
}

cdp_status cdp_run_open_cpu(cdp_run *run) {
    if (run->choice.kind == CDP_DEVICE_CUDA)
        return CDP_OK; /* it is open */
    return cdp_device_open_cpu(&run->device,
                               &(cdp_cpu_options){.n_threads = run->cores.n,
                                                  .tier = run->tier,
                                                  .cpus = run->cores.is_own ? &run->cores.cpus : NULL});
}

/* The last look before anything is allocated; an idle rank gives back what it has. */
static cdp_status open_device(cdp_run *run) {
    const cdp_stage_plan *mine = &run->plan->stages[run->rank];
    if (run->stage_number < 0) {
        cdp_device_close(run->device);
        run->device = NULL;
        return CDP_OK;
    }
    if (mine->bytes.total > mine->place.free_bytes) /* a budget may be given that the machine does not have */
        return cdp_fail(CDP_UNAVAILABLE,
                        "stage needs %.2f GiB, %s has %.2f GiB free: try a smaller --ctx or one more rank",
                        (double)mine->bytes.total / 0x1p30, mine->place.label,
                        (double)mine->place.free_bytes / 0x1p30);
    return cdp_run_open_cpu(run);
}

static cdp_status open_link(cdp_run *run) {
    cdp_link_options link;
    int active[CDP_MAX_RANKS];
    cdp_pipeline_link(&link, active, run->plan, run->card);
    link.device = run->device;
    link.road = run->options->road;
    link.timeout_s = run->options->step_timeout + 1; /* after a rank that hangs has named itself */
    return cdp_link_open(&run->link, run->world, &link);
}

/* Half of the host's memory that is left over beside the weights. */
static uint64_t cache_room(const cdp_run *run) {
    const uint64_t share = cdp_cpu_free_bytes() / (uint64_t)cdp_world_local_size(run->world);
    const uint64_t taken = run->choice.kind == CDP_DEVICE_CPU ? run->plan->stages[run->rank].bytes.total : 0;
    return share > taken ? (share - taken) / 2 : 0;
}

static cdp_status take_memory(cdp_run *run) {
    if (run->stage_number < 0)
        return CDP_OK;
    const cdp_stage_plan *mine = &run->plan->stages[run->rank];
    CDP_TRY(cdp_fault_pass("alloc"));
    const cdp_loader_options loader = {.n_readers = CDP_LOAD_READERS,
                                       .cache_bytes = cache_room(run),
                                       .checks_values = run->options->check_weights,
                                       .on_block = on_block,
                                       .of = run->world,
                                       .cpus = run->cores.is_own ? &run->cores.cpus : NULL};
    CDP_TRY(cdp_device_reserve(run->device, cdp_slab_bytes(&mine->bytes)));
    CDP_TRY(cdp_loader_open(&run->loader, run->device, run->index, &loader));
    CDP_TRY(
        cdp_stage_open(&run->stage, run->device, run->card, run->plan, run->rank, run->index, run->loader));
    if (run->rank == 0)
        CDP_TRY(cdp_vocab_open(&run->vocab, run->device, run->card, run->plan, run->stage, run->index,
                               run->loader));
    return CDP_OK;
}

static cdp_status load_weights(cdp_run *run) {
    const cdp_stage_plan *mine = &run->plan->stages[run->rank];
    const cdp_status st = cdp_loading_run(run->world, run->loader, mine->first_layer, mine->end_layer);
    uint64_t n_total;
    if (run->loader != NULL) {
        run->read_s = cdp_loader_seconds(run->loader);
        cdp_loader_progress(run->loader, &run->n_read_bytes, &n_total);
    }
    return st;
}

static void on_span(void *of, const cdp_step_span *span) {
    const cdp_run *run = of;
    if (run->trace != NULL)
        cdp_trace_add(run->trace, span);
    if (run->engine != NULL)
        cdp_engine_took(run->engine, span);
}

static cdp_status open_ring(cdp_run *run) {
    if (run->stage_number < 0)
        return CDP_OK;
    const cdp_pipeline_options options = {.world = run->world,
                                          .device = run->device,
                                          .card = run->card,
                                          .plan = run->plan,
                                          .stage_number = run->stage_number,
                                          .rank = run->rank,
                                          .stage = run->stage,
                                          .vocab = run->vocab,
                                          .link = run->link};
    CDP_TRY(cdp_pipeline_open(&run->pipeline, &options));
    cdp_pipeline_set_span_sink(run->pipeline, on_span, run);
    cdp_watchdog_watch(run->world, device_progress, run->device);
    if (run->rank == 0)
        return cdp_engine_open(&run->engine, run->pipeline, run->card, run->plan);
    return CDP_OK;
}

cdp_status cdp_run_start(cdp_run *run, const cdp_job_spec *job) {
    cdp_place place;
    AGREE(run, read_files(run, job));
    AGREE(run, compare_files(run));
    CDP_TRY(cdp_run_find_place(run, &place));
    AGREE(run, decide(run, job, &place));
    AGREE(run, share_plan(run));
    AGREE(run, open_device(run));
    AGREE(run, cdp_fault_pass("comm-init"));
    CDP_TRY(open_link(run)); /* agrees by itself, road by road */
    const int64_t began = cdp_now_ns();
    AGREE(run, take_memory(run));
    AGREE(run, load_weights(run));
    cdp_loader_close(run->loader);
    run->loader = NULL;
    run->load_s = (double)(cdp_now_ns() - began) * 1e-9;
    AGREE(run, open_ring(run));
    if (run->options->trace != NULL)
        AGREE(run, cdp_trace_open(&run->trace, run->world, run->options->trace));
    if (run->rank == 0)
        cdp_report_start(run);
    return CDP_OK;
}
