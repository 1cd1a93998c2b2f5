#include "launcher/sample/dola.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ln sum e^z */
static double log_sum(const float *z, int n) {
    double m = (double)z[0];
    for (int i = 1; i < n; i++)
        m = (double)z[i] > m ? (double)z[i] : m;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)z[i] - m);
    return sum > 0 ? m + log(sum) : m;
}

/* a * (x - y), where a is the weight e^x or e^y or their mean: nothing weighs nothing. */
static double weighed(double a, double x, double y) {
    return a > 0 ? a * (x - y) : 0;
}

double cdp_dola_divergence(const float *final, const float *early, int vocab, cdp_dola_js form) {
    const double log_f = log_sum(final, vocab), log_b = log_sum(early, vocab);
    double sum = 0;
    for (int v = 0; v < vocab; v++) {
        const double ln_p = (double) final[v] - log_f, ln_q = (double)early[v] - log_b;
        const double p = exp(ln_p), q = exp(ln_q), m = (p + q) / 2, ln_m = log(m);
        sum += form == CDP_DOLA_JS_TRUE ? weighed(p, ln_p, ln_m) + weighed(q, ln_q, ln_m)
                                        : weighed(m, ln_m, ln_p) + weighed(m, ln_m, ln_q);
    }
    return form == CDP_DOLA_JS_TRUE ? sum / 2 : sum / 2 / vocab;
}

void cdp_dola_scores(float *scores, const float *final, const float *early, int vocab, double relative_top) {
    const double log_f = log_sum(final, vocab), log_b = log_sum(early, vocab);
    double best = -INFINITY;
    for (int v = 0; v < vocab; v++)
        best = (double) final[v] - log_f > best ? (double) final[v] - log_f : best;
    const double threshold = best + log(relative_top);
    for (int v = 0; v < vocab; v++) {
        const double f = (double) final[v] - log_f, b = (double)early[v] - log_b;
        scores[v] = f < threshold ? -INFINITY : (float)(f - b);
    }
}

/* "low" and "high" as transformers counts them: every second state of the lower or the upper half, 20 at
 * most. */
static void add_half(cdp_tap_set *out, bool is_low, int n, bool is_tied) {
    const int half = n / 2, start = !is_tied ? 0 : n > 2 ? 2 : n == 2 ? 1 : 0;
    const int first = is_low ? start : n <= 40 ? half : n - 20;
    const int end = !is_low ? n : n <= 40 ? half : 20;
    if (is_low && start == half)
        cdp_taps_add(out, start);
    for (int state = first; state < end; state += 2)
        cdp_taps_add(out, state);
}

/* States of a list that the model has; others are left out, as everywhere. */
static bool add_list(cdp_tap_set *out, const char *word, int n_layers) {
    for (const char *at = word;;) {
        char *end;
        const long state = strtol(at, &end, 10);
        if (end == at || *at == '-' || *at == '+' || *at == ' ' || (*end != ',' && *end != '\0'))
            return false;
        if (state < n_layers)
            cdp_taps_add(out, (int)state);
        if (*end == '\0')
            return true;
        at = end + 1;
    }
}

cdp_status cdp_dola_candidates(cdp_tap_set *out, const char *word, int n_layers, bool is_tied) {
    char shown[128];
    *out = (cdp_tap_set){0};
    if (strcmp(word, "low") == 0 || strcmp(word, "high") == 0)
        add_half(out, word[0] == 'l', n_layers, is_tied);
    else if (!add_list(out, word, n_layers))
        return cdp_fail(CDP_USAGE, "--dola-layers is \"%s\", expected low, high or a list as in 2,4,6",
                        cdp_escape(shown, sizeof shown, word, strlen(word)));
    if (cdp_taps_count(out, 0, n_layers) > 0)
        return CDP_OK;
    return cdp_fail(
        CDP_USAGE,
        "--dola-layers %s leaves no layer to compare with in a model of %d layers%s: name some of "
        "0 to %d",
        cdp_escape(shown, sizeof shown, word, strlen(word)), n_layers, is_tied ? " with a tied head" : "",
        n_layers - 1);
}
