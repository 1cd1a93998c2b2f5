/* chat: a conversation, line by line. What the model has read stays in its cache: a turn computes only what
 * the template makes new. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/jobs/chat.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"
#include "launcher/sample/logits_hash.h"

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    cdp_chat_job *job = of;
    const cdp_options *o = job->options;
    cdp_generation_card given;
    if (run->tokenizer == NULL)
        return cdp_fail(CDP_NO_INPUT, "%s has no tokenizer.json: a chat needs one", o->model);
    CDP_TRY(cdp_chat_open(&job->template, o->model));
    if (o->system != NULL)
        CDP_TRY(cdp_messages_add(&job->messages, "system", o->system, strlen(o->system)));
    CDP_TRY(cdp_generation_card_read(&given, run->card->dir));
    cdp_sampling_settle(&job->sampling, o, &given, run->card->vocab);
    cdp_sampling_note(&job->sampling);
    CDP_TRY(cdp_decoding_settle(&job->decoding, o->decoding, o, run->card));
    cdp_decoding_say(&job->decoding, job->sampling.repetition_penalty);
    run->n_taps = job->decoding.n_taps;
    *n_tokens_out = (int)run->card->max_positions;
    return cdp_sampler_open(&job->sampler, run->card->vocab);
}

/* The conversation as ids, with room for at least one token of an answer. */
static cdp_status encode(cdp_chat_job *job, int32_t **ids_out, size_t *n_out) {
    char *json = NULL;
    cdp_conversation c = {.more = NULL};
    CDP_TRY(cdp_messages_json(&job->messages, &json, &c.n_messages));
    c.messages = json;
    cdp_status st = cdp_chat_encode(job->template, &c, job->run->tokenizer, ids_out, n_out);
    free(json);
    const int ctx = job->run->plan->run.ctx;
    if (st == CDP_OK && *n_out >= (size_t)ctx)
        st = cdp_fail(CDP_BAD_DATA, "the conversation has %zu tokens, there is room for %d: /reset", *n_out,
                      ctx);
    else if (st == CDP_OK && *n_out == 0)
        st = cdp_fail(CDP_BAD_DATA, "the chat template makes nothing of the conversation");
    return st;
}

static void note_end(void *of) {
    *(bool *)of = true;
}

/* Turn the engine until the answer has ended; Ctrl-C ends it early. */
static cdp_status wait_for_answer(cdp_chat_job *job, cdp_completion *c, const bool *has_ended) {
    while (!*has_ended || !cdp_engine_is_idle(job->run->engine)) {
        if (cdp_stop_wanted())
            return cdp_fail(CDP_STOPPED, "stopped by a signal");
        if (cdp_lines_take_interrupt(job->lines) && !*has_ended)
            cdp_completion_cancel(c);
        CDP_TRY(cdp_engine_turn(job->run->engine));
    }
    return CDP_OK;
}

static void count(cdp_chat_job *job, const cdp_completion *c, uint64_t n_reused) {
    cdp_job_figures *f = &job->figures;
    const bool has_any = c->first_ns > 0;
    job->n_turns++;
    job->last = (cdp_chat_turn){.n_prompt = (int)c->request.n_prompt,
                                .n_kept = (int)n_reused,
                                .n_answer = c->n_tokens,
                                .first_token_s = has_any ? (double)(c->first_ns - c->began_ns) * 1e-9 : 0,
                                .answer_s = has_any ? (double)(c->ended_ns - c->first_ns) * 1e-9 : 0};
    f->n_prompt += job->last.n_prompt - job->last.n_kept;
    f->n_answer += job->last.n_answer;
    f->first_token_s += job->last.first_token_s;
    f->answer_s += job->last.answer_s;
    f->logits_hash = cdp_logits_hash_add(f->logits_hash, c->logits_hash);
}

