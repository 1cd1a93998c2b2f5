#include "launcher/completion/completion.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/sample/logits_hash.h"
#include "planner/json.h"

static void take_config(cdp_sampling *s, const cdp_generation_card *given) {
    if (given->do_sample) {
        s->temperature = given->temperature >= 0 ? given->temperature : 1.0;
        s->top_k = given->top_k >= 0 ? given->top_k : 0;
        s->top_p = given->top_p > 0 ? given->top_p : 1.0;
        s->min_p = given->min_p >= 0 ? given->min_p : 0.0;
    }
    if (given->repetition_penalty > 0)
        s->repetition_penalty = given->repetition_penalty;
}

void cdp_sampling_settle(cdp_sampling *out, const cdp_options *o, const cdp_generation_card *given,
                         int vocab) {
    *out = cdp_sampling_default();
    take_config(out, given);
    if (!isnan(o->temperature))
        out->temperature = o->temperature;
    if (o->top_k != INT_MIN)
        out->top_k = o->top_k;
    if (!isnan(o->top_p))
        out->top_p = o->top_p;
    if (!isnan(o->min_p))
        out->min_p = o->min_p;
    if (!isnan(o->repetition_penalty))
        out->repetition_penalty = o->repetition_penalty;
    out->presence_penalty = o->presence_penalty;
    out->frequency_penalty = o->frequency_penalty;
    out->seed = o->seed;
    out->n_logprobs = o->logprobs < vocab ? o->logprobs : vocab;
}

void cdp_sampling_note(const cdp_sampling *s) {
    cdp_note("sampling: temperature %g, top_k %d, top_p %g, min_p %g, repetition_penalty %g, seed %llu",
             s->temperature, s->top_k, s->top_p, s->min_p, s->repetition_penalty,
             (unsigned long long)s->seed);
}

cdp_status cdp_completion_limit(int *out, size_t n_prompt, int max_new_tokens, int64_t ctx) {
    const int64_t wanted = (int64_t)n_prompt + max_new_tokens;
    const int64_t limit = ctx > 0 && ctx < wanted ? ctx : wanted;
    if (limit > INT32_MAX)
        return cdp_fail(CDP_USAGE, "prompt and --max-new-tokens make %lld tokens, %d at most",
                        (long long)wanted, INT32_MAX);
    if (limit < (int64_t)n_prompt)
        return cdp_fail(CDP_BAD_DATA, "the prompt has %zu tokens, --ctx is %lld: give a larger --ctx",
                        n_prompt, (long long)ctx);
    *out = (int)limit;
    return CDP_OK;
}

static void end(void *of) {
    cdp_completion *c = of;
    if (c->finish_reason == NULL && c->fault == CDP_OK)
        c->finish_reason = "length";
    c->ended_ns = cdp_now_ns();
    if (c->request.on_end != NULL)
        c->request.on_end(c->request.of);
}

/* What concerns this completion alone is kept with it; its company goes on. */
static cdp_status keep_fault(cdp_completion *c, cdp_status st) {
    if (st != CDP_BAD_DATA && st != CDP_IO)
        return st;
    c->fault = st;
    c->fault_message = strdup(cdp_error_message());
    cdp_error_clear();
    return c->fault_message != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for a message");
}

static cdp_status keep_logprobs(cdp_completion *c, const float *logits, int32_t token) {
    const int n = c->request.sampling.n_logprobs, vocab = c->run->card->vocab;
    cdp_token_logprobs *kept = &c->logprobs[c->n_tokens];
    kept->ids = calloc((size_t)n, sizeof *kept->ids);
    kept->values = calloc((size_t)n, sizeof *kept->values);
    if (kept->ids == NULL || kept->values == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d log probabilities", n);
    kept->chosen = cdp_logprob(logits, vocab, token);
    cdp_top_logprobs(logits, vocab, n, kept->ids, kept->values);
    return CDP_OK;
}

static bool is_eos(const cdp_completion *c, int32_t token) {
    for (int i = 0; i < c->run->card->n_eos; i++)
        if (c->run->card->eos[i] == token)
            return !c->request.ignores_eos;
    return false;
}

/* One more token of the answer: does it go on? */
static cdp_status take_token(cdp_completion *c, int32_t token, int32_t *next_out) {
    if (c->n_tokens == 0)
        c->first_ns = cdp_now_ns();
    c->tokens[c->n_tokens++] = token;
    if (c->request.on_token != NULL)
        c->request.on_token(c->request.of, token);
    const bool ends = is_eos(c, token);
    CDP_TRY(cdp_answer_add(&c->answer, token, ends));
    if (ends || c->answer.is_stopped)
        c->finish_reason = "stop";
    else if (c->request.max_tokens == 0 || c->n_tokens < c->request.max_tokens)
        *next_out = token;
    return CDP_OK;
}

/* The row of the newest token is here: draw the next one. */
static cdp_status draw(cdp_completion *c, const cdp_row *row, const float *logits, int32_t *next_out) {
    const cdp_completion_request *r = &c->request;
    const cdp_history history = {r->prompt, c->tokens, r->n_prompt, (size_t)c->n_tokens};
    int32_t token;
    if (c->choice != NULL)
        logits = cdp_choice_row(c->choice);
    c->logits_hash = cdp_logits_hash_add(c->logits_hash, cdp_logits_row_hash(logits, c->run->card->vocab));
    CDP_TRY(cdp_sampler_draw(c->sampler, logits, &r->sampling, &history, r->id, row->position + 1, &token));
    if (c->logprobs != NULL)
        CDP_TRY(keep_logprobs(c, logits, token));
    return take_token(c, token, next_out);
}

static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    return keep_fault(of, draw(of, row, logits, next_out));
}

