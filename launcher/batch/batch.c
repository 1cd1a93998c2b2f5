/* The start of a batch job: everything that can be refused, before a weight is read. */
#include "launcher/batch/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "kernels/log.h"
#include "launcher/batch/record.h"

static const int64_t lock_wait_ns = 5000000000; /* a requeued job may meet its dying predecessor */
enum { RECORDS_A_POLL = 4096 };

static cdp_status poll_world(void *of) {
    const cdp_batch *batch = of;
    if (cdp_stop_wanted())
        return cdp_fail(CDP_STOPPED, "stopped by a signal before the job began");
    return cdp_world_poll(batch->run->world);
}

/* Writing over what is being read loses both. */
static cdp_status refuse_same_file(const cdp_options *o) {
    struct stat in, out;
    if (stat(o->input, &in) == 0 && stat(o->output, &out) == 0 && in.st_dev == out.st_dev &&
        in.st_ino == out.st_ino && S_ISREG(in.st_mode))
        return cdp_fail(CDP_USAGE, "--output %s is the input itself", o->output);
    return CDP_OK;
}

/* Who has the lock, as the journal knows. */
static cdp_status refuse_held(cdp_batch *batch) {
    static const cdp_ledger none = {0};
    cdp_journal journal;
    const cdp_status st = cdp_journal_read(&journal, &cdp_disk_real, batch->options->output, &none);
    if (st == CDP_OK)
        cdp_fail(CDP_STOPPED, "%s is held by %s: another run writes it", batch->options->output,
                 journal.holder[0] != '\0' ? journal.holder : "another process");
    cdp_journal_close(&journal);
    return st != CDP_OK ? st : CDP_STOPPED;
}

static cdp_status take_lock(cdp_batch *batch) {
    const int64_t until_ns = cdp_now_ns() + lock_wait_ns;
    const struct timespec pause = {0, 50000000};
    for (;;) {
        cdp_status st = cdp_output_open(&batch->output, &cdp_disk_real, batch->options->output);
        if (st != CDP_STOPPED)
            return st;
        const bool is_pipe = batch->output.state == CDP_OUTPUT_STREAM; /* its reader may take any time */
        cdp_output_close(&batch->output);
        if (!is_pipe && cdp_now_ns() >= until_ns)
            return refuse_held(batch);
        CDP_TRY(poll_world(batch));
        nanosleep(&pause, NULL);
    }
}

static cdp_status on_record(void *of, const char *text, size_t n, uint64_t number) {
    cdp_batch *batch = of;
    cdp_hash128 id;
    bool is_error;
    if (number % RECORDS_A_POLL == 0)
        CDP_TRY(poll_world(batch));
    cdp_status st = cdp_record_identify(&id, &is_error, text, n, number);
    const int64_t index = st == CDP_OK ? cdp_ledger_find(&batch->input.ledger, id) : CDP_NO_LINE;
    if (st == CDP_OK && index == CDP_NO_LINE)
        st = cdp_fail(CDP_BAD_DATA, "record %" PRIu64 " has an id that the input does not have", number);
    if (st == CDP_OK && !cdp_ledger_mark_done(&batch->input.ledger, (uint32_t)index, is_error))
        st = cdp_fail(CDP_BAD_DATA, "record %" PRIu64 " has the id of an earlier one", number);
    return st;
}

/* The same facts as when it was begun. What is there without a manifest is nobody's. */
static cdp_status compare_manifest(cdp_batch *batch, bool has_bytes) {
    cJSON *written = NULL;
    const char *output = batch->options->output;
    CDP_TRY(cdp_manifest_read(&written, output));
    batch->has_manifest = written != NULL;
    cdp_status st = CDP_OK;
    if (written != NULL)
        st = cdp_manifest_compare(output, written, batch->facts);
    else if (has_bytes)
        st = cdp_fail(CDP_BAD_DATA, "%s is there, but has no manifest of a batch job: move it away", output);
    cJSON_Delete(written);
    return st;
}

