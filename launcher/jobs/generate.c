/* generate: a prompt goes in, its continuation comes out as it is made. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/completion/completion.h"
#include "launcher/completion/layers.h"
#include "launcher/completion/prompt.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"
#include "planner/json.h"

typedef struct generate_job {
    const cdp_options *options;
    cdp_prompt prompt;
    cdp_sampling sampling;
    cdp_decoding decoding;
    cdp_sampler *sampler;
    cdp_completion completion;
    int limit; /* tokens the sequence may reach */
    cdp_job_figures figures;
} generate_job;

/* Through the chat template where the model has one, else as it is. */
static cdp_status encode(cdp_run *run, generate_job *job) {
    bool is_done;
    CDP_TRY(cdp_prompt_encode_chat(&job->prompt, job->options, run->tokenizer, run->card, &is_done));
    return is_done ? CDP_OK : cdp_prompt_encode(&job->prompt, job->options, run->tokenizer, run->card);
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    generate_job *job = of;
    const cdp_options *o = job->options;
    cdp_generation_card given;
    CDP_TRY(cdp_prompt_read(&job->prompt, o, run->world));
    CDP_TRY(encode(run, job));
    CDP_TRY(cdp_generation_card_read(&given, run->card->dir));
    cdp_sampling_settle(&job->sampling, o, &given, run->card->vocab);
    cdp_sampling_note(&job->sampling);
    CDP_TRY(cdp_decoding_settle(&job->decoding, o->decoding, o, run->card));
    cdp_decoding_say(&job->decoding, job->sampling.repetition_penalty);
    run->n_taps = job->decoding.n_taps;
    CDP_TRY(cdp_completion_limit(&job->limit, job->prompt.n_ids, o->max_new_tokens, o->ctx));
    *n_tokens_out = job->limit;
    return cdp_sampler_open(&job->sampler, run->card->vocab);
}

static void on_token(void *of, int32_t token) {
    const generate_job *job = of;
    if (job->options->verbose)
        cdp_layers_say_token(&job->completion, token);
}

static cdp_status generate(cdp_run *run, generate_job *job) {
    const cdp_options *o = job->options;
    const cdp_completion_request request = {.id = "",
                                            .prompt = job->prompt.ids,
                                            .n_prompt = job->prompt.n_ids,
                                            .limit = job->limit,
                                            .sampling = job->sampling,
                                            .decoding = &job->decoding,
                                            .keeps_layers = o->json || o->verbose,
                                            .stops = o->stops,
                                            .n_stops = o->n_stops,
                                            .ignores_eos = o->ignore_eos,
                                            .to = o->json ? NULL : stdout,
                                            .follows_prompt = o->echo && !o->json,
                                            .on_token = on_token,
                                            .of = job};
    CDP_TRY(cdp_completion_start(&job->completion, run, job->sampler, &request));
    return cdp_engine_run(run->engine);
}

static cdp_job_figures figures_of(const cdp_completion *c) {
    const bool has_any = c->first_ns > 0;
    return (cdp_job_figures){.n_prompt = (int)c->request.n_prompt,
                             .n_answer = c->n_tokens,
                             .first_token_s = has_any ? (double)(c->first_ns - c->began_ns) * 1e-9 : 0,
                             .answer_s = has_any ? (double)(c->ended_ns - c->first_ns) * 1e-9 : 0,
                             .logits_hash = c->logits_hash};
}

/* The prompt as it was given; ids as their text, or as they are where there is no tokenizer. */
static cdp_status echo(const cdp_run *run, const generate_job *job) {
    const cdp_prompt *p = &job->prompt;
    char *text = NULL;
    size_t n = 0;
    if (p->text != NULL) {
        fwrite(p->text, 1, p->n_text, stdout);
        return CDP_OK;
    }
    if (run->tokenizer == NULL) {
        for (size_t i = 0; i < p->n_ids; i++)
            printf("%d ", p->ids[i]);
        return CDP_OK;
    }
    CDP_TRY(cdp_tokenizer_decode(run->tokenizer, p->ids, p->n_ids, /*skip_special=*/true, &text, &n));
    fwrite(text, 1, n, stdout);
    free(text);
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    generate_job *job = of;
    if (job->options->echo && !job->options->json)
        CDP_TRY(echo(run, job));
    cdp_status st = generate(run, job);
    if (st == CDP_OK || st == CDP_STOPPED) {
        const cdp_status finished = cdp_completion_finish(&job->completion);
        st = finished != CDP_OK ? finished : st;
    }
    job->figures = figures_of(&job->completion);
    if (st == CDP_STOPPED)
        cdp_fail(CDP_STOPPED, "stopped by a signal after %d tokens", job->completion.n_tokens);
    return st;
}

static cdp_status print_json(const cdp_run *run, const generate_job *job) {
    const cdp_completion *c = &job->completion;
    printf("{\"model\": ");
    cdp_json_write_quoted(stdout, job->options->model, strlen(job->options->model));
    printf(", ");
    cdp_write_ids(stdout, "prompt_ids", job->prompt.ids, job->prompt.n_ids);
    printf(", ");
    cdp_write_ids(stdout, "token_ids", c->tokens, (size_t)c->n_tokens);
    printf(", ");
    cdp_write_text(stdout, c);
    printf(", \"finish_reason\": \"%s\"", c->finish_reason);
    if (c->logprobs != NULL) {
        printf(", ");
        cdp_write_logprobs(stdout, c);
    }
    if (c->choice != NULL) {
        printf(", ");
        cdp_write_layers(stdout, c);
    }
    const cdp_job_figures *f = &job->figures;
    printf(", \"logits_hash\": \"%016" PRIx64 "\", \"timing\": {\"load_s\": %.6f, \"first_token_s\": %.6f, "
           "\"prompt_tokens_per_s\": %.3f, \"tokens_per_s\": %.3f}, ",
           f->logits_hash, run->load_s, f->first_token_s, cdp_prompt_rate(f), cdp_answer_rate(f));
    return cdp_report_print_json(run, "ranks");
}

static void close_job(generate_job *job) {
    cdp_completion_close(&job->completion);
    cdp_sampler_close(job->sampler);
    cdp_prompt_close(&job->prompt);
}

cdp_status cdp_job_generate(cdp_run *run, cdp_options *options, cdp_world *world) {
    generate_job job = {.options = options};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .of = &job, .opens_tokenizer = true};
    cdp_status st = cdp_run_job(run, options, world, &spec);
    const bool has_run = run->rank == 0 && run->reports != NULL; /* else it was stopped before it began */
    if (has_run && (st == CDP_OK || st == CDP_STOPPED)) {
        const cdp_status printed = options->json ? print_json(run, &job) : CDP_OK;
        st = printed != CDP_OK ? printed : st;
        cdp_layers_say_summary(&job.completion);
        cdp_report_end(run, &job.figures);
    }
    close_job(&job);
    return st;
}
