#include "launcher/sample/candidates.h"

#include <stdlib.h>
#include <string.h>

/* The bit pattern of a positive double grows with its value. Without its lowest 49 bits there remain the
 * exponent and three bits of the fraction. */
#define BITS_OF_ONE UINT64_C(0x3FF0000000000000)
enum { DROPPED_BITS = 49, N_BUCKETS = (int)(BITS_OF_ONE >> DROPPED_BITS) + 1 };

typedef struct candidate {
    int32_t id;
    double weight;
} candidate;

struct cdp_candidates {
    int n_added, n_kept;
    candidate *added;         /* by id */
    candidate *sorted;        /* by bucket; inside a bucket by id until somebody sorts it */
    int first[N_BUCKETS + 1]; /* of each bucket, in `sorted` */
    double mass[N_BUCKETS];   /* sum of the weights that stay */
    int last;                 /* bucket that holds the smallest one that stays */
};

cdp_status cdp_candidates_open(cdp_candidates **out, int n) {
    *out = NULL;
    cdp_candidates *c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->added = calloc((size_t)n, sizeof *c->added);
        c->sorted = calloc((size_t)n, sizeof *c->sorted);
    }
    if (c == NULL || c->added == NULL || c->sorted == NULL) {
        cdp_candidates_close(c);
        return cdp_fail(CDP_SYSTEM, "no memory to sample from %d tokens", n);
    }
    *out = c;
    return CDP_OK;
}

void cdp_candidates_close(cdp_candidates *c) {
    if (c == NULL)
        return;
    free(c->sorted);
    free(c->added);
    free(c);
}

void cdp_candidates_clear(cdp_candidates *c) {
    c->n_added = c->n_kept = 0;
}

void cdp_candidates_add(cdp_candidates *c, int32_t id, double weight) {
    c->added[c->n_added++] = (candidate){id, weight};
}

static int bucket_of(double weight) {
    uint64_t bits;
    if (weight >= 1)
        return 0;
    memcpy(&bits, &weight, sizeof bits);
    return (int)((BITS_OF_ONE - bits) >> DROPPED_BITS);
}

void cdp_candidates_arrange(cdp_candidates *c) {
    int next[N_BUCKETS] = {0};
    memset(c->mass, 0, sizeof c->mass);
    for (int i = 0; i < c->n_added; i++) {
        const int b = bucket_of(c->added[i].weight);
        next[b]++;
        c->mass[b] += c->added[i].weight;
    }
    int at = 0;
    for (int b = 0; b < N_BUCKETS; b++) {
        const int n = next[b];
        c->first[b] = next[b] = at;
        at += n;
        if (n > 0)
            c->last = b;
    }
    c->first[N_BUCKETS] = at;
    c->n_kept = at;
    for (int i = 0; i < c->n_added; i++)
        c->sorted[next[bucket_of(c->added[i].weight)]++] = c->added[i];
}

/* Larger first, ties by id. */
static int larger_first(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static void sort_bucket(cdp_candidates *c, int b) {
    const int n = c->first[b + 1] - c->first[b];
    if (n > 1)
        qsort(c->sorted + c->first[b], (size_t)n, sizeof *c->sorted, larger_first);
}

/* From the smallest up: a sum of small numbers first keeps them all. */
static double sum_kept(const cdp_candidates *c) {
    double sum = 0;
    for (int b = c->last; b >= 0; b--)
        sum += c->mass[b];
    return sum;
}

/* Keep the first n of bucket b, which is sorted, and what is larger. */
static void keep(cdp_candidates *c, int b, int n) {
    c->n_kept = n;
    c->last = b;
    c->mass[b] = 0;
    for (int i = c->first[b]; i < n; i++)
        c->mass[b] += c->sorted[i].weight;
}

void cdp_candidates_cut_top_p(cdp_candidates *c, double p) {
    const double limit = (1 - p) * sum_kept(c);
    double tail = 0;
    int b = c->last;
    while (b > 0 && tail + c->mass[b] <= limit)
        tail += c->mass[b--];
    sort_bucket(c, b);
    int n = c->first[b + 1];
    while (n > 1 && n > c->first[b] && tail + c->sorted[n - 1].weight <= limit)
        tail += c->sorted[--n].weight;
    while (n <= c->first[b]) /* rounding only: the bucket went token by token */
        b--;
    sort_bucket(c, b);
    keep(c, b, n);
}

void cdp_candidates_cut_min_p(cdp_candidates *c, double min_p) {
    int b = bucket_of(min_p);
    if (b > c->last)
        return;
    sort_bucket(c, b);
    int n = c->first[b + 1] < c->n_kept ? c->first[b + 1] : c->n_kept;
    while (n > 1 && n > c->first[b] && c->sorted[n - 1].weight < min_p)
        n--;
    while (n <= c->first[b])
        b--;
    sort_bucket(c, b);
    keep(c, b, n);
}

int32_t cdp_candidates_pick(cdp_candidates *c, double u) {
    const double target = u * sum_kept(c);
    double passed = 0;
    int b = 0;
    while (b < c->last && passed + c->mass[b] <= target)
        passed += c->mass[b++];
    sort_bucket(c, b);
    const int end = b == c->last ? c->n_kept : c->first[b + 1];
    int at = c->first[b];
    while (at < end - 1 && (passed += c->sorted[at].weight) <= target)
        at++;
    return c->sorted[at].id;
}

int cdp_candidates_list(cdp_candidates *c, int32_t *ids_out, double *probs_out) {
    const double sum = sum_kept(c);
    int n = 0;
    for (int b = 0; b <= c->last; b++)
        sort_bucket(c, b);
    for (; n < c->n_kept && c->sorted[n].weight / sum > 0; n++) {
        ids_out[n] = c->sorted[n].id;
        probs_out[n] = c->sorted[n].weight / sum;
    }
    return n;
}