static cdp_status read_records(cdp_batch *batch) {
    uint64_t n_torn = 0;
    struct stat about;
    const bool has_bytes = fstat(batch->output.fd, &about) == 0 && about.st_size > 0;
    CDP_TRY(compare_manifest(batch, has_bytes || batch->output.state == CDP_OUTPUT_WHOLE));
    cdp_status st = cdp_output_read(&batch->output, on_record, batch, &n_torn);
    if (st == CDP_BAD_DATA) {
        char why[512];
        snprintf(why, sizeof why, "%s", cdp_error_message());
        cdp_error_clear(); /* the first message stays, and a record does not know whose it is */
        return cdp_fail(st, "%s: %s; nothing was changed", batch->options->output, why);
    }
    CDP_TRY(st);
    if (n_torn > 0 && batch->output.state == CDP_OUTPUT_PART) {
        cdp_note("%s: a torn record of %" PRIu64 " bytes at its end is cut off", batch->output.part, n_torn);
        CDP_TRY(cdp_output_cut(&batch->output));
    }
    return CDP_OK;
}

static cdp_status finish_if_whole(cdp_batch *batch) {
    const cdp_ledger *l = &batch->input.ledger;
    const bool has_all = l->n_done == l->n;
    if (batch->output.state == CDP_OUTPUT_WHOLE && !has_all)
        return cdp_fail(CDP_BAD_DATA,
                        "%s has %u records of %u lines, but is not in the making: it is damaged",
                        batch->options->output, l->n_done, l->n);
    if (!has_all || batch->output.state == CDP_OUTPUT_STREAM)
        return CDP_OK;
    if (batch->output.state == CDP_OUTPUT_PART) {
        if (!batch->has_manifest)
            CDP_TRY(cdp_manifest_write(&cdp_disk_real, batch->options->output, batch->facts));
        CDP_TRY(cdp_output_complete(&batch->output));
    }
    cdp_journal_remove(&batch->journal); /* also that of a run that died between its last rename and this */
    cdp_note("%s is complete, %u records: nothing to do", batch->options->output, l->n);
    batch->is_complete = true;
    return CDP_OK;
}

static cdp_status open_output(cdp_batch *batch) {
    CDP_TRY(take_lock(batch));
    CDP_TRY(cdp_batch_facts(&batch->facts, batch));
    if (batch->output.state == CDP_OUTPUT_STREAM)
        cdp_note("%s is no regular file: the job cannot be resumed", batch->options->output);
    else
        CDP_TRY(read_records(batch));
    CDP_TRY(cdp_journal_read(&batch->journal, &cdp_disk_real, batch->options->output, &batch->input.ledger));
    return finish_if_whole(batch);
}

/* A model without a template serves all lines but those with messages, each of which then says why. */
static cdp_status open_chat(cdp_batch *batch) {
    const cdp_run *run = batch->run;
    snprintf(batch->no_chat, sizeof batch->no_chat, "the model has none");
    if (run->tokenizer == NULL || !cdp_chat_exists(run->card->dir))
        return CDP_OK;
    const cdp_status st = cdp_chat_open(&batch->chat, run->card->dir);
    if (st != CDP_BAD_MODEL)
        return st;
    snprintf(batch->no_chat, sizeof batch->no_chat, "%s", cdp_error_message());
    cdp_error_clear();
    return CDP_OK;
}

cdp_status cdp_batch_open(cdp_batch *batch, cdp_run *run) {
    const cdp_options *o = batch->options;
    batch->run = run;
    CDP_TRY(refuse_same_file(o));
    CDP_TRY(cdp_input_open(&batch->input, o->input, poll_world, batch));
    CDP_TRY(cdp_generation_card_read(&batch->given, run->card->dir));
    CDP_TRY(open_chat(batch));
    CDP_TRY(open_output(batch));
    const cdp_ledger *l = &batch->input.ledger;
    batch->n_before = l->n_done;
    batch->status.n_done = batch->progress.n_done = l->n_done;
    batch->status.n_failed = batch->progress.n_failed = l->n_failed;
    batch->status.n_total = batch->progress.n_total = l->n;
    if (l->n_done > 0 && !batch->is_complete)
        cdp_note("%s: %u of %u records are there, going on", batch->options->output, l->n_done, l->n);
    return CDP_OK;
}

void cdp_batch_close(cdp_batch *batch) {
    for (int i = 0; i < batch->n_tasks; i++) {
        cdp_completion_close(&batch->tasks[i].completion);
        cdp_prompt_close(&batch->tasks[i].prompt);
        cdp_line_close(&batch->tasks[i].line);
    }
    free(batch->tasks);
    batch->tasks = NULL;
    batch->n_tasks = 0;
    cdp_sampler_close(batch->sampler);
    cdp_chat_close(batch->chat);
    cJSON_Delete(batch->facts);
    cdp_journal_close(&batch->journal);
    cdp_output_close(&batch->output);
    cdp_input_close(&batch->input);
}
