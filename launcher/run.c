/* A run behind its start: the work, its reports, the end. */
#include "launcher/run.h"

#include <stdlib.h>

#include "comm/watchdog.h"
#include "kernels/fault.h"

static cdp_status drop_row(void *of, const cdp_home_logits *home, int *ask_out) {
    (void)of;
    (void)home;
    (void)ask_out;
    return CDP_OK;
}

/* A fault of the ring itself is this rank's own knowledge: the others cannot be asked any more. */
static bool is_ring_fault(const cdp_run *run, cdp_status st) {
    return cdp_pipeline_is_broken(run->pipeline) || st == CDP_INTERNAL || st == CDP_SYSTEM ||
           st == CDP_UNAVAILABLE;
}

static cdp_status work(cdp_run *run, const cdp_job_spec *job) {
    if (run->stage_number < 0)
        return CDP_OK;
    cdp_status st = run->rank == 0 ? job->work(run, job->of) : cdp_pipeline_serve(run->pipeline);
    run->is_alone = is_ring_fault(run, st) || (run->rank != 0 && st != CDP_OK);
    if (run->is_alone || run->rank != 0)
        return st;
    cdp_pipeline_set_sink(run->pipeline, drop_row, NULL);
    const cdp_status stopped = cdp_pipeline_stop(run->pipeline);
    run->is_alone = stopped != CDP_OK;
    return st != CDP_OK ? st : stopped;
}

/* What the stage really took. On a GPU that is everything that went since the context was there, libraries
 * too; where others share it, only what this rank allocated. */
static cdp_status measure_memory(cdp_run *run, cdp_rank_report *out) {
    out->peak_bytes = run->peak_bytes > 0 ? run->peak_bytes : cdp_process_peak_bytes();
    if (run->device == NULL || cdp_device_kind_of(run->device) != CDP_DEVICE_CUDA)
        return CDP_OK;
    uint64_t free_now = 0;
    CDP_TRY(cdp_device_free_bytes(run->device, &free_now));
    cdp_device_slab(run->device, &out->slab_used_bytes, &out->slab_bytes);
    out->peak_bytes = run->n_sharing > 1           ? cdp_device_peak(run->device)
                      : run->free_bytes > free_now ? run->free_bytes - free_now
                                                   : 0;
    return CDP_OK;
}

static cdp_status gather_reports(cdp_run *run) {
    cdp_rank_report *mine = calloc(1, sizeof *mine);
    run->reports = calloc((size_t)run->size, sizeof *run->reports);
    cdp_status st = cdp_fault_pass("report");
    if (mine == NULL || run->reports == NULL)
        st = cdp_fail(CDP_SYSTEM, "no memory for the reports of %d ranks", run->size);
    if (st == CDP_OK)
        st = measure_memory(run, mine);
    CDP_TRY_GOTO(cdp_world_agree(run->world, st), st, done); /* all gather, or none */
    mine->load_s = run->read_s;
    mine->loaded_bytes = run->n_read_bytes;
    if (run->pipeline != NULL) {
        mine->times = cdp_pipeline_times_of(run->pipeline);
        mine->n_marks = cdp_pipeline_marks_of(run->pipeline, mine->marks);
    }
    st = cdp_world_gather(run->world, run->reports, mine, sizeof *mine);
done:
    free(mine);
    return st;
}

cdp_status cdp_run_job(cdp_run *run, cdp_options *options, cdp_world *world, const cdp_job_spec *job) {
    *run = (cdp_run){.options = options, .world = world, .stage_number = -1};
    run->rank = cdp_world_rank(world);
    run->size = cdp_world_size(world);
    CDP_TRY(cdp_run_start(run, job));
    const cdp_status st = work(run, job);
    if (run->is_alone)
        return st;
    cdp_watchdog_note(run->world, CDP_STARTING, 0, 0, 0); /* waiting for peers is fine again */
    cdp_status reported = gather_reports(run);
    if (reported == CDP_OK && run->trace != NULL)
        reported = cdp_trace_write(run->trace, run->plan);
    return cdp_world_agree(run->world, st != CDP_OK ? st : reported);
}

void cdp_run_close(cdp_run *run) {
    if (run->world == NULL) /* its job failed before the run began */
        return;
    cdp_watchdog_watch(run->world, NULL, NULL);
    cdp_loader_close(run->loader); /* its readers still write into the stage when a load has failed */
    if (run->device != NULL)
        cdp_device_drain(run->device); /* what a run that failed has queued still reads and writes there */
    cdp_engine_close(run->engine);
    cdp_trace_close(run->trace);
    cdp_pipeline_close(run->pipeline);
    cdp_link_close(run->link);
    cdp_vocab_close(run->vocab);
    cdp_stage_close(run->stage);
    cdp_device_close(run->device);
    cdp_tokenizer_close(run->tokenizer);
    cdp_tensor_index_close(run->index);
    free(run->reports);
    free(run->plan);
    free(run->card);
    *run = (cdp_run){0};
}
