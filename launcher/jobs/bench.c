/* bench: prompt (pp) and decoding (tg) speed at several batch sizes, with each stage's busy, wait and send.
 *
 * Inside the timed window: from the submission of `batch` sequences to the last logits of the last one,
 * engine, transport and head included; not the tokenizer, not the sampler. One unmeasured round first.
 * Prompts are random ids of a fixed seed; a generated token is a function of its position.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"

enum { MAX_BATCHES = 16, MAX_BATCH = 4096, MAX_TESTS = 2 * MAX_BATCHES };

typedef struct bench_result {
    bool is_prompt;
    int tokens, batch;
    double median, least, most; /* tokens per second */
} bench_result;

typedef struct bench_job {
    const cdp_options *options;
    cdp_run *run;
    int batches[MAX_BATCHES], n_batches, n_results;
    bench_result results[MAX_TESTS];
    double *rates;   /* (repeat) */
    int32_t *prompt; /* (longest prompt) */
    bool generates;  /* the present test goes on past the prompt */
    double bytes_per_s, flop_per_s;
} bench_job;

static cdp_status read_batches(bench_job *job) {
    for (const char *at = job->options->batch;; at++) {
        char *end;
        const long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > MAX_BATCH || job->n_batches == MAX_BATCHES ||
            (*end != ',' && *end != '\0'))
            return cdp_fail(CDP_USAGE,
                            "--batch is \"%.60s\", expected up to %d numbers from 1 to %d, as in 1,4,16",
                            job->options->batch, MAX_BATCHES, MAX_BATCH);
        job->batches[job->n_batches++] = (int)n;
        at = end;
        if (*at == '\0')
            return CDP_OK;
    }
}

static int largest_batch(const bench_job *job) {
    int largest = 1;
    for (int i = 0; i < job->n_batches; i++)
        largest = job->batches[i] > largest ? job->batches[i] : largest;
    return largest;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    bench_job *job = of;
    const cdp_options *o = job->options;
    *n_tokens_out = o->pp > o->tg + 1 ? o->pp : o->tg + 1;
    job->rates = calloc((size_t)o->repeat, sizeof *job->rates);
    job->prompt = calloc((size_t)*n_tokens_out, sizeof *job->prompt);
    if (job->rates == NULL || job->prompt == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a prompt of %d tokens", *n_tokens_out);
    uint64_t state = 20261; /* xorshift: any spread of ids will do, as long as it is the same one */
    for (int i = 0; i < *n_tokens_out; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        job->prompt[i] = (int32_t)(state % (uint64_t)run->card->vocab);
    }
    return CDP_OK;
}

static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    const bench_job *job = of;
    (void)logits;
    if (job->generates)
        *next_out = (int32_t)((row->position * 31 + 7) % job->run->card->vocab);
    return CDP_OK;
}

