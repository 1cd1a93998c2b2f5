/* bench: prompt (pp), decoding (tg) and mixed (pg) speed at several batch sizes, with each stage's busy, wait
 * and send, beside what the device was measured to reach.
 *
 * Inside the timed window: from the submission of `batch` sequences to the last logits of the last one,
 * engine, transport and head included; not the tokenizer, not the sampler. With --depth decoding is timed
 * from the logits of the last prompt on. One unmeasured round first. Prompts are random ids of a fixed seed
 * (tests/bench/peers makes the same ones), alike for every sequence; a generated token is a function of its
 * position.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/jobs/bench.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"
#include "launcher/streams.h"

enum { MAX_BATCH = 4096, MAX_TOKENS = 1 << 20 };

typedef struct bench_job {
    cdp_bench bench;
    const cdp_options *options;
    cdp_run *run;
    int batches[CDP_BENCH_BATCHES], n_batches;
    int pg_prompt, pg_answer; /* of --pg; 0: no such test */
    double *rates;            /* (repeat) */
    int32_t *prompt;          /* (longest prompt) */
    bool generates;           /* the present test goes on past the prompt */
    int depth, n_waiting;     /* of the present test; its sequences without depth so far */
    int64_t began_ns;         /* the timed window, and the steps before it */
    uint64_t n_before;
} bench_job;

static cdp_status read_batches(bench_job *job) {
    for (const char *at = job->options->batch;; at++) {
        char *end;
        const long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > MAX_BATCH || job->n_batches == CDP_BENCH_BATCHES ||
            (*end != ',' && *end != '\0'))
            return cdp_fail(CDP_USAGE,
                            "--batch is \"%.60s\", expected up to %d numbers from 1 to %d, as in 1,4,16",
                            job->options->batch, CDP_BENCH_BATCHES, MAX_BATCH);
        job->batches[job->n_batches++] = (int)n;
        at = end;
        if (*at == '\0')
            return CDP_OK;
    }
}

/* --pg N,N */
static cdp_status read_mixed(bench_job *job) {
    const char *text = job->options->pg;
    int used = 0;
    if (text == NULL)
        return CDP_OK;
    if (sscanf(text, "%7d,%7d%n", &job->pg_prompt, &job->pg_answer, &used) != 2 || text[used] != '\0' ||
        job->pg_prompt < 1 || job->pg_answer < 1 || job->pg_prompt > MAX_TOKENS ||
        job->pg_answer > MAX_TOKENS)
        return cdp_fail(CDP_USAGE, "--pg is \"%.60s\", expected prompt and answer tokens, as in 512,128",
                        text);
    return CDP_OK;
}

static cdp_status read_words(bench_job *job) {
    const cdp_options *o = job->options;
    CDP_TRY(read_batches(job));
    if (o->save_costs != NULL && o->depth > 0)
        return cdp_fail(CDP_USAGE,
                        "--save-costs counts all steps of a test, --depth leaves some out: one of them");
    return read_mixed(job);
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
    const int mixed = job->pg_answer > 0 ? job->pg_prompt + job->pg_answer + 1 : 0;
    *n_tokens_out = o->pp > o->tg + 1 ? o->pp : o->tg + 1;
    *n_tokens_out = mixed > *n_tokens_out ? mixed : *n_tokens_out;
    if (o->depth > 0 && o->tg > 0) { /* a block more, or the last of many sequences would not be let in */
        const int deep = o->depth + o->tg + 1 + CDP_KV_BLOCK_TOKENS;
        *n_tokens_out = deep > *n_tokens_out ? deep : *n_tokens_out;
    }
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

static void start_clock(bench_job *job) {
    job->n_before = cdp_pipeline_times_of(job->run->pipeline).n_steps;
    job->began_ns = cdp_now_ns();
}

static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    bench_job *job = of;
    (void)logits;
    if (job->depth > 0 && row->position == job->depth - 1 && --job->n_waiting == 0) {
        cdp_engine_hold(job->run->engine, false);
        start_clock(job);
    }
    if (job->generates)
        *next_out = (int32_t)((row->position * 31 + 7) % job->run->card->vocab);
    return CDP_OK;
}

