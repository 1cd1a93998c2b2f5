#include "launcher/sample/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "launcher/sample/candidates.h"

enum { PURPOSE_TOKEN = 0 };

struct cdp_sampler {
    int vocab;
    double *z;       /* (vocab) logits, then after penalties */
    int32_t *counts; /* (vocab) times in the answer; all 0 between calls */
    bool *is_seen;   /* (vocab) in prompt or answer; all false between calls */
    cdp_candidates *candidates;
};

cdp_sampling cdp_sampling_default(void) {
    return (cdp_sampling){.temperature = 0, .top_p = 1, .repetition_penalty = 1};
}

cdp_status cdp_sampler_open(cdp_sampler **out, int vocab) {
    *out = NULL;
    cdp_sampler *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to sample from %d tokens", vocab);
    const size_t n = (size_t)vocab;
    s->vocab = vocab;
    s->z = calloc(n, sizeof *s->z);
    s->counts = calloc(n, sizeof *s->counts);
    s->is_seen = calloc(n, sizeof *s->is_seen);
    cdp_status st = CDP_OK;
    if (s->z == NULL || s->counts == NULL || s->is_seen == NULL)
        st = cdp_fail(CDP_SYSTEM, "no memory to sample from %d tokens", vocab);
    else
        st = cdp_candidates_open(&s->candidates, vocab);
    if (st != CDP_OK)
        cdp_sampler_close(s);
    else
        *out = s;
    return st;
}

void cdp_sampler_close(cdp_sampler *s) {
    if (s == NULL)
        return;
    cdp_candidates_close(s->candidates);
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

/* Repetition looks at prompt and answer, once per id; presence and frequency at the answer alone. An id that
 * has no logit has nothing to weaken. */
static void penalise(cdp_sampler *s, const cdp_sampling *p, const cdp_history *h) {
    if (p->repetition_penalty == 1 && p->presence_penalty == 0 && p->frequency_penalty == 0)
        return;
    for (size_t i = 0; i < h->n_prompt + h->n_answer; i++) {
        const int32_t id = i < h->n_prompt ? h->prompt[i] : h->answer[i - h->n_prompt];
        if (id < 0 || id >= s->vocab)
            continue;
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

/* The smallest z that top-k leaves; ties with it stay. */
static cdp_status top_k_limit(const cdp_sampler *s, int k, double *limit_out) {
    *limit_out = -INFINITY;
    if (k <= 0 || k >= s->vocab)
        return CDP_OK;
    double *heap = malloc((size_t)k * sizeof *heap);
    if (heap == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the top %d", k);
    *limit_out = kth_largest(s->z, s->vocab, k, heap);
    free(heap);
    return CDP_OK;
}

/* The first largest after penalties. */
static int32_t greedy(const cdp_sampler *s) {
    int best = 0;
    for (int id = 1; id < s->vocab; id++)
        if (s->z[id] > s->z[best])
            best = id;
    return (int32_t)best;
}

/* Candidates with their weights. The largest z goes before the division: a tiny temperature then leaves the
 * largest alone instead of making infinities of all. */
static cdp_status gather(cdp_sampler *s, const cdp_sampling *p, double largest) {
    double limit;
    CDP_TRY(top_k_limit(s, p->top_k, &limit));
    cdp_candidates_clear(s->candidates);
    for (int id = 0; id < s->vocab; id++) {
        if (s->z[id] < limit)
            continue;
        const double weight = s->z[id] == largest ? 1 : exp((s->z[id] - largest) / p->temperature);
        if (weight > 0) /* not -inf, and e^z has not run out of double */
            cdp_candidates_add(s->candidates, (int32_t)id, weight);
    }
    cdp_candidates_arrange(s->candidates);
    if (p->top_p < 1)
        cdp_candidates_cut_top_p(s->candidates, p->top_p);
    if (p->min_p > 0)
        cdp_candidates_cut_min_p(s->candidates, p->min_p);
    return CDP_OK;
}

static cdp_status prepare(cdp_sampler *s, const float *logits, const cdp_sampling *p,
                          const cdp_history *history) {
    CDP_TRY(load(s, logits));
    penalise(s, p, history);
    const int32_t best = greedy(s);
    if (!isfinite(s->z[best]))
        return cdp_fail(CDP_BAD_DATA, "non-finite logits: the penalties make %g of id %d", s->z[best], best);
    if (p->temperature > 0)
        return gather(s, p, s->z[best]);
    cdp_candidates_clear(s->candidates);
    cdp_candidates_add(s->candidates, best, 1);
    cdp_candidates_arrange(s->candidates);
    return CDP_OK;
}

cdp_status cdp_sampler_draw(cdp_sampler *s, const float *logits, const cdp_sampling *sampling,
                            const cdp_history *history, const char *id, int64_t position,
                            int32_t *token_out) {
    CDP_TRY(prepare(s, logits, sampling, history));
    const double u = cdp_random_unit(sampling->seed, id, position, PURPOSE_TOKEN);
    *token_out = cdp_candidates_pick(s->candidates, u);
    return CDP_OK;
}

cdp_status cdp_sampler_distribution(cdp_sampler *s, const float *logits, const cdp_sampling *sampling,
                                    const cdp_history *history, int32_t *ids_out, double *probs_out,
                                    int *n_out) {
    CDP_TRY(prepare(s, logits, sampling, history));
    *n_out = cdp_candidates_list(s->candidates, ids_out, probs_out);
    return CDP_OK;
}