static cdp_status on_state(void *of, const cdp_row *row, int state, const float *logits, const float *hidden,
                           int *ask_out) {
    const cdp_completion *c = of;
    cdp_choice_state(c->choice, row->position + 1, state, logits, hidden, ask_out);
    return CDP_OK;
}

cdp_status cdp_completion_start(cdp_completion *out, cdp_run *run, cdp_sampler *sampler,
                                const cdp_completion_request *request) {
    *out = (cdp_completion){.request = *request,
                            .run = run,
                            .sampler = sampler,
                            .logits_hash = CDP_LOGITS_HASH_START,
                            .began_ns = cdp_now_ns()};
    const size_t room = (size_t)request->limit - request->n_prompt + 1;
    cdp_answer_start(&out->answer, run->tokenizer, request->to, request->stops, request->n_stops);
    if (request->follows_prompt)
        cdp_detokenizer_read_on(&out->answer.stream);
    out->tokens = calloc(room, sizeof *out->tokens);
    out->logprobs = request->sampling.n_logprobs > 0 ? calloc(room, sizeof *out->logprobs) : NULL;
    if (out->tokens == NULL || (request->sampling.n_logprobs > 0 && out->logprobs == NULL))
        return cdp_fail(CDP_SYSTEM, "no memory for an answer of %zu tokens", room);
    const cdp_decoding *decoding = request->decoding;
    if (decoding != NULL && decoding->kind != CDP_DECODING_STANDARD)
        CDP_TRY(cdp_choice_open(&out->choice, decoding, request->sampling.seed, request->id, (int)room,
                                request->keeps_layers));
    if ((int64_t)request->n_prompt == request->limit) { /* no room for an answer */
        end(out);
        return CDP_OK;
    }
    const cdp_request engine_request = {.prompt = request->prompt,
                                        .n_prompt = (int)request->n_prompt,
                                        .limit = request->limit,
                                        .taps = out->choice != NULL ? &decoding->taps : NULL,
                                        .head = out->choice != NULL ? decoding->head : 0,
                                        .on_state = out->choice != NULL ? on_state : NULL,
                                        .keeps = request->keeps,
                                        .on_logits = on_logits,
                                        .on_end = end,
                                        .of = out};
    return cdp_engine_submit(run->engine, &engine_request);
}

void cdp_completion_cancel(cdp_completion *c) {
    c->finish_reason = "interrupted";
    cdp_engine_cancel(c->run->engine, c);
}

cdp_status cdp_completion_finish(cdp_completion *c) {
    if (c->fault != CDP_OK)
        return cdp_fail(c->fault, "%s", c->fault_message);
    if (c->finish_reason == NULL)
        c->finish_reason = "interrupted";
    if (c->ended_ns == 0)
        c->ended_ns = cdp_now_ns();
    return cdp_answer_end(&c->answer);
}

void cdp_completion_close(cdp_completion *c) {
    for (int i = 0; c->logprobs != NULL && i < c->n_tokens; i++) {
        free(c->logprobs[i].ids);
        free(c->logprobs[i].values);
    }
    free(c->logprobs);
    cdp_choice_close(c->choice);
    free(c->tokens);
    free(c->fault_message);
    cdp_answer_close(&c->answer);
    *c = (cdp_completion){0};
}

void cdp_write_ids(FILE *to, const char *name, const int32_t *ids, size_t n) {
    fprintf(to, "\"%s\": [", name);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "%s%d", i > 0 ? ", " : "", ids[i]);
    fputs("]", to);
}

void cdp_write_text(FILE *to, const cdp_completion *c) {
    fputs("\"text\": ", to);
    cdp_write_text_value(to, c);
}

void cdp_write_text_value(FILE *to, const cdp_completion *c) {
    if (!c->answer.has_tokenizer) {
        fputs("null", to);
        return;
    }
    cdp_json_write_quoted(to, c->answer.text != NULL ? c->answer.text : "", c->answer.n_text);
}

void cdp_write_logprobs(FILE *to, const cdp_completion *c) {
    fputs("\"logprobs\": [", to);
    for (int i = 0; i < c->n_tokens; i++) {
        const cdp_token_logprobs *kept = &c->logprobs[i];
        fprintf(to, "%s{\"id\": %d, \"logprob\": %.9g, \"top\": [", i > 0 ? ", " : "", c->tokens[i],
                kept->chosen);
        for (int k = 0; k < c->request.sampling.n_logprobs; k++)
            fprintf(to, "%s[%d, %.9g]", k > 0 ? ", " : "", kept->ids[k], kept->values[k]);
        fputs("]}", to);
    }
    fputs("]", to);
}
