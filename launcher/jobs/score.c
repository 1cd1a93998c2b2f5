/* score: log probability of every token given those before it, their sum, perplexity, and the logits if
 * wanted. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/completion/prompt.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"
#include "launcher/sample/layers.h"
#include "launcher/sample/logits_hash.h"
#include "launcher/sample/sampler.h"
#include "launcher/streams.h"
#include "planner/json.h"
#include "planner/new_file.h"

typedef struct score_job {
    const cdp_options *options;
    cdp_run *run;
    cdp_prompt prompt;
    double *logprobs;         /* (n_ids), of id i given those before it; the first has none */
    cdp_new_file logits;      /* the --logits file while it is written */
    off_t data_at;            /* where its first row lies */
    cdp_tap_set layers, taps; /* of --layers, and the states they are */
    cdp_job_figures figures;
} score_job;

/* Layers whose logits are wanted, as states; the last one's are the model's, and written twice. */
static cdp_status settle_layers(score_job *job, cdp_run *run) {
    const cdp_options *o = job->options;
    const int n = run->card->n_layers;
    if (o->layers == NULL)
        return CDP_OK;
    if (o->logits == NULL)
        return cdp_fail(CDP_USAGE, "--layers writes logits of layers: --logits FILE says where");
    CDP_TRY(cdp_layers_parse(&job->layers, o->layers, n));
    for (int layer = 0; layer < n - 1; layer++)
        if (cdp_taps_has(&job->layers, layer))
            cdp_taps_add(&job->taps, layer + 1);
    run->n_taps = cdp_taps_count(&job->taps, 0, n);
    return CDP_OK;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    score_job *job = of;
    CDP_TRY(cdp_prompt_read(&job->prompt, job->options, run->world));
    CDP_TRY(cdp_prompt_encode(&job->prompt, job->options, run->tokenizer, run->card));
    const int n = (int)job->prompt.n_ids;
    if (job->options->ctx > 0 && n > job->options->ctx)
        return cdp_fail(CDP_BAD_DATA, "the text has %d tokens, --ctx is %d: give a larger --ctx", n,
                        job->options->ctx);
    *n_tokens_out = n;
    CDP_TRY(settle_layers(job, run));
    job->logprobs = calloc(job->prompt.n_ids, sizeof *job->logprobs);
    return job->logprobs != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d log probabilities", n);
}

/* The header of a safetensors file with logits F32 (n, vocab), layer.N.logits of the same shape for each
 * layer that is wanted, and token_ids I64 (n), one behind the other. The caller frees *out, whose length is
 * *n_out. */
static cdp_status make_header(const score_job *job, char **out, size_t *n_out) {
    const unsigned long long n = job->prompt.n_ids, vocab = (unsigned long long)job->run->card->vocab;
    const unsigned long long table = n * vocab * sizeof(float);
    unsigned long long at = table;
    FILE *text = open_memstream(out, n_out);
    if (text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a header");
    fprintf(text, "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%llu,%llu],\"data_offsets\":[0,%llu]}", n, vocab,
            table);
    for (int layer = 0; layer < job->run->card->n_layers; layer++) {
        if (!cdp_taps_has(&job->layers, layer))
            continue;
        fprintf(text,
                ",\"layer.%d.logits\":{\"dtype\":\"F32\",\"shape\":[%llu,%llu],\"data_offsets\":[%llu,%llu]}",
                layer, n, vocab, at, at + table);
        at += table;
    }
    fprintf(text, ",\"token_ids\":{\"dtype\":\"I64\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]}}", n, at,
            at + n * sizeof(int64_t));
    while (ftell(text) % 8 != 0) /* readers like the data aligned */
        fputc(' ', text);
    return fclose(text) == 0 ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for a header");
}

static cdp_status begin_logits(score_job *job) {
    char *header = NULL;
    size_t n = 0;
    cdp_status st = make_header(job, &header, &n);
    const uint64_t size = n;
    if (st == CDP_OK)
        st = cdp_new_file_open(&job->logits, job->options->logits);
    errno = 0;
    if (st == CDP_OK &&
        (fwrite(&size, sizeof size, 1, job->logits.to) != 1 || fwrite(header, 1, n, job->logits.to) != n))
        st = cdp_new_file_failed(&job->logits);
    job->data_at = (off_t)(sizeof size + n);
    free(header);
    return st;
}

/* One row into its place: table 0 is the model's, table k the k-th layer's that is wanted. */
static cdp_status write_row(score_job *job, int table, int position, const float *logits) {
    const size_t vocab = (size_t)job->run->card->vocab;
    const off_t row = (off_t)table * (off_t)job->prompt.n_ids + position;
    errno = 0;
    if (fseeko(job->logits.to, job->data_at + row * (off_t)(vocab * sizeof *logits), SEEK_SET) != 0 ||
        fwrite(logits, sizeof *logits, vocab, job->logits.to) != vocab)
        return cdp_new_file_failed(&job->logits);
    return CDP_OK;
}

static cdp_status end_logits(score_job *job) {
    errno = 0;
    if (fseeko(job->logits.to, 0, SEEK_END) != 0)
        return cdp_new_file_failed(&job->logits);
    for (size_t i = 0; i < job->prompt.n_ids; i++) {
        const int64_t id = job->prompt.ids[i];
        if (fwrite(&id, sizeof id, 1, job->logits.to) != 1)
            return cdp_new_file_failed(&job->logits);
    }
    return cdp_new_file_end(&job->logits, /*is_durable=*/false);
}

static cdp_status take_row(score_job *job, int position, const float *logits) {
    const int vocab = job->run->card->vocab;
    const size_t next = (size_t)position + 1;
    job->figures.logits_hash =
        cdp_logits_hash_add(job->figures.logits_hash, cdp_logits_row_hash(logits, vocab));
    if (next < job->prompt.n_ids) {
        job->logprobs[next] = cdp_logprob(logits, vocab, job->prompt.ids[next]);
        if (isnan(job->logprobs[next]))
            return cdp_fail(CDP_BAD_DATA, "non-finite logits at position %d", position);
    }
    return CDP_OK;
}

/* The model's own row and those of the layers below it, each to its table. */
static cdp_status on_state(void *of, const cdp_row *row, int state, const float *logits, const float *hidden,
                           int *ask_out) {
    score_job *job = of;
    const int n_layers = job->run->card->n_layers;
    (void)hidden, (void)ask_out;
    if (state == n_layers) {
        CDP_TRY(take_row(job, row->position, logits));
        if (job->logits.to != NULL)
            CDP_TRY(write_row(job, 0, row->position, logits));
    }
    if (job->logits.to == NULL || !cdp_taps_has(&job->layers, state - 1))
        return CDP_OK;
    return write_row(job, 1 + cdp_taps_count(&job->layers, 0, state - 1), row->position, logits);
}

static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    (void)of, (void)row, (void)logits;
    (void)next_out; /* nothing comes after the text */
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    score_job *job = of;
    const int n = (int)job->prompt.n_ids;
    job->figures.logits_hash = CDP_LOGITS_HASH_START;
    if (job->options->logits != NULL)
        CDP_TRY(begin_logits(job));
    const int64_t began = cdp_now_ns();
    const cdp_request request = {.prompt = job->prompt.ids,
                                 .n_prompt = n,
                                 .limit = n,
                                 .wants_all = true,
                                 .taps = &job->taps,
                                 .on_state = on_state,
                                 .on_logits = on_logits,
                                 .of = job};
    CDP_TRY(cdp_engine_submit(run->engine, &request));
    CDP_TRY(cdp_engine_run(run->engine));
    job->figures.n_prompt = n;
    job->figures.first_token_s = (double)(cdp_now_ns() - began) * 1e-9;
    return job->logits.to != NULL ? end_logits(job) : CDP_OK;
}

