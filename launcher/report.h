/* launcher/report.h - the `#` lines at the start and the end of a run. Rank 0 speaks for all. */
#pragma once

#include "launcher/advice.h"
#include "launcher/run.h"

/* Model, ranks, road, the table of stages and the device map. */
void cdp_report_start(const cdp_run *run);

/* What a job measured. */
typedef struct cdp_job_figures {
    int n_prompt, n_answer;
    double first_token_s, answer_s; /* answer_s: from the first token to the last */
    uint64_t logits_hash;
} cdp_job_figures;

/* Tokens/s, time to first token, per stage busy / wait / send and plan against real memory, logits hash. */
void cdp_report_end(const cdp_run *run, const cdp_job_figures *figures);

/* The part of it that every job has: the table of stages, who is slow, the bubble, one sentence of advice,
 * how often sequences were put back. */
void cdp_report_stages(const cdp_run *run);

/* The active stages' loads, in ring order; returns how many. */
int cdp_report_loads(const cdp_run *run, cdp_stage_load out[CDP_MAX_RANKS]);

/* The inside of "timing": tokens per second, 0 where nothing was timed. */
double cdp_prompt_rate(const cdp_job_figures *figures);
double cdp_answer_rate(const cdp_job_figures *figures);

/* "put_back": N, "plan": PLAN, RANKS: [...], "bubble": X, "in_flight": X, "advice": ""} and a newline: the
 * end of a --json object. Each rank tells its planned and its real peak bytes, and where its time went, under
 * the name given. CDP_IO when stdout cannot be written. */
cdp_status cdp_report_print_json(const cdp_run *run, const char *ranks);
