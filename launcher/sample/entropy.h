/* launcher/sample/entropy.h - how sure a row of logits is: H = ln Z - S / Z in nats, with m = max z,
 * Z = sum e^(z-m), S = sum (z-m) e^(z-m), in one pass after the maximum; no probability is stored. */
#pragma once

#include <stdint.h>

typedef struct cdp_certainty {
    double nats;    /* entropy; NaN when a logit is NaN or +inf, or none is above -inf */
    int32_t argmax; /* the first of the largest; -1 when a logit is NaN */
    double top;     /* probability of argmax */
} cdp_certainty;

/* A masked logit (-inf) adds nothing. Sums run in one order whatever else is computed. */
cdp_certainty cdp_certainty_of(const float *logits, int n);

/* Entropy of the k largest logits alone, k from 1 to n, as if the others were masked; NaN where that of all
 * is. room: k floats to work in. */
double cdp_nats_of_top(const float *logits, int n, int k, float *room);

double cdp_nats_to_bits(double nats);
double cdp_nats_normalised(double nats, int vocab); /* nats / ln vocab; NaN for a vocabulary of one */