/* One run: *seconds_out of its timed window, and the steps that went round in it. */
static cdp_status measure(bench_job *job, const cdp_bench_test *test, double *seconds_out,
                          double *n_steps_out) {
    const int first = test->depth + test->n_prompt, n_prompt = first > 0 ? first : 1;
    const cdp_request request = {.prompt = job->prompt,
                                 .n_prompt = n_prompt,
                                 /* the last token is never fed: as many rows are computed as counted */
                                 .limit = first + test->n_answer + (test->n_answer > 0 ? 1 : 0),
                                 .on_logits = on_logits,
                                 .of = job};
    job->generates = test->n_answer > 0;
    job->depth = test->depth;
    job->n_waiting = test->batch;
    cdp_engine_hold(job->run->engine, test->depth > 0);
    start_clock(job);
    for (int i = 0; i < test->batch; i++)
        CDP_TRY(cdp_engine_submit(job->run->engine, &request));
    CDP_TRY(cdp_engine_run(job->run->engine));
    *seconds_out = (double)(cdp_now_ns() - job->began_ns) * 1e-9;
    *n_steps_out = (double)(cdp_pipeline_times_of(job->run->pipeline).n_steps - job->n_before);
    return CDP_OK;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Answers that wait keep their blocks: all sequences must be at work at once. */
static cdp_status check_room(const bench_job *job, const cdp_bench_test *test) {
    const cdp_plan *plan = job->run->plan;
    const int tokens = test->depth + test->n_answer + 1 + CDP_KV_BLOCK_TOKENS;
    const int64_t needed = (int64_t)test->batch * ((tokens + CDP_KV_BLOCK_TOKENS - 1) / CDP_KV_BLOCK_TOKENS);
    if (test->depth == 0 || (needed <= plan->n_blocks && tokens <= plan->run.ctx))
        return CDP_OK;
    return cdp_fail(CDP_UNAVAILABLE,
                    "--depth %d with %d sequences needs %lld KV blocks and --ctx %d, the run has %lld and %d",
                    test->depth, test->batch, (long long)needed, tokens, (long long)plan->n_blocks,
                    plan->run.ctx);
}

static cdp_status run_test(bench_job *job, const cdp_bench_test *test) {
    const int n = job->options->repeat, n_tokens = test->n_prompt + test->n_answer;
    cdp_bench_test *t = &job->bench.tests[job->bench.n_tests++];
    *t = *test;
    CDP_TRY(check_room(job, test));
    CDP_TRY(cdp_pipeline_mark(job->run->pipeline));
    for (int i = 0; i < n; i++) {
        double seconds, n_steps;
        CDP_TRY(measure(job, t, &seconds, &n_steps));
        job->rates[i] = (double)t->batch * n_tokens / seconds;
        t->n_steps += n_steps / n;
    }
    qsort(job->rates, (size_t)n, sizeof *job->rates, ascending);
    t->median = n % 2 == 1 ? job->rates[n / 2] : (job->rates[n / 2 - 1] + job->rates[n / 2]) / 2;
    t->least = job->rates[0];
    t->most = job->rates[n - 1];
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    bench_job *job = of;
    const cdp_options *o = job->options;
    const cdp_bench_test warm_up = {.n_answer = 4, .batch = 1};
    double unused;
    if (run->plan->run.ctx >= 5)
        CDP_TRY(measure(job, &warm_up, &unused, &unused));
    for (int i = 0; i < job->n_batches; i++) {
        const cdp_bench_test tests[] = {
            {.name = "pp", .n_prompt = o->pp, .batch = job->batches[i]},
            {.name = "tg", .n_answer = o->tg, .depth = o->depth, .batch = job->batches[i]},
            {.name = "pg", .n_prompt = job->pg_prompt, .n_answer = job->pg_answer, .batch = job->batches[i]},
        };
        for (int k = 0; k < 3; k++)
            if (tests[k].n_prompt + tests[k].n_answer > 0)
                CDP_TRY(run_test(job, &tests[k]));
    }
    CDP_TRY(cdp_pipeline_mark(run->pipeline));
    run->peak_bytes = cdp_process_peak_bytes(); /* without what is read and written to measure the device */
    return cdp_device_measure(run->device, run->plan->run.dtype, &job->bench.bytes_per_s,
                              &job->bench.flop_per_s);
}

/* What a layer and the vocabulary cost a step, from the last decoding test, else the last one. */
static cdp_status save_costs(const cdp_run *run, const bench_job *job) {
    cdp_costs costs = {.n_layers = run->card->n_layers};
    int k = job->bench.n_tests - 1;
    while (k > 0 && strcmp(job->bench.tests[k].name, "tg") != 0)
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

cdp_status cdp_job_bench(cdp_run *run, cdp_options *options, cdp_world *world) {
    bench_job job = {.bench.run = run, .options = options, .run = run};
    CDP_TRY(cdp_world_agree(world, read_words(&job)));
    const cdp_job_spec spec = {
        .prepare = prepare, .work = work, .of = &job, .max_batch = largest_batch(&job)};
    cdp_status st = cdp_run_job(run, options, world, &spec);
    if (run->rank == 0 && st == CDP_OK) {
        if (options->json)
            st = cdp_bench_print_json(&job.bench);
        else
            cdp_bench_print(&job.bench);
        cdp_report_stages(run);
        if (st == CDP_OK && options->save_costs != NULL)
            st = save_costs(run, &job);
        if (st == CDP_OK && fflush(stdout) != 0)
            st = cdp_stream_failed("the result");
    }
    free(job.rates);
    free(job.prompt);
    return st;
}