static cdp_status answer(cdp_chat_job *job, const int32_t *ids, size_t n_ids) {
    const cdp_options *o = job->options;
    const bool is_bounded = cdp_options_origin(o, "max-new-tokens") != CDP_FROM_DEFAULT;
    const uint64_t before = cdp_engine_n_reused(job->run->engine);
    bool has_ended = false;
    cdp_completion c = {.tokens = NULL};
    const cdp_completion_request request = {.id = "",
                                            .prompt = ids,
                                            .n_prompt = n_ids,
                                            .limit = job->run->plan->run.ctx,
                                            .max_tokens = is_bounded ? o->max_new_tokens : 0,
                                            .keeps = true,
                                            .sampling = job->sampling,
                                            .decoding = &job->decoding,
                                            .stops = o->stops,
                                            .n_stops = o->n_stops,
                                            .ignores_eos = o->ignore_eos,
                                            .to = stdout,
                                            .on_end = note_end,
                                            .of = &has_ended};
    cdp_status st = cdp_completion_start(&c, job->run, job->sampler, &request);
    if (st == CDP_OK)
        st = wait_for_answer(job, &c, &has_ended);
    if (st == CDP_OK)
        st = cdp_completion_finish(&c);
    if (st == CDP_OK) {
        count(job, &c, cdp_engine_n_reused(job->run->engine) - before);
        st = cdp_messages_add(&job->messages, "assistant", c.answer.text != NULL ? c.answer.text : "",
                              c.answer.n_text);
    }
    cdp_completion_close(&c);
    return st;
}

/* A message of the user and its answer; a turn that fails leaves the conversation as it was. */
static cdp_status take_turn(cdp_chat_job *job, const char *text, size_t n) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    const int before = job->messages.n;
    CDP_TRY(cdp_messages_add(&job->messages, "user", text, n));
    cdp_status st = encode(job, &ids, &n_ids);
    if (st == CDP_OK)
        st = answer(job, ids, n_ids);
    free(ids);
    if (st != CDP_OK)
        cdp_messages_cut(&job->messages, before);
    return st;
}

/* On a terminal what concerns one line is said, and the conversation goes on. */
static cdp_status forgive(const cdp_chat_job *job, cdp_status st) {
    if (!cdp_lines_is_terminal(job->lines) ||
        (st != CDP_BAD_DATA && st != CDP_NO_INPUT && st != CDP_USAGE && !(st == CDP_IO && job->is_command)))
        return st;
    fprintf(stderr, "cdpipe: error: %s\n", cdp_error_message());
    cdp_error_clear();
    return CDP_OK;
}

static cdp_status idle(void *of) {
    const cdp_chat_job *job = of;
    return cdp_engine_turn(job->run->engine);
}

static cdp_status converse(cdp_chat_job *job) {
    for (;;) {
        const char *line;
        size_t n;
        bool is_over = false;
        CDP_TRY(cdp_lines_next(job->lines, &line, &n));
        if (line == NULL)
            return CDP_OK;
        if (strspn(line, " \t") == n)
            continue;
        job->is_command = line[0] == '/';
        CDP_TRY(
            forgive(job, job->is_command ? cdp_chat_command(job, line, &is_over) : take_turn(job, line, n)));
        if (is_over)
            return CDP_OK;
    }
}

static cdp_status work(cdp_run *run, void *of) {
    cdp_chat_job *job = of;
    job->run = run;
    job->figures.logits_hash = CDP_LOGITS_HASH_START;
    if (job->options->ctx == 0 && run->plan->run.ctx < run->card->max_positions)
        cdp_note("ctx %d is what fits of the model's %d; --ctx N asks for another", run->plan->run.ctx,
                 (int)run->card->max_positions);
    CDP_TRY(cdp_lines_open(&job->lines, "> ", idle, job));
    if (cdp_lines_is_terminal(job->lines))
        cdp_note("Ctrl-C stops an answer, Ctrl-D or /exit ends; /help lists the commands");
    const cdp_status st = converse(job);
    cdp_lines_close(job->lines); /* gives the terminal its state back */
    job->lines = NULL;
    return st;
}

cdp_status cdp_job_chat(cdp_run *run, cdp_options *options, cdp_world *world) {
    cdp_chat_job job = {.options = options};
    const cdp_job_spec spec = {
        .prepare = prepare, .work = work, .of = &job, .ctx_is_limit = true, .opens_tokenizer = true};
    const cdp_status st = cdp_run_job(run, options, world, &spec);
    if (run->rank == 0 && (st == CDP_OK || st == CDP_STOPPED) && job.n_turns > 0)
        cdp_report_end(run, &job.figures);
    cdp_sampler_close(job.sampler);
    cdp_messages_close(&job.messages);
    cdp_chat_close(job.template);
    return st;
}
