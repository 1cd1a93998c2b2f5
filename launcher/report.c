#include "launcher/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/advice.h"
#include "launcher/streams.h"
#include "launcher/visible.h"

void cdp_report_start(const cdp_run *run) {
    char visible[256];
    cdp_note("cdpipe: %d rank%s on %s, CUDA_VISIBLE_DEVICES %s", run->size, run->size == 1 ? "" : "s",
             cdp_world_host(run->world),
             cdp_visible_words(visible, sizeof visible, getenv("CUDA_VISIBLE_DEVICES")));
    cdp_note("model %s: %s, %d layers, %s, ctx %d, chunk %d, hidden as %s, road %s", run->options->model,
             run->card->model_type, run->card->n_layers, cdp_dtype_name(run->plan->run.dtype),
             run->plan->run.ctx, run->plan->run.chunk, cdp_dtype_name(cdp_hidden_dtype(&run->plan->run)),
             cdp_link_road(run->link));
    cdp_plan_print(run->plan, run->card);
}

double cdp_prompt_rate(const cdp_job_figures *f) {
    return f->first_token_s > 0 ? f->n_prompt / f->first_token_s : 0;
}

double cdp_answer_rate(const cdp_job_figures *f) {
    return f->n_answer > 1 && f->answer_s > 0 ? (f->n_answer - 1) / f->answer_s : 0;
}

static void print_put_back(const cdp_run *run) {
    const uint64_t n = run->engine == NULL ? 0 : cdp_engine_n_put_back(run->engine);
    if (n > 0)
        cdp_note("KV blocks ran out: sequences were put back and computed again %" PRIu64
                 " time%s (less --max-batch or --ctx avoids that)",
                 n, n == 1 ? "" : "s");
}

static void print_stage(const cdp_run *run, int rank) {
    const cdp_stage_plan *stage = &run->plan->stages[rank];
    const cdp_rank_report *report = &run->reports[rank];
    const cdp_pipeline_times *t = &report->times;
    const double total = t->busy_s + t->wait_s + t->send_s, n_steps = t->n_steps > 0 ? (double)t->n_steps : 1;
    if (stage->is_idle) {
        cdp_note("  %4d  idle", rank);
        return;
    }
    cdp_note("  %4d  %5.1f%%  %5.1f%%  %5.1f%%  %10.3f  %10.3f  %8.1f MiB  %8.1f MiB  %6.2f GB/s", rank,
             total > 0 ? 100 * t->busy_s / total : 0, total > 0 ? 100 * t->wait_s / total : 0,
             total > 0 ? 100 * t->send_s / total : 0, 1e3 * t->layers_s / n_steps, 1e3 * t->head_s / n_steps,
             (double)stage->bytes.total / 0x1p20, (double)report->peak_bytes / 0x1p20,
             report->load_s > 0 ? 1e-9 * (double)report->loaded_bytes / report->load_s : 0);
}

/* Layers more that a stage's budget would hold. */
static int room_of(const cdp_run *run, const cdp_stage_plan *stage) {
    const int layer = stage->first_layer < run->card->n_layers ? stage->first_layer : 0;
    const uint64_t one = cdp_layer_weight_bytes(run->card, &run->plan->run, layer) +
                         (uint64_t)run->plan->n_blocks * cdp_kv_block_bytes(run->card, &run->plan->run);
    const uint64_t room =
        stage->budget_bytes > stage->bytes.total ? stage->budget_bytes - stage->bytes.total : 0;
    const uint64_t n = one > 0 ? room / one : 0;
    return n < (uint64_t)run->card->n_layers ? (int)n : run->card->n_layers;
}

int cdp_report_loads(const cdp_run *run, cdp_stage_load out[CDP_MAX_RANKS]) {
    int n = 0;
    for (int rank = 0; rank < run->plan->n_stages; rank++) {
        const cdp_stage_plan *stage = &run->plan->stages[rank];
        const cdp_pipeline_times *t = &run->reports[rank].times;
        if (!stage->is_idle)
            out[n++] = (cdp_stage_load){.rank = rank,
                                        .n_layers = stage->end_layer - stage->first_layer,
                                        .n_room = room_of(run, stage),
                                        .layers_s = t->layers_s,
                                        .head_s = t->head_s,
                                        .total_s = t->busy_s + t->wait_s + t->send_s,
                                        .n_steps = t->n_steps};
    }
    return n;
}

static double in_flight(const cdp_stage_load *first, const cdp_run *run) {
    return first->total_s > 0 ? run->reports[0].times.flight_s / first->total_s : 0;
}

