/* generate: a prompt goes in, its continuation comes out as it is made. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/jobs/answer.h"
#include "launcher/jobs/jobs.h"
#include "launcher/jobs/prompt.h"
#include "launcher/report.h"
#include "launcher/sample/logits_hash.h"
#include "launcher/sample/sampler.h"
#include "planner/json.h"

typedef struct token_logprobs {
    double chosen;
    int32_t *ids; /* (n_logprobs) */
    double *values;
} token_logprobs;

typedef struct generate_job {
    const cdp_options *options;
    cdp_prompt prompt;
    cdp_sampling sampling;
    cdp_sampler *sampler;
    cdp_answer answer;
    int limit;       /* tokens the sequence may reach */
    int32_t *tokens; /* the answer's ids, the final eos too */
    int n_tokens;
    token_logprobs *logprobs;
    cdp_job_figures figures;
    const char *finish_reason;
    cdp_run *run;
    int64_t began_ns, first_ns;
} generate_job;

/* Each value: command line, else generation_config.json, else off. */
static cdp_status settle_sampling(generate_job *job, const cdp_model_card *card) {
    const cdp_options *o = job->options;
    cdp_generation_card given;
    CDP_TRY(cdp_generation_card_read(&given, card->dir));
    cdp_sampling *s = &job->sampling;
    *s = cdp_sampling_default();
    if (given.do_sample) {
        s->temperature = given.temperature >= 0 ? given.temperature : 1.0;
        s->top_k = given.top_k >= 0 ? given.top_k : 0;
        s->top_p = given.top_p > 0 ? given.top_p : 1.0;
        s->min_p = given.min_p >= 0 ? given.min_p : 0.0;
    }
    if (given.repetition_penalty > 0)
        s->repetition_penalty = given.repetition_penalty;
    if (!isnan(o->temperature))
        s->temperature = o->temperature;
    if (o->top_k != INT_MIN)
        s->top_k = o->top_k;
    if (!isnan(o->top_p))
        s->top_p = o->top_p;
    if (!isnan(o->min_p))
        s->min_p = o->min_p;
    if (!isnan(o->repetition_penalty))
        s->repetition_penalty = o->repetition_penalty;
    s->presence_penalty = o->presence_penalty;
    s->frequency_penalty = o->frequency_penalty;
    s->seed = o->seed;
    s->n_logprobs = o->logprobs < card->vocab ? o->logprobs : card->vocab;
    cdp_note("sampling: temperature %g, top_k %d, top_p %g, min_p %g, repetition_penalty %g, seed %llu",
             s->temperature, s->top_k, s->top_p, s->min_p, s->repetition_penalty,
             (unsigned long long)s->seed);
    return CDP_OK;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    generate_job *job = of;
    const cdp_options *o = job->options;
    CDP_TRY(cdp_prompt_read(&job->prompt, o));
    CDP_TRY(cdp_prompt_encode(&job->prompt, o, run->tokenizer, run->card));
    CDP_TRY(settle_sampling(job, run->card));
    const int64_t wanted = (int64_t)job->prompt.n_ids + o->max_new_tokens;
    const int64_t ctx = o->ctx > 0 ? o->ctx : wanted;
    if (wanted > INT32_MAX)
        return cdp_fail(CDP_USAGE, "prompt and --max-new-tokens make %lld tokens, %d at most",
                        (long long)wanted, INT32_MAX);
    if ((int64_t)job->prompt.n_ids > ctx)
        return cdp_fail(CDP_BAD_DATA, "the prompt has %zu tokens, --ctx is %lld", job->prompt.n_ids,
                        (long long)ctx);
    job->limit = (int)(wanted < ctx ? wanted : ctx);
    *n_tokens_out = job->limit;
    const size_t room = (size_t)(job->limit - (int)job->prompt.n_ids) + 1;
    job->tokens = calloc(room, sizeof *job->tokens);
    job->logprobs = o->logprobs > 0 ? calloc(room, sizeof *job->logprobs) : NULL;
    if (job->tokens == NULL || (o->logprobs > 0 && job->logprobs == NULL))
        return cdp_fail(CDP_SYSTEM, "no memory for an answer of %zu tokens", room);
    if (o->raw == false && run->tokenizer != NULL && cdp_model_has_chat_template(o->model))
        cdp_note(
            "the model has a chat template, which cannot be used yet: the prompt is sent as it is (--raw)");
    return cdp_sampler_open(&job->sampler, run->card->vocab);
}

static cdp_status keep_logprobs(generate_job *job, const float *logits, int32_t token) {
    const int n = job->sampling.n_logprobs, vocab = job->run->card->vocab;
    token_logprobs *kept = &job->logprobs[job->n_tokens];
    kept->ids = calloc((size_t)n, sizeof *kept->ids);
    kept->values = calloc((size_t)n, sizeof *kept->values);
    if (kept->ids == NULL || kept->values == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d log probabilities", n);
    kept->chosen = cdp_logprob(logits, vocab, token);
    cdp_top_logprobs(logits, vocab, n, kept->ids, kept->values);
    return CDP_OK;
}

static bool is_eos(const generate_job *job, int32_t token) {
    for (int i = 0; i < job->run->card->n_eos; i++)
        if (job->run->card->eos[i] == token)
            return !job->options->ignore_eos;
    return false;
}

/* The row of the newest token is here: draw the next one. */
static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    generate_job *job = of;
    const int vocab = job->run->card->vocab;
    job->figures.logits_hash =
        cdp_logits_hash_add(job->figures.logits_hash, cdp_logits_row_hash(logits, vocab));
    const cdp_history history = {job->prompt.ids, job->tokens, job->prompt.n_ids, (size_t)job->n_tokens};
    int32_t token;
    CDP_TRY(cdp_sampler_draw(job->sampler, logits, &job->sampling, &history, "", row->position + 1, &token));
    if (job->logprobs != NULL)
        CDP_TRY(keep_logprobs(job, logits, token));
    if (job->n_tokens == 0)
        job->first_ns = cdp_now_ns();
    job->tokens[job->n_tokens++] = token;
    const bool ends = is_eos(job, token);
    CDP_TRY(cdp_answer_add(&job->answer, token, ends));
    if (ends || job->answer.is_stopped)
        job->finish_reason = "stop";
    else
        *next_out = token;
    return CDP_OK;
}

