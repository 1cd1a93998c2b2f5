/* batch: many prompts from a file, each answer on disk once it is made, whatever happens to the run. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/batch/batch.h"
#include "launcher/batch/evidence.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"
#include "planner/json.h"

enum { DEFAULT_MAX_BATCH = 16 };

/* Room for what lines may look at: where one of them chooses for itself, for any choice. */
static cdp_status settle_taps(const cdp_batch *batch, cdp_run *run, const cdp_sampling *sampling) {
    cdp_decoding decoding;
    CDP_TRY(cdp_decoding_settle(&decoding, batch->options->decoding, batch->options, run->card));
    cdp_decoding_say(&decoding, sampling->repetition_penalty);
    run->n_taps = batch->input.names_decoding ? run->card->n_layers : decoding.n_taps;
    return CDP_OK;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    cdp_batch *batch = of;
    CDP_TRY(cdp_batch_open(batch, run));
    *n_tokens_out = run->card->max_positions;
    if (batch->is_complete)
        return CDP_STOPPED; /* all ranks turn back here, and learn why in cdp_job_batch */
    cdp_sampling sampling;
    cdp_sampling_settle(&sampling, batch->options, &batch->given, run->card->vocab);
    cdp_sampling_note(&sampling);
    CDP_TRY(settle_taps(batch, run, &sampling));
    cdp_status_file_enter(&batch->status, "loading");
    return CDP_OK;
}

/* The room of a sequence decides where an answer ends: the plan's must be that of the records that are there.
 */
static cdp_status settle_manifest(cdp_batch *batch) {
    const cdp_run *run = batch->run;
    const char *output = batch->options->output;
    if (batch->options->ctx == 0 && run->plan->run.ctx < run->card->max_positions)
        cdp_note("ctx %d is what fits of the model's %d; --ctx N asks for another", run->plan->run.ctx,
                 run->card->max_positions);
    if (batch->output.state == CDP_OUTPUT_STREAM)
        return CDP_OK;
    cJSON_AddNumberToObject(batch->facts, "ctx", run->plan->run.ctx);
    if (!batch->has_manifest)
        return cdp_manifest_write(&cdp_disk_real, output, batch->facts);
    cJSON *written = NULL;
    CDP_TRY(cdp_manifest_read(&written, output));
    const cdp_status st = written != NULL ? cdp_manifest_compare(output, written, batch->facts)
                                          : cdp_fail(CDP_BAD_DATA, "%s: its manifest is gone", output);
    cJSON_Delete(written);
    return st;
}

static void show(cdp_batch *batch) {
    const cdp_ledger *l = &batch->input.ledger;
    batch->status.n_done = batch->progress.n_done = batch->n_before + batch->output.n_synced;
    batch->status.n_failed = batch->progress.n_failed = l->n_failed;
    batch->progress.n_tokens = batch->n_tokens;
    cdp_progress_turn(&batch->progress);
    cdp_status_file_turn(&batch->status);
}

static cdp_status turn_until_done(cdp_batch *batch) {
    while (!cdp_batch_is_done(batch)) {
        if (cdp_stop_wanted())
            return CDP_STOPPED;
        CDP_TRY(cdp_batch_start_lines(batch));
        CDP_TRY(cdp_engine_turn(batch->run->engine));
        CDP_TRY(cdp_batch_collect(batch));
        CDP_TRY(cdp_output_sync(&batch->output, /*is_due_now=*/false));
        show(batch);
    }
    return CDP_OK;
}

/* However the turns ended: what is finished is on disk, and the journal knows that this was no crash. */
static cdp_status end_turns(cdp_batch *batch, cdp_status st) {
    if (st == CDP_STOPPED)
        cdp_status_file_enter(&batch->status, "stopping");
    const cdp_status synced = cdp_output_sync(&batch->output, /*is_due_now=*/true);
    st = st == CDP_OK || st == CDP_STOPPED ? (synced != CDP_OK ? synced : st) : st;
    if (st == CDP_OK)
        st = cdp_output_complete(&batch->output);
    if (st == CDP_OK)
        cdp_journal_remove(&batch->journal);
    else if (st == CDP_STOPPED || st == CDP_IO || st == CDP_BAD_DATA)
        cdp_journal_stop(&batch->journal);
    show(batch);
    cdp_progress_end(&batch->progress);
    return st;
}

