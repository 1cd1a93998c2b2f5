#include "launcher/sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PURPOSE_TOKEN = 0 };

typedef struct candidate {
    int32_t id;
    double z; /* logit after penalties and temperature, then probability */
} candidate;

struct cdp_sampler {
    int vocab;
    double *z;             /* (vocab) */
    int32_t *counts;       /* (vocab) times in the answer; all 0 between calls */
    bool *is_seen;         /* (vocab) in prompt or answer; all false between calls */
    candidate *candidates; /* (vocab) */
};

cdp_sampling cdp_sampling_default(void) {
    return (cdp_sampling){.temperature = 0, .top_p = 1, .repetition_penalty = 1};
}

cdp_status cdp_sampler_open(cdp_sampler **out, int vocab) {
    *out = NULL;
    cdp_sampler *s = calloc(1, sizeof *s);
    const size_t n = (size_t)vocab;
    if (s != NULL) {
        s->vocab = vocab;
        s->z = calloc(n, sizeof *s->z);
        s->counts = calloc(n, sizeof *s->counts);
        s->is_seen = calloc(n, sizeof *s->is_seen);
        s->candidates = calloc(n, sizeof *s->candidates);
    }
    if (s == NULL || s->z == NULL || s->counts == NULL || s->is_seen == NULL || s->candidates == NULL) {
        cdp_sampler_close(s);
        return cdp_fail(CDP_SYSTEM, "no memory to sample from %d tokens", vocab);
    }
    *out = s;
    return CDP_OK;
}

void cdp_sampler_close(cdp_sampler *s) {
    if (s == NULL)
        return;
    free(s->candidates);
    free(s->is_seen);
    free(s->counts);
    free(s->z);
    free(s);
}

static cdp_status load(cdp_sampler *s, const float *logits) {
    double largest = -INFINITY;
    for (int i = 0; i < s->vocab; i++) {
        s->z[i] = (double)logits[i];
        if (isnan(logits[i]) || s->z[i] == INFINITY)
            return cdp_fail(CDP_BAD_DATA, "non-finite logits: id %d has %g", i, s->z[i]);
        largest = s->z[i] > largest ? s->z[i] : largest;
    }
    return largest > -INFINITY ? CDP_OK : cdp_fail(CDP_BAD_DATA, "non-finite logits: every id has -inf");
}

/* Repetition looks at prompt and answer, once per id; presence and frequency at the answer alone. */
static void penalise(cdp_sampler *s, const cdp_sampling *p, const cdp_history *h) {
    if (p->repetition_penalty == 1 && p->presence_penalty == 0 && p->frequency_penalty == 0)
        return;
    for (size_t i = 0; i < h->n_prompt + h->n_answer; i++) {
        const int32_t id = i < h->n_prompt ? h->prompt[i] : h->answer[i - h->n_prompt];
        s->counts[id] += i >= h->n_prompt;
        s->is_seen[id] = true;
    }
    for (int id = 0; id < s->vocab; id++) {
        if (!s->is_seen[id])
            continue;
        s->z[id] = s->z[id] < 0 ? s->z[id] * p->repetition_penalty : s->z[id] / p->repetition_penalty;
        s->z[id] -= s->counts[id] * p->frequency_penalty + (s->counts[id] > 0) * p->presence_penalty;
        s->counts[id] = 0;
        s->is_seen[id] = false;
    }
}

/* Larger first, ties by id. */
static int larger_first(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->z != y->z)
        return x->z > y->z ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The k-th largest z: a heap of the k best so far, smallest on top. */