/* One measurement in tokens per second. */
static cdp_status measure(bench_job *job, const bench_result *test, double *out) {
    const int n_prompt = test->is_prompt ? test->tokens : 1;
    const cdp_request request = {.prompt = job->prompt,
                                 .n_prompt = n_prompt,
                                 .limit = test->is_prompt ? n_prompt : test->tokens + 1,
                                 .on_logits = on_logits,
                                 .of = job};
    job->generates = !test->is_prompt;
    const int64_t began = cdp_now_ns();
    for (int i = 0; i < test->batch; i++)
        CDP_TRY(cdp_engine_submit(job->run->engine, &request));
    CDP_TRY(cdp_engine_run(job->run->engine));
    *out = (double)test->batch * test->tokens / ((double)(cdp_now_ns() - began) * 1e-9);
    return CDP_OK;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static cdp_status run_test(bench_job *job, bool is_prompt, int tokens, int batch) {
    const int n = job->options->repeat;
    bench_result *r = &job->results[job->n_results++];
    *r = (bench_result){.is_prompt = is_prompt, .tokens = tokens, .batch = batch};
    CDP_TRY(cdp_pipeline_mark(job->run->pipeline));
    for (int i = 0; i < n; i++)
        CDP_TRY(measure(job, r, &job->rates[i]));
    qsort(job->rates, (size_t)n, sizeof *job->rates, ascending);
    r->median = n % 2 == 1 ? job->rates[n / 2] : (job->rates[n / 2 - 1] + job->rates[n / 2]) / 2;
    r->least = job->rates[0];
    r->most = job->rates[n - 1];
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    bench_job *job = of;
    const cdp_options *o = job->options;
    const bench_result warm_up = {.tokens = 4, .batch = 1};
    double unused;
    CDP_TRY(cdp_device_measure(run->device, &job->bytes_per_s, &job->flop_per_s));
    if (run->plan->run.ctx >= 5)
        CDP_TRY(measure(job, &warm_up, &unused));
    for (int i = 0; i < job->n_batches; i++) {
        if (o->pp > 0)
            CDP_TRY(run_test(job, true, o->pp, job->batches[i]));
        if (o->tg > 0)
            CDP_TRY(run_test(job, false, o->tg, job->batches[i]));
    }
    return cdp_pipeline_mark(run->pipeline);
}

/* How a rank's time went in test k: the difference of two marks, as shares. */
static void shares_of(const cdp_rank_report *report, int k, double shares[3]) {
    const cdp_pipeline_times *a = &report->marks[k], *b = &report->marks[k + 1];
    const double parts[3] = {b->busy_s - a->busy_s, b->wait_s - a->wait_s, b->send_s - a->send_s};
    const double total = parts[0] + parts[1] + parts[2];
    for (int i = 0; i < 3; i++)
        shares[i] = total > 0 ? parts[i] / total : 0;
}

/* What a layer and the vocabulary cost a step, from the last decoding test, else the last one. */
static cdp_status save_costs(const cdp_run *run, const bench_job *job) {
    cdp_costs costs = {.n_layers = run->card->n_layers};
    int k = job->n_results - 1;
    while (k > 0 && job->results[k].is_prompt)
        k--;
    for (int rank = 0; rank < run->size; rank++) {
        const cdp_stage_plan *stage = &run->plan->stages[rank];
        const cdp_pipeline_times *a = &run->reports[rank].marks[k], *b = &run->reports[rank].marks[k + 1];
        const double n_steps = (double)(b->n_steps - a->n_steps);
        const int n_layers = stage->end_layer - stage->first_layer;
        if (n_layers == 0 || n_steps == 0)
            return cdp_fail(CDP_USAGE, "--save-costs needs layers on every rank, rank %d has none", rank);
        costs.layer_ms[costs.n_stages++] = 1e3 * (b->layers_s - a->layers_s) / n_steps / n_layers;
        costs.vocab_ms += 1e3 * (b->head_s - a->head_s) / n_steps;
    }
    return cdp_costs_save(&costs, job->options->save_costs);
}

/* Share of all stages' time in which nothing was computed. */
static double bubble_of(const cdp_run *run, int k) {
    double busy = 0, total = 0;
    for (int rank = 0; rank < run->size; rank++) {
        const cdp_pipeline_times *a = &run->reports[rank].marks[k], *b = &run->reports[rank].marks[k + 1];
        busy += b->layers_s - a->layers_s + b->head_s - a->head_s;
        total += b->busy_s - a->busy_s + b->wait_s - a->wait_s + b->send_s - a->send_s;
    }
    return total > 0 && busy < total ? 1 - busy / total : 0;
}

static void print_json(const cdp_run *run, const bench_job *job) {
    printf("{\"results\": [");
    for (int k = 0; k < job->n_results; k++) {
        const bench_result *r = &job->results[k];
        printf("%s{\"test\": \"%s\", \"tokens\": %d, \"batch\": %d, \"tokens_per_s\": {\"median\": %.3f, "
               "\"min\": %.3f, \"max\": "
               "%.3f}, \"stages\": [",
               k > 0 ? ", " : "", r->is_prompt ? "pp" : "tg", r->tokens, r->batch, r->median, r->least,
               r->most);
        for (int rank = 0, n = 0; rank < run->size; rank++) {
            double s[3];
            if (run->plan->stages[rank].is_idle)
                continue;
            shares_of(&run->reports[rank], k, s);
            printf("%s{\"rank\": %d, \"busy\": %.4f, \"wait\": %.4f, \"send\": %.4f}", n++ > 0 ? ", " : "",
                   rank, s[0], s[1], s[2]);
        }
        printf("], \"bubble\": %.4f}", bubble_of(run, k));
    }
    printf("], \"bandwidth_bytes_per_s\": %.0f, \"peak_flop_per_s\": %.0f, \"threads\": %d, ",
           job->bytes_per_s, job->flop_per_s, run->cores.n);
    cdp_report_print_json(run);
}

/* Bytes that one decoding step reads at least: all weights of all stages but the embedding's rows. */
static double step_bytes(const cdp_run *run) {
    double sum = 0;
    for (int rank = 0; rank < run->size; rank++)
        sum += (double)run->plan->stages[rank].bytes.weights;
    const double embed =
        (double)run->card->vocab * run->card->hidden * (double)cdp_dtype_bytes(run->plan->run.dtype);
    return run->card->is_tied ? sum : sum - embed;
}

static void print_table(const cdp_run *run, const bench_job *job) {
    printf("test  tokens  batch   tokens/s     least      most   of bandwidth  bubble  busy by stage\n");
    for (int k = 0; k < job->n_results; k++) {
        const bench_result *r = &job->results[k];
        printf("%-4s  %6d  %5d  %9.1f %9.1f %9.1f", r->is_prompt ? "pp" : "tg", r->tokens, r->batch,
               r->median, r->least, r->most);
        if (r->is_prompt) /* bound by arithmetic, not by bytes */
            printf("              -  ");
        else
            printf("   %10.0f%%  ", 100 * r->median / r->batch * step_bytes(run) / job->bytes_per_s);
        printf(" %5.1f%%  ", 100 * bubble_of(run, k));
        for (int rank = 0; rank < run->size; rank++) {
            double s[3] = {0};
            if (!run->plan->stages[rank].is_idle)
                shares_of(&run->reports[rank], k, s);
            printf(" %3.0f%%", 100 * s[0]);
        }
        printf("\n");
    }
    printf("rank 0 reads %.1f GB/s and multiplies at %.0f GFLOP/s (%s, %s), %d threads a rank\n",
           job->bytes_per_s * 1e-9, job->flop_per_s * 1e-9,
           run->tier == CDP_TIER_AMX || run->plan->run.on_gpu ? "bf16" : "f32",
           run->plan->run.on_gpu ? "cuda" : cdp_cpu_tier_name(run->tier), run->cores.n);
}

cdp_status cdp_job_bench(cdp_run *run, cdp_options *options, cdp_world *world) {
    bench_job job = {.options = options, .run = run};
    CDP_TRY(cdp_world_agree(world, read_batches(&job)));
    const cdp_job_spec spec = {
        .prepare = prepare, .work = work, .of = &job, .max_batch = largest_batch(&job)};
    cdp_status st = cdp_run_job(run, options, world, &spec);
    if (run->rank == 0 && st == CDP_OK) {
        if (options->json)
            print_json(run, &job);
        else
            print_table(run, &job);
        cdp_report_stages(run);
        if (options->save_costs != NULL)
            st = save_costs(run, &job);
        if (st == CDP_OK && fflush(stdout) != 0)
            st = cdp_fail(CDP_IO, "writing the result: %s", strerror(errno));
    }
    free(job.rates);
    free(job.prompt);
    return st;
}
