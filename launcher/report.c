#include "launcher/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"

void cdp_report_start(const cdp_run *run) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    cdp_note("cdpipe: %d rank%s on %s, CUDA_VISIBLE_DEVICES %s", run->size, run->size == 1 ? "" : "s",
             cdp_world_host(run->world), visible != NULL ? visible : "not set");
    cdp_note("model %s: %s, %d layers, %s, ctx %d, chunk %d, hidden as %s, road %s", run->options->model,
             run->card->model_type, run->card->n_layers, cdp_dtype_name(run->plan->run.dtype),
             run->plan->run.ctx, run->plan->run.chunk, cdp_dtype_name(cdp_hidden_dtype(&run->plan->run)),
             cdp_pipeline_road(run->pipeline));
    cdp_plan_print(run->plan, run->card);
}

double cdp_prompt_rate(const cdp_job_figures *f) {
    return f->first_token_s > 0 ? f->n_prompt / f->first_token_s : 0;
}

double cdp_answer_rate(const cdp_job_figures *f) {
    return f->n_answer > 1 && f->answer_s > 0 ? (f->n_answer - 1) / f->answer_s : 0;
}

static void print_stage(const cdp_run *run, int rank) {
    const cdp_stage_plan *stage = &run->plan->stages[rank];
    const cdp_rank_report *report = &run->reports[rank];
    const cdp_pipeline_times *t = &report->times;
    const double total = t->busy_s + t->wait_s + t->send_s;
    if (stage->is_idle) {
        cdp_note("  %4d  idle", rank);
        return;
    }
    cdp_note("  %4d  %5.1f%%  %5.1f%%  %5.1f%%  %10.3f  %8.1f MiB  %8.1f MiB", rank,
             total > 0 ? 100 * t->busy_s / total : 0, total > 0 ? 100 * t->wait_s / total : 0,
             total > 0 ? 100 * t->send_s / total : 0,
             t->n_steps > 0 ? 1e3 * t->busy_s / (double)t->n_steps : 0, (double)stage->bytes.total / 0x1p20,
             (double)report->peak_bytes / 0x1p20);
}

static void print_put_back(const cdp_run *run) {
    const uint64_t n = run->engine == NULL ? 0 : cdp_engine_n_put_back(run->engine);
    if (n > 0)
        cdp_note("KV blocks ran out: sequences were put back and computed again %" PRIu64
                 " time%s (less --max-batch or --ctx avoids that)",
                 n, n == 1 ? "" : "s");
}

void cdp_report_end(const cdp_run *run, const cdp_job_figures *f) {
    if (!cdp_log_speaks())
        return;
    cdp_note("  rank    busy    wait    send     ms/step       planned          real");
    for (int rank = 0; rank < run->plan->n_stages; rank++)
        print_stage(run, rank);
    if (f->n_answer > 0)
        cdp_note("prompt %d tokens at %.1f/s, answer %d tokens at %.1f/s, first token after %.3f s, loaded "
                 "in %.3f s",
                 f->n_prompt, cdp_prompt_rate(f), f->n_answer, cdp_answer_rate(f), f->first_token_s,
                 run->load_s);
    else
        cdp_note("%d tokens at %.1f/s, loaded in %.3f s", f->n_prompt, cdp_prompt_rate(f), run->load_s);
    print_put_back(run);
    if (run->plan->n_active > 1 && f->n_answer > 0)
        cdp_note("one sequence keeps one stage busy at a time: more ranks give room, not speed, to a single "
                 "answer");
    cdp_note("logits #%016" PRIx64, f->logits_hash);
}

static void print_ranks(const cdp_run *run) {
    printf(", \"ranks\": [");
    for (int rank = 0; rank < run->plan->n_stages; rank++) {
        const cdp_rank_report *r = &run->reports[rank];
        printf("%s{\"rank\": %d, \"planned_bytes\": %" PRIu64 ", \"peak_bytes\": %" PRIu64
               ", \"steps\": %" PRIu64
               ", \"busy_s\": %.6f, \"wait_s\": %.6f, \"send_s\": %.6f, \"sent_bytes\": %" PRIu64 "}",
               rank > 0 ? ", " : "", rank, run->plan->stages[rank].bytes.total, r->peak_bytes,
               r->times.n_steps, r->times.busy_s, r->times.wait_s, r->times.send_s, r->times.n_sent_bytes);
    }
    printf("]");
}

cdp_status cdp_report_print_json(const cdp_run *run) {
    cJSON *plan = cdp_plan_json(run->plan, run->card);
    char *text = plan != NULL ? cJSON_PrintUnformatted(plan) : NULL;
    cJSON_Delete(plan);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to print the plan");
    printf("\"put_back\": %" PRIu64 ", \"plan\": %s",
           run->engine == NULL ? 0 : cdp_engine_n_put_back(run->engine), text);
    cJSON_free(text);
    print_ranks(run);
    if (printf("}\n") < 0 || fflush(stdout) != 0)
        return cdp_fail(CDP_IO, "writing the result: %s", strerror(errno));
    return CDP_OK;
}