static cdp_status work(cdp_run *run, void *of) {
    cdp_batch *batch = of;
    CDP_TRY(settle_manifest(batch));
    CDP_TRY(cdp_batch_open_tasks(batch, run->plan->run.max_batch));
    if (batch->output.state == CDP_OUTPUT_PART)
        CDP_TRY(cdp_journal_begin(&batch->journal));
    cdp_status_file_enter(&batch->status, "running");
    cdp_progress_begin(&batch->progress);
    const cdp_status st = end_turns(batch, turn_until_done(batch));
    const cdp_ledger *l = &batch->input.ledger;
    if (st == CDP_STOPPED)
        return cdp_fail(CDP_STOPPED, "stopped by a signal, %u of %u records are written%s", l->n_done, l->n,
                        batch->output.state == CDP_OUTPUT_STREAM ? ""
                                                                 : ": the same command goes on from here");
    if (st == CDP_OK && batch->options->strict && l->n_failed > 0)
        return cdp_fail(CDP_BAD_DATA, "%u of %u lines failed; their records say why", l->n_failed, l->n);
    return st;
}

static cdp_status print_json(const cdp_run *run, const cdp_batch *batch) {
    const cdp_progress *p = &batch->progress;
    const double elapsed_s = (double)(cdp_now_ns() - p->began_ns) * 1e-9;
    printf("{\"output\": ");
    cdp_json_write_quoted(stdout, batch->options->output, strlen(batch->options->output));
    printf(", \"total\": %" PRIu64 ", \"done\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"tokens\": %" PRIu64
           ", \"timing\": {\"load_s\": %.6f, \"run_s\": %.6f, \"tokens_per_s\": %.3f}, ",
           p->n_total, p->n_done, p->n_failed, p->n_tokens, run->load_s, elapsed_s,
           elapsed_s > 0 ? (double)p->n_tokens / elapsed_s : 0);
    return cdp_report_print_json(run, "ranks");
}

/* Rank 0 alone knows whether all turned back because there is nothing to do. */
static cdp_status judge_return(cdp_batch *batch, cdp_run *run, cdp_world *world, cdp_status st) {
    int64_t is_complete = batch->is_complete;
    if (st != CDP_STOPPED || run->is_alone)
        return st;
    CDP_TRY(cdp_world_broadcast(world, &is_complete, sizeof is_complete));
    if (!is_complete)
        return st;
    cdp_error_clear();
    return batch->options->strict && batch->input.ledger.n_failed > 0 ? CDP_BAD_DATA : CDP_OK;
}

cdp_status cdp_job_batch(cdp_run *run, cdp_options *options, cdp_world *world) {
    cdp_batch batch = {.options = options, .input.fd = -1, .output.fd = -1, .journal.fd = -1};
    const int rank = cdp_world_rank(world);
    const cdp_job_spec spec = {.prepare = prepare,
                               .work = work,
                               .of = &batch,
                               .max_batch = options->max_batch > 0 ? options->max_batch : DEFAULT_MAX_BATCH,
                               .ctx_is_limit = true,
                               .opens_tokenizer = true};
    cdp_evidence_arm(options->output, rank);
    batch.status.path = rank == 0 ? options->status : NULL;
    batch.status.n_ranks = cdp_world_size(world);
    cdp_status_file_enter(&batch.status, "starting");
    cdp_status st = judge_return(&batch, run, world, cdp_run_job(run, options, world, &spec));
    const bool has_run = run->rank == 0 && run->reports != NULL && !run->is_alone;
    const bool prints = has_run && options->json && (st == CDP_OK || st == CDP_STOPPED);
    const cdp_status printed = prints ? print_json(run, &batch) : CDP_OK;
    st = printed != CDP_OK ? printed : st;
    if (has_run)
        cdp_report_stages(run);
    cdp_status_file_end(&batch.status, st, st != CDP_OK ? cdp_error_message() : "");
    cdp_batch_close(&batch);
    return st;
}