static double kth_largest(const double *z, int vocab, int k, double *heap) {
    int n = 0;
    for (int i = 0; i < vocab; i++) {
        if (n < k) {
            heap[n++] = z[i];
            if (n == k)
                qsort(heap, (size_t)k, sizeof *heap, ascending); /* a sorted array is a heap */
            continue;
        }
        if (z[i] <= heap[0])
            continue;
        int at = 0;
        for (int child = 1; child < k; child = 2 * at + 1) {
            if (child + 1 < k && heap[child + 1] < heap[child])
                child++;
            if (heap[child] >= z[i])
                break;
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = z[i];
    }
    return heap[0];
}

/* Top-k: ties with the k-th largest stay. */
static cdp_status keep_top_k(cdp_sampler *s, int k, int *n_out) {
    double limit = -INFINITY;
    if (k > 0 && k < s->vocab) {
        double *heap = malloc((size_t)k * sizeof *heap);
        if (heap == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the top %d", k);
        limit = kth_largest(s->z, s->vocab, k, heap);
        free(heap);
    }
    int n = 0;
    for (int id = 0; id < s->vocab; id++)
        if (s->z[id] >= limit && s->z[id] > -INFINITY)
            s->candidates[n++] = (candidate){id, s->z[id]};
    *n_out = n;
    return CDP_OK;
}

/* z -> probabilities of the first n candidates, which are sorted. */
static void softmax(candidate *c, int n) {
    const double largest = c[0].z;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += c[i].z = exp(c[i].z - largest);
    for (int i = 0; i < n; i++)
        c[i].z /= sum;
}

/* Top-p from the smallest up: ids go while the sum so far is at most 1 - p. Then min-p. Sorted probabilities
 * in, renormalised probabilities out; returns how many stay. */
static int cut_tail(candidate *c, int n, const cdp_sampling *p) {
    double tail = 0;
    int kept = n;
    while (p->top_p < 1 && kept > 1 && tail + c[kept - 1].z <= 1 - p->top_p)
        tail += c[--kept].z;
    while (p->min_p > 0 && kept > 1 && c[kept - 1].z < p->min_p * c[0].z)
        kept--;
    double sum = 0;
    for (int i = 0; i < kept; i++)
        sum += c[i].z;
    for (int i = 0; i < kept; i++)
        c[i].z /= sum;
    return kept;
}

/* The first largest after penalties. */
static int32_t greedy(const cdp_sampler *s) {
    int best = 0;
    for (int id = 1; id < s->vocab; id++)
        if (s->z[id] > s->z[best])
            best = id;
    return (int32_t)best;
}

/* Candidates with their probabilities, largest first. */
static cdp_status distribution(cdp_sampler *s, const float *logits, const cdp_sampling *p,
                               const cdp_history *history, int *n_out) {
    CDP_TRY(load(s, logits));
    penalise(s, p, history);
    if (p->temperature == 0) {
        s->candidates[0] = (candidate){greedy(s), 1};
        *n_out = 1;
        return CDP_OK;
    }
    for (int id = 0; id < s->vocab; id++)
        s->z[id] /= p->temperature;
    int n = 0;
    CDP_TRY(keep_top_k(s, p->top_k, &n));
    qsort(s->candidates, (size_t)n, sizeof *s->candidates, larger_first);
    softmax(s->candidates, n);
    n = cut_tail(s->candidates, n, p);
    while (n > 1 && s->candidates[n - 1].z == 0) /* e^z ran out of double */
        n--;
    *n_out = n;
    return CDP_OK;
}

cdp_status cdp_sampler_draw(cdp_sampler *s, const float *logits, const cdp_sampling *sampling,
                            const cdp_history *history, const char *id, int64_t position,
                            int32_t *token_out) {
    int n = 0;
    CDP_TRY(distribution(s, logits, sampling, history, &n));
    const double u = cdp_random_unit(sampling->seed, id, position, PURPOSE_TOKEN);
    double sum = 0;
    int at = 0;
    while (at < n - 1 && (sum += s->candidates[at].z) <= u)
        at++;
    *token_out = s->candidates[at].id;
    return CDP_OK;
}

cdp_status cdp_sampler_distribution(cdp_sampler *s, const float *logits, const cdp_sampling *sampling,
                                    const cdp_history *history, int32_t *ids_out, double *probs_out,
                                    int *n_out) {
    CDP_TRY(distribution(s, logits, sampling, history, n_out));
    for (int i = 0; i < *n_out; i++) {
        ids_out[i] = s->candidates[i].id;
        probs_out[i] = s->candidates[i].z;
    }
    return CDP_OK;
}
