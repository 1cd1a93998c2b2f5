#include "launcher/sample/consistency.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

cdp_status cdp_consistency_open(cdp_consistency *out, int n_layers, int hidden, double weight, double decay) {
    const size_t n = (size_t)n_layers, width = (size_t)hidden;
    *out = (cdp_consistency){.n_layers = n_layers, .hidden = hidden, .weight = weight, .decay = decay};
    out->rows = calloc(n * width, sizeof *out->rows);
    out->shares = calloc(n, sizeof *out->shares);
    out->cosines = calloc(n, sizeof *out->cosines);
    out->reference = calloc(width, sizeof *out->reference);
    if (out->rows != NULL && out->shares != NULL && out->cosines != NULL && out->reference != NULL)
        return CDP_OK;
    cdp_consistency_close(out);
    return cdp_fail(CDP_SYSTEM, "no memory for the hidden rows of %d layers", n_layers);
}

void cdp_consistency_close(cdp_consistency *c) {
    free(c->reference);
    free(c->cosines);
    free(c->shares);
    free(c->rows);
    *c = (cdp_consistency){0};
}

void cdp_consistency_start(cdp_consistency *c) {
    c->n_rows = c->n_judged = c->depth = 0;
    c->most = -INFINITY;
    c->power = 1;
}

double cdp_cosine(const float *x, const double *y, int n) {
    double xy = 0, xx = 0, yy = 0;
    for (int i = 0; i < n; i++) {
        xy += (double)x[i] * y[i];
        xx += (double)x[i] * (double)x[i];
        yy += y[i] * y[i];
    }
    return xx == 0 || yy == 0 ? 0 : xy / sqrt(xx * yy); /* one root: a row with itself is 1 to the bit */
}

static void judge(cdp_consistency *c, int depth) {
    const float *row = c->rows + (size_t)depth * (size_t)c->hidden;
    c->cosines[depth] = cdp_cosine(row, c->reference, c->hidden);
    const double score = c->weight * c->cosines[depth] - (1 - c->weight) * c->shares[depth];
    if (score >= c->most) { /* of equal ones the lowest, which comes last */
        c->most = score;
        c->depth = depth;
    }
}

/* Without a decay the reference is whole with the first row, and each layer is judged as it comes. */
int cdp_consistency_add(cdp_consistency *c, const float *hidden, double share, bool ends) {
    const int depth = c->n_rows++;
    memcpy(c->rows + (size_t)depth * (size_t)c->hidden, hidden, (size_t)c->hidden * sizeof *hidden);
    c->shares[depth] = share;
    for (int i = 0; i < c->hidden && (depth == 0 || c->decay > 0); i++)
        c->reference[i] = (depth == 0 ? 0 : c->reference[i]) + c->power * (double)hidden[i];
    c->power *= c->decay;
    if (c->decay > 0 && !ends)
        return CDP_DEPTH_UNKNOWN;
    while (c->n_judged < c->n_rows)
        judge(c, c->n_judged++);
    return c->depth;
}