static double sum_of(const score_job *job) {
    double sum = 0;
    for (size_t i = 1; i < job->prompt.n_ids; i++)
        sum += job->logprobs[i];
    return sum;
}

/* e^(mean negative log probability) over the tokens that have one; 1 when none has. */
static double perplexity_of(const score_job *job) {
    return job->prompt.n_ids > 1 ? exp(-sum_of(job) / (double)(job->prompt.n_ids - 1)) : 1.0;
}

static cdp_status print_json(const cdp_run *run, const score_job *job) {
    printf("{\"token_ids\": [");
    for (size_t i = 0; i < job->prompt.n_ids; i++)
        printf("%s%d", i > 0 ? ", " : "", job->prompt.ids[i]);
    printf("], \"logprobs\": [null");
    for (size_t i = 1; i < job->prompt.n_ids; i++)
        printf(", %.9g", job->logprobs[i]);
    printf("], \"sum\": %.9g, \"perplexity\": %.9g, \"logits_hash\": \"%016" PRIx64
           "\", \"timing\": {\"load_s\": %.6f, "
           "\"tokens_per_s\": %.3f}, ",
           sum_of(job), perplexity_of(job), job->figures.logits_hash, run->load_s,
           cdp_prompt_rate(&job->figures));
    return cdp_report_print_json(run, "ranks");
}

/* One line a token: id, log probability, its text. */
static void print_table(const cdp_run *run, const score_job *job) {
    for (size_t i = 0; i < job->prompt.n_ids; i++) {
        char shown[128] = "";
        size_t n = 0;
        const char *bytes =
            run->tokenizer != NULL ? cdp_tokenizer_bytes(run->tokenizer, job->prompt.ids[i], &n) : NULL;
        if (bytes != NULL)
            cdp_escape(shown, sizeof shown, bytes, n);
        if (i == 0)
            printf("%8d          -  |%s|\n", job->prompt.ids[i], shown);
        else
            printf("%8d  %9.4f  |%s|\n", job->prompt.ids[i], job->logprobs[i], shown);
    }
    printf("sum %.4f, perplexity %.4f\n", sum_of(job), perplexity_of(job));
}

cdp_status cdp_job_score(cdp_run *run, cdp_options *options, cdp_world *world) {
    score_job job = {.options = options, .run = run};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .of = &job, .opens_tokenizer = true};
    cdp_status st = cdp_run_job(run, options, world, &spec);
    if (run->rank == 0 && st == CDP_OK) {
        if (options->json)
            st = print_json(run, &job);
        else
            print_table(run, &job);
        if (st == CDP_OK && fflush(stdout) != 0)
            st = cdp_stream_failed("the result");
        cdp_report_end(run, &job.figures);
    }
    cdp_new_file_close(&job.logits);
    free(job.logprobs);
    cdp_prompt_close(&job.prompt);
    return st;
}
