/* launcher/sample/consistency.h - the layer that is sure and points where the last one does.
 *
 *     score_i = c * cos(h_i, ref) - (1 - c) * Hn_i          ref = sum_i d^(L-1-i) h_i
 *
 * h_i is the hidden row that leaves layer i, Hn_i its entropy as a share of the most, c the weight and d the
 * decay: for d = 0 the reference is the last row alone. The largest score wins, of equal ones the lowest
 * layer; a NaN never does. Layers come from the last down without a gap; all sums are in double, in the order
 * of the row, so a row's score hangs on that row's layers and on nothing else.
 */
#pragma once

#include "kernels/status.h"

enum { CDP_DEPTH_UNKNOWN = -1 };

typedef struct cdp_consistency {
    int n_layers, hidden; /* layers at most, values of a row */
    double weight, decay;
    float *rows;       /* (n_layers, hidden), the last layer first */
    double *shares;    /* (n_layers) Hn */
    double *cosines;   /* (n_judged) */
    double *reference; /* (hidden) */
    double power;      /* of the decay, for the newest row */
    int n_rows, n_judged;
    double most; /* the best score so far, and how far below the last layer */
    int depth;
} cdp_consistency;

cdp_status cdp_consistency_open(cdp_consistency *out, int n_layers, int hidden, double weight, double decay);
void cdp_consistency_close(cdp_consistency *consistency); /* a zeroed one is fine */

/* A new token: nothing is known yet. */
void cdp_consistency_start(cdp_consistency *consistency);

/* The next layer down; `ends` with the lowest. How far below the last layer the best one so far lies; with a
 * decay CDP_DEPTH_UNKNOWN until the end. */
int cdp_consistency_add(cdp_consistency *consistency, const float *hidden, double share, bool ends);

/* x y / (|x| |y|); 0 where a row is all zeros. */
double cdp_cosine(const float *x, const double *y, int n);