void cdp_report_stages(const cdp_run *run) {
    static cdp_stage_load loads[CDP_MAX_RANKS];
    char advice[256];
    double times;
    if (!cdp_log_speaks())
        return;
    cdp_note("  rank    busy    wait    send   layers/step   head/step       planned          real       "
             "loaded   (ms)");
    for (int rank = 0; rank < run->plan->n_stages; rank++)
        print_stage(run, rank);
    const int n = cdp_report_loads(run, loads);
    const int slow = cdp_straggler(loads, n, &times);
    if (slow >= 0)
        cdp_note("rank %d is slow: a layer takes %.1f times as long as on the other ranks (%s)",
                 loads[slow].rank, times, run->plan->stages[loads[slow].rank].place.label);
    if (n > 1)
        cdp_note("bubble: %.1f %% of the stages' time, %.1f steps on the way on average",
                 100 * cdp_bubble_share(loads, n), in_flight(&loads[0], run));
    if (cdp_advise(advice, sizeof advice, loads, n, in_flight(&loads[0], run))[0] != '\0')
        cdp_note("advice: %s", advice);
    print_put_back(run);
}

void cdp_report_end(const cdp_run *run, const cdp_job_figures *f) {
    if (!cdp_log_speaks())
        return;
    cdp_report_stages(run);
    if (f->n_answer > 0)
        cdp_note("prompt %d tokens at %.1f/s, answer %d tokens at %.1f/s, first token after %.3f s, loaded "
                 "in %.3f s",
                 f->n_prompt, cdp_prompt_rate(f), f->n_answer, cdp_answer_rate(f), f->first_token_s,
                 run->load_s);
    else
        cdp_note("%d tokens at %.1f/s, loaded in %.3f s", f->n_prompt, cdp_prompt_rate(f), run->load_s);
    if (run->plan->n_active > 1 && f->n_answer > 0)
        cdp_note("one sequence keeps one stage busy at a time: more ranks give room, not speed, to a single "
                 "answer");
    cdp_note("logits #%016" PRIx64, f->logits_hash);
}

static void print_ranks(const cdp_run *run, const char *name) {
    printf(", \"%s\": [", name);
    for (int rank = 0; rank < run->plan->n_stages; rank++) {
        const cdp_rank_report *r = &run->reports[rank];
        printf("%s{\"rank\": %d, \"planned_bytes\": %" PRIu64 ", \"peak_bytes\": %" PRIu64
               ", \"slab_bytes\": %" PRIu64 ", \"slab_used_bytes\": %" PRIu64 ", \"steps\": %" PRIu64
               ", \"rows\": %" PRIu64 ", \"loaded_bytes\": %" PRIu64
               ", \"busy_s\": %.6f, \"wait_s\": %.6f, \"send_s\": %.6f, \"layers_s\": %.6f, "
               "\"head_s\": %.6f, \"load_s\": %.6f, \"sent_bytes\": %" PRIu64 "}",
               rank > 0 ? ", " : "", rank, run->plan->stages[rank].bytes.total, r->peak_bytes, r->slab_bytes,
               r->slab_used_bytes, r->times.n_steps, r->times.n_rows, r->loaded_bytes, r->times.busy_s,
               r->times.wait_s, r->times.send_s, r->times.layers_s, r->times.head_s, r->load_s,
               r->times.n_sent_bytes);
    }
    printf("]");
}

static void print_advice(const cdp_run *run) {
    static cdp_stage_load loads[CDP_MAX_RANKS];
    char advice[256];
    const int n = cdp_report_loads(run, loads);
    const double flight = in_flight(&loads[0], run);
    printf(", \"bubble\": %.4f, \"in_flight\": %.3f, \"advice\": \"%s\"", cdp_bubble_share(loads, n), flight,
           cdp_advise(advice, sizeof advice, loads, n, flight));
}

cdp_status cdp_report_print_json(const cdp_run *run, const char *ranks) {
    cJSON *plan = cdp_plan_json(run->plan, run->card);
    char *text = plan != NULL ? cJSON_PrintUnformatted(plan) : NULL;
    cJSON_Delete(plan);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to print the plan");
    printf("\"put_back\": %" PRIu64 ", \"plan\": %s",
           run->engine == NULL ? 0 : cdp_engine_n_put_back(run->engine), text);
    cJSON_free(text);
    print_ranks(run, ranks);
    print_advice(run);
    if (printf("}\n") < 0 || fflush(stdout) != 0)
        return cdp_stream_failed("the result");
    return CDP_OK;
}
