/* launcher/sample/dola.h - decoding by contrasting layers: what the last row says beyond an early one.
 *
 *     F   the model's logits          f = log softmax F        kept: f >= max f + ln(relative_top)
 *     B_i the logits of state i       b = log softmax B_s      scores = f - b where kept, else -inf
 *     s   the candidate that differs most from F
 *
 * States are numbered as in kernels/step.h: 0 enters the first layer, N is the model's own row.
 */
#pragma once

#include "kernels/status.h"
#include "kernels/step.h"

typedef enum cdp_dola_js {
    CDP_DOLA_JS_TRUE, /* 1/2 [KL(P||M) + KL(Q||M)], summed over the vocabulary */
    CDP_DOLA_JS_HF,   /* transformers' form: KL(M||P) + KL(M||Q), the mean over the vocabulary */
} cdp_dola_js;

/* How much the early row differs from the final one. */
double cdp_dola_divergence(const float *final, const float *early, int vocab, cdp_dola_js form);

/* scores (vocab) of final and early row; `scores` may be `final`. At least one is kept. */
void cdp_dola_scores(float *scores, const float *final, const float *early, int vocab, double relative_top);

/* The candidates of "low", "high" or "2,4,6" for a model of n_layers. CDP_USAGE when the word is none of
 * these or when no candidate is left. */
cdp_status cdp_dola_candidates(cdp_tap_set *out, const char *word, int n_layers, bool is_tied);
