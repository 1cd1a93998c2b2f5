/* launcher/completion/completion.h - the life of one completion: prompt ids in; tokens, text, figures out.
 *
 *     prompt ids --start--> engine --row of logits--> draw --token--> text, stop texts, eos --> ended
 *                              ^                        |
 *                              +-------- next token ----+
 *
 * generate runs one, batch and chat as many as the engine has room for. The token drawn at a position depends
 * on the logits, the sampling parameters, (seed, id) and the position, never on the company. Rank 0 only.
 */
#pragma once

#include "launcher/completion/answer.h"
#include "launcher/run.h"
#include "launcher/sample/decoding.h"
#include "launcher/sample/sampler.h"

/* What is asked for. Nothing is owned; all of it outlives the completion. */
typedef struct cdp_completion_request {
    const char *id; /* random numbers hang on (seed, id); "" for generate */
    const int32_t *prompt;
    size_t n_prompt;              /* at least 1 */
    int limit;                    /* tokens it may reach, prompt and answer: cdp_completion_limit */
    int max_tokens;               /* of the answer alone; 0: up to the limit */
    bool keeps;                   /* its cache stays for the next one that says so: cdp_request.keeps */
    cdp_sampling sampling;        /* n_logprobs at most the vocabulary */
    const cdp_decoding *decoding; /* NULL: standard */
    bool keeps_layers;            /* keep entropies and argmax of every layer looked at */
    const char *const *stops;
    int n_stops;
    bool ignores_eos;
    FILE *to;                                  /* the text goes there as it grows; NULL: nowhere */
    bool follows_prompt;                       /* and there the prompt stands already: it reads on from it */
    void (*on_token)(void *of, int32_t token); /* one more token, before on_end; may be NULL */
    void (*on_end)(void *of); /* it has ended by itself, or by a fault of its own; may be NULL */
    void *of;
} cdp_completion_request;

typedef struct cdp_token_logprobs {
    double chosen;
    int32_t *ids;   /* (n_logprobs) the likeliest, largest first */
    double *values; /* (n_logprobs) */
} cdp_token_logprobs;

typedef struct cdp_completion {
    cdp_completion_request request;
    cdp_run *run;
    cdp_sampler *sampler;
    cdp_choice *choice; /* NULL for standard decoding */
    cdp_answer answer;  /* the text, without the final eos, up to a stop text */
    int32_t *tokens;    /* (n_tokens) the answer's ids, the final eos too */
    int n_tokens;
    cdp_token_logprobs *logprobs; /* (n_tokens), NULL where none are wanted */
    uint64_t logits_hash;         /* over the rows that were drawn from */
    const char *finish_reason;    /* "stop", "length", "interrupted"; NULL while it runs or after a fault */
    cdp_status fault; /* of this completion alone: CDP_BAD_DATA non-finite logits, CDP_IO no reader */
    char *fault_message;
    int64_t began_ns, first_ns, ended_ns; /* 0: not yet */
} cdp_completion;

/* How tokens are drawn: each value from the options where they give it, else from generation_config.json,
 * else off. The options of a batch line are the command line's with what the line sets. */
void cdp_sampling_settle(cdp_sampling *out, const cdp_options *options, const cdp_generation_card *given,
                         int vocab);

/* The `#` line that shows it. */
void cdp_sampling_note(const cdp_sampling *sampling);

/* Tokens that prompt and answer may reach: n_prompt + max_new_tokens, cut at ctx (0: no cut). CDP_BAD_DATA
 * when the prompt alone is longer than ctx, CDP_USAGE when the sum is beyond what can be counted. */
cdp_status cdp_completion_limit(int *out, size_t n_prompt, int max_new_tokens, int64_t ctx);

/* Hand the request to the engine; turn that to get on. sampler is shared by all completions of a run. A
 * request without room for an answer has ended when this returns (on_end was called). The caller closes *out,
 * which must stay where it is, in every case, but only after the engine has let go of it: when it has ended
 * or no turn follows. */
cdp_status cdp_completion_start(cdp_completion *out, cdp_run *run, cdp_sampler *sampler,
                                const cdp_completion_request *request);

/* End it before its time, "interrupted": on_end is called now, or when the token on its way is home. */
void cdp_completion_cancel(cdp_completion *completion);

/* Print what the text holds back; after on_end, or when the run was stopped ("interrupted"). The fault of the
 * completion, if it had one. */
cdp_status cdp_completion_finish(cdp_completion *completion);

/* A zeroed one is fine. */
void cdp_completion_close(cdp_completion *completion);

/* "NAME": [1, 2, 3] */
void cdp_write_ids(FILE *to, const char *name, const int32_t *ids, size_t n);

/* "text": "..." or null where there is no tokenizer; and the value alone. */
void cdp_write_text(FILE *to, const cdp_completion *completion);
void cdp_write_text_value(FILE *to, const cdp_completion *completion);

/* "logprobs": [{"id", "logprob", "top": [[id, logprob], ..]}, ..] */
void cdp_write_logprobs(FILE *to, const cdp_completion *completion);
