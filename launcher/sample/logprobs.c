#include <math.h>

#include "launcher/sample/sampler.h"

/* ln sum e^z, in double, from the largest down. */
static double log_sum_exp(const float *logits, int vocab) {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < vocab; i++)
        largest = logits[i] > largest ? (double)logits[i] : largest;
    if (!isfinite(largest))
        return NAN;
    for (int i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - largest);
    return largest + log(sum);
}

double cdp_logprob(const float *logits, int vocab, int32_t id) {
    return (double)logits[id] - log_sum_exp(logits, vocab);
}

/* Insertion into a short sorted list: n is small, most values fail the first comparison. */
void cdp_top_logprobs(const float *logits, int vocab, int n, int32_t *ids_out, double *logprobs_out) {
    const double total = log_sum_exp(logits, vocab);
    int found = 0;
    for (int id = 0; id < vocab; id++) {
        const double value = (double)logits[id] - total;
        if (found == n && !(value > logprobs_out[n - 1]))
            continue;
        int at = found < n ? found++ : n - 1;
        for (; at > 0 && value > logprobs_out[at - 1]; at--) {
            logprobs_out[at] = logprobs_out[at - 1];
            ids_out[at] = ids_out[at - 1];
        }
        logprobs_out[at] = value;
        ids_out[at] = id;
    }
}
