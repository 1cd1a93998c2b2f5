/* launcher/run.h - one run, the same on every rank: start up, work, report, close.
 *
 *     options, world --> files -> devices -> text -> plan -> links -> memory -> weights -> ring
 *                    --> the job on rank 0, steps on the others --> reports
 *
 * One start-up phase, one verdict: each ends in an agreement of all ranks (comm/world.h), so one rank never
 * goes on alone, and a fault that one rank finds ends every rank with the same code after one line of rank 0.
 * Rank 0 reads text and plans; the others take the plan from it. Idle ranks hold nothing and only agree. Who
 * finds a fault of its own in the middle of the work leaves alone.
 */
#pragma once

#include "comm/world.h"
#include "launcher/batch/hash.h"
#include "launcher/engine/engine.h"
#include "launcher/engine/trace.h"
#include "launcher/options/options.h"
#include "launcher/place.h"
#include "launcher/text/tokenizer.h"
#include "planner/plan.h"
#include "planner/tensor_index.h"
#include "stage/loader.h"

typedef struct cdp_run cdp_run;

/* What a command does on rank 0: `prepare` reads its text once files are known and says how many tokens the
 * sequence will reach (the default ctx); `work` drives the engine. */
typedef struct cdp_job_spec {
    cdp_status (*prepare)(cdp_run *run, void *of, int *n_tokens_out);
    cdp_status (*work)(cdp_run *run, void *of);
    void *of;
    int max_batch;        /* sequences at once; 0: one */
    bool ctx_is_limit;    /* without --ctx, what fits of n_tokens will do (batch) */
    bool opens_tokenizer; /* the job reads or writes text, where the model has a tokenizer */
} cdp_job_spec;

/* How each rank fared, known on every rank at the end. */
typedef struct cdp_rank_report {
    uint64_t peak_bytes; /* CPU: resident set, from the operating system; GPU: what went of its free memory */
    uint64_t loaded_bytes; /* of its weights, from the files, in load_s */
    double load_s;
    uint64_t slab_used_bytes, slab_bytes; /* GPU: of the stage's one piece; equal when the plan was right */
    cdp_pipeline_times times, marks[CDP_MAX_MARKS];
    int n_marks;
} cdp_rank_report;

/* What a run owns; a field is NULL until its phase is done. */
struct cdp_run {
    cdp_options *options; /* not owned */
    cdp_world *world;     /* not owned */
    int rank, size;
    cdp_core_share cores; /* of this rank */
    cdp_cpu_tier tier;
    cdp_model_card *card;
    cdp_tensor_index *index;
    cdp_hash128 config_hash;  /* of config.json, byte by byte */
    cdp_tokenizer *tokenizer; /* rank 0, where the job wants one and the model has one */
    cdp_plan *plan;
    int n_taps; /* rank 0: states a home row may bring along, which `prepare` sets before the plan is made */
    int stage_number; /* in the ring of active ranks, from 0; -1: idle */
    cdp_choice choice;
    int n_sharing;       /* ranks on this rank's GPU */
    uint64_t free_bytes; /* of the device, before anyone allocates */
    cdp_device *device;
    cdp_link *link;
    cdp_loader *loader;
    cdp_stage *stage;
    cdp_vocab *vocab;
    cdp_pipeline *pipeline;
    cdp_engine *engine;       /* rank 0 */
    cdp_trace *trace;         /* --trace */
    double load_s;            /* memory and weights, all ranks */
    double read_s;            /* this rank's weights alone */
    uint64_t n_read_bytes;    /* of them, in the files */
    cdp_rank_report *reports; /* (size) */
    uint64_t peak_bytes;      /* of this process, where `work` has looked before the end; else 0 */
    bool is_alone;            /* the failure is this rank's own: leave without waiting for anyone */
};

/* The start-up phases (run_start.c), with which cdp_run_job begins: they open what `run` owns, from its
 * options and its world. What is open when a phase fails stays so, for cdp_run_close(). Collective; the same
 * status on every rank. */
cdp_status cdp_run_start(cdp_run *run, const cdp_job_spec *job);

/* Those of them that find this rank's device, for the command devices too; *out is where a stage would live.
 * Collective: a GPU is open then. The CPU is opened by the second, which does nothing for a GPU. */
cdp_status cdp_run_find_place(cdp_run *run, cdp_place *out);
cdp_status cdp_run_open_cpu(cdp_run *run);

/* Open everything, run the job on rank 0 while the others serve, agree on the end. Collective. The status is
 * the same on every rank unless run->is_alone. */
cdp_status cdp_run_job(cdp_run *run, cdp_options *options, cdp_world *world, const cdp_job_spec *job);

/* Give everything back. The device must be idle: only after an agreed end. A zeroed run is fine. */
void cdp_run_close(cdp_run *run);
