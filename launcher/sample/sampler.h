/* launcher/sample/sampler.h - from a row of logits to the next token. Rank 0 only.
 *
 * Order: repetition, presence and frequency penalty, temperature, top-k, top-p, min-p, softmax. The random
 * number is a pure function of (seed, id of the sequence, position, purpose), so a resumed or re-ordered run
 * draws the same tokens. All arithmetic on probabilities is in double; ties go to the lowest id.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

/* A parameter that is off holds the value named. */
typedef struct cdp_sampling {
    double temperature;        /* 0: greedy */
    int top_k;                 /* 0: off */
    double top_p;              /* 1: off */
    double min_p;              /* 0: off */
    double repetition_penalty; /* 1: off; prompt and answer, once per id: z < 0 ? z * r : z / r */
    double presence_penalty;   /* 0: off; answer only: z - count * frequency - (count > 0) * presence */
    double frequency_penalty;  /* 0: off */
    uint64_t seed;
    int n_logprobs; /* alternatives reported; 0: none */
} cdp_sampling;

/* All off, greedy. */
cdp_sampling cdp_sampling_default(void);

/* What has been seen: ids of the prompt and of the answer so far. */
typedef struct cdp_history {
    const int32_t *prompt, *answer;
    size_t n_prompt, n_answer;
} cdp_history;

typedef struct cdp_sampler cdp_sampler; /* owns the working arrays of one vocabulary size */

cdp_status cdp_sampler_open(cdp_sampler **out, int vocab);
void cdp_sampler_close(cdp_sampler *sampler); /* NULL is fine */

/* Draw the token for `position` of the sequence `id` ("" for generate). logits: (vocab) f32, left as they
 * are. Non-finite logits (a NaN, +inf, or nothing above -inf): CDP_BAD_DATA "non-finite logits"; the same
 * where penalties make an infinity of the largest. Ids of the history outside the vocabulary are passed over.
 */
cdp_status cdp_sampler_draw(cdp_sampler *sampler, const float *logits, const cdp_sampling *sampling,
                            const cdp_history *history, const char *id, int64_t position, int32_t *token_out);

/* The distribution the draw would use: ids and probabilities, largest first (ties by id), into arrays of size
 * vocab; *n_out entries are not 0. */
cdp_status cdp_sampler_distribution(cdp_sampler *sampler, const float *logits, const cdp_sampling *sampling,
                                    const cdp_history *history, int32_t *ids_out, double *probs_out,
                                    int *n_out);

/* log softmax of the raw row (after no temperature, before penalties) at one id, natural logarithm. */
double cdp_logprob(const float *logits, int vocab, int32_t id);

/* The n likeliest ids (n <= vocab) and their log probabilities, largest first, ties by id. */
void cdp_top_logprobs(const float *logits, int vocab, int n, int32_t *ids_out, double *logprobs_out);

/* A number in [0, 1) that depends on its arguments alone. purpose separates draws of one position. */
double cdp_random_unit(uint64_t seed, const char *id, int64_t position, int purpose);
