/* launcher/batch/batch.h - what a batch job holds while it runs, on rank 0: joined here, driven by
 * jobs/batch.c.
 *
 *     input --line--> task --completion--> record --> output
 *       |               |                               |
 *     ledger         journal                         manifest
 */
#pragma once

#include "launcher/batch/input.h"
#include "launcher/batch/journal.h"
#include "launcher/batch/manifest.h"
#include "launcher/batch/output.h"
#include "launcher/batch/progress.h"
#include "launcher/batch/status_file.h"
#include "launcher/completion/completion.h"
#include "launcher/completion/prompt.h"
#include "launcher/template/chat.h"

typedef struct cdp_batch cdp_batch;

/* One line at work. */
typedef struct cdp_task {
    cdp_batch *batch;
    uint32_t index; /* in the ledger */
    cdp_line line;
    cdp_prompt prompt;
    cdp_decoding decoding;
    cdp_completion completion;
    bool is_busy, has_ended;
} cdp_task;

struct cdp_batch {
    const cdp_options *options;
    cdp_run *run;
    cdp_input input;
    cdp_output output;
    cdp_journal journal;
    cJSON *facts; /* of this run, for the manifest */
    bool has_manifest, is_complete;
    cdp_generation_card given; /* generation_config.json */
    cdp_chat *chat;            /* NULL: no template, or none that can be used (no_chat says why) */
    char no_chat[256];
    cdp_sampler *sampler;
    cdp_task *tasks; /* (n_tasks) */
    int n_tasks, n_busy;
    bool is_alone;       /* the one that is busy is a suspect: nobody joins it */
    int next_suspect;    /* in the journal's list */
    uint32_t next_index; /* in the ledger */
    uint64_t n_before;   /* records of earlier runs */
    uint64_t n_tokens;   /* answered in this run */
    cdp_progress progress;
    cdp_status_file status;
};

/* Everything that can be refused is refused here, before a weight is read: input, lock, manifest, the records
 * that are there, the journal. is_complete: OUT is whole and was made from these facts, or has just become
 * so. CDP_STOPPED when another run has the lock. Rank 0, once its files are known. */
cdp_status cdp_batch_open(cdp_batch *batch, cdp_run *run);

/* Give everything back. A zeroed one with input.fd, output.fd and journal.fd -1 is fine. */
void cdp_batch_close(cdp_batch *batch);

/* What records depend on, as the manifest has it, but for the ctx that the plan will settle. */
cdp_status cdp_batch_facts(cJSON **out, const cdp_batch *batch);

/* Tasks for a run of max_batch sequences. */
cdp_status cdp_batch_open_tasks(cdp_batch *batch, int max_batch);

/* Start lines while tasks are free; a bad line gets its record at once. A bounded number of them, so that the
 * ring is looked after between calls. */
cdp_status cdp_batch_start_lines(cdp_batch *batch);

/* Write the records of tasks that have ended. */
cdp_status cdp_batch_collect(cdp_batch *batch);

/* Nothing is busy and every line has its record. */
bool cdp_batch_is_done(const cdp_batch *batch);