static cdp_status generate(cdp_run *run, generate_job *job) {
    const int n_prompt = (int)job->prompt.n_ids;
    const cdp_request request = {.prompt = job->prompt.ids,
                                 .n_prompt = n_prompt,
                                 .limit = job->limit,
                                 .on_logits = on_logits,
                                 .of = job};
    job->began_ns = cdp_now_ns();
    if (n_prompt < job->limit) { /* else there is no room for an answer */
        CDP_TRY(cdp_engine_submit(run->engine, &request));
        CDP_TRY(cdp_engine_run(run->engine));
    }
    if (job->finish_reason == NULL)
        job->finish_reason = "length";
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    generate_job *job = of;
    job->run = run;
    job->figures.logits_hash = CDP_LOGITS_HASH_START;
    cdp_answer_start(&job->answer, run->tokenizer, job->options->json ? NULL : stdout, job->options->stops,
                     job->options->n_stops);
    if (job->options->echo && !job->options->json && job->prompt.text != NULL)
        fwrite(job->prompt.text, 1, job->prompt.n_text, stdout);
    cdp_status st = generate(run, job);
    if (st == CDP_STOPPED)
        job->finish_reason = "interrupted";
    if (st == CDP_OK || st == CDP_STOPPED) {
        const cdp_status ended = cdp_answer_end(&job->answer);
        st = ended != CDP_OK ? ended : st;
    }
    const int64_t now = cdp_now_ns();
    job->figures.n_prompt = (int)job->prompt.n_ids;
    job->figures.n_answer = job->n_tokens;
    job->figures.first_token_s = job->first_ns > 0 ? (double)(job->first_ns - job->began_ns) * 1e-9 : 0;
    job->figures.answer_s = job->first_ns > 0 ? (double)(now - job->first_ns) * 1e-9 : 0;
    if (st == CDP_STOPPED)
        cdp_fail(CDP_STOPPED, "stopped by a signal after %d tokens", job->n_tokens);
    return st;
}

static void print_ids(const char *name, const int32_t *ids, size_t n) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i > 0 ? ", " : "", ids[i]);
    printf("]");
}

static void print_logprobs(const generate_job *job) {
    printf(", \"logprobs\": [");
    for (int i = 0; i < job->n_tokens; i++) {
        const token_logprobs *kept = &job->logprobs[i];
        printf("%s{\"id\": %d, \"logprob\": %.9g, \"top\": [", i > 0 ? ", " : "", job->tokens[i],
               kept->chosen);
        for (int k = 0; k < job->sampling.n_logprobs; k++)
            printf("%s[%d, %.9g]", k > 0 ? ", " : "", kept->ids[k], kept->values[k]);
        printf("]}");
    }
    printf("]");
}

static cdp_status print_json(const cdp_run *run, const generate_job *job) {
    printf("{\"model\": \"");
    cdp_json_write_string(stdout, job->options->model, strlen(job->options->model));
    printf("\", ");
    print_ids("prompt_ids", job->prompt.ids, job->prompt.n_ids);
    printf(", ");
    print_ids("token_ids", job->tokens, (size_t)job->n_tokens);
    printf(", \"text\": ");
    if (job->answer.has_tokenizer) {
        printf("\"");
        cdp_json_write_string(stdout, job->answer.text != NULL ? job->answer.text : "", job->answer.n_text);
        printf("\"");
    } else {
        printf("null");
    }
    printf(", \"finish_reason\": \"%s\"", job->finish_reason);
    if (job->logprobs != NULL)
        print_logprobs(job);
    const cdp_job_figures *f = &job->figures;
    printf(", \"logits_hash\": \"%016" PRIx64 "\", \"timing\": {\"load_s\": %.6f, \"first_token_s\": %.6f, "
           "\"prompt_tokens_per_s\": %.3f, \"tokens_per_s\": %.3f}, ",
           f->logits_hash, run->load_s, f->first_token_s, cdp_prompt_rate(f), cdp_answer_rate(f));
    return cdp_report_print_json(run);
}

static void close_job(generate_job *job) {
    for (int i = 0; job->logprobs != NULL && i < job->n_tokens; i++) {
        free(job->logprobs[i].ids);
        free(job->logprobs[i].values);
    }
    free(job->logprobs);
    free(job->tokens);
    cdp_sampler_close(job->sampler);
    cdp_answer_close(&job->answer);
    cdp_prompt_close(&job->prompt);
}

cdp_status cdp_job_generate(cdp_run *run, cdp_options *options, cdp_world *world) {
    generate_job job = {.options = options, .run = run};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .of = &job, .opens_tokenizer = true};
    cdp_status st = cdp_run_job(run, options, world, &spec);
    if (run->rank == 0 && (st == CDP_OK || st == CDP_STOPPED)) {
        if (options->json && print_json(run, &job) != CDP_OK)
            st = CDP_IO;
        cdp_report_end(run, &job.figures);
    }
    close_job(&job);
    return st;
}
