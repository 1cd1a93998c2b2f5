/* One sequence's look at its layers. The row to draw from is copied when its state passes; where the choice
 * falls on one that has passed, or that no walk would reach, its state is asked for again: the same bits, one
 * more row for the head. */
#include "launcher/sample/decoding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/sample/consistency.h"
#include "launcher/sample/entropy.h"
#include "launcher/sample/sampler.h"

enum { PURPOSE_SHARE = 2, PURPOSE_LAYER = 3, NO_STATE = -1 }; /* the sampler's own purpose is 0 */

struct cdp_choice {
    const cdp_decoding *decoding;
    uint64_t seed;
    const char *id;
    float *kept;           /* (vocab) the row of state kept_state */
    float *early;          /* (vocab) DoLa: the row that differs most so far; else NULL */
    float *top;            /* (entropy_top_k) the largest logits of the layer in work */
    int kept_state, asked; /* asked: the state whose row will be kept when it comes again */
    bool is_settled;       /* the layer is chosen, or cannot change any more */
    int selected;
    double most; /* DoLa: divergence of `early` */
    cdp_layer_walk walk;
    cdp_consistency consistency; /* open for CDP_CD_CONSISTENCY, else zeroed */
    cdp_layer_log log;
    bool has_log;
};

static bool is_consistency(const cdp_decoding *a) {
    return a->kind == CDP_DECODING_CONSERVATIVE && a->method.rule == CDP_CD_CONSISTENCY;
}

/* What only CDP_CD_CONSISTENCY needs. */
static cdp_status open_consistency(cdp_choice *d, size_t max_tokens) {
    const cdp_decoding *a = d->decoding;
    if (!is_consistency(a))
        return CDP_OK;
    CDP_TRY(cdp_consistency_open(&d->consistency, a->n_taps + 1, a->hidden, a->weight, a->decay));
    if (!d->has_log)
        return CDP_OK;
    d->log.cosines = calloc(max_tokens * (size_t)a->n_layers, sizeof *d->log.cosines);
    return d->log.cosines != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the layers' cosines");
}

cdp_status cdp_choice_open(cdp_choice **out, const cdp_decoding *decoding, uint64_t seed, const char *id,
                           int max_tokens, bool has_log) {
    const size_t vocab = (size_t)decoding->vocab, n = (size_t)max_tokens + 1,
                 layers = (size_t)decoding->n_layers;
    *out = NULL;
    cdp_choice *d = calloc(1, sizeof *d);
    if (d != NULL) {
        *d =
            (cdp_choice){.decoding = decoding, .seed = seed, .id = id, .has_log = has_log, .asked = NO_STATE};
        d->log.n_layers = decoding->n_layers;
        d->kept = calloc(vocab, sizeof *d->kept);
        d->early = calloc(decoding->kind == CDP_DECODING_DOLA ? vocab : 1, sizeof *d->early);
        d->top = calloc((size_t)decoding->entropy_top_k + 1, sizeof *d->top);
        d->log.selected = calloc(n, sizeof *d->log.selected);
        d->log.nats = calloc(has_log ? n * layers : 1, sizeof *d->log.nats);
        d->log.argmax = calloc(has_log ? n * layers : 1, sizeof *d->log.argmax);
    }
    if (d == NULL || d->kept == NULL || d->early == NULL || d->top == NULL || d->log.selected == NULL ||
        d->log.nats == NULL || d->log.argmax == NULL) {
        cdp_choice_close(d);
        return cdp_fail(CDP_SYSTEM, "no memory for the layers of %d tokens", max_tokens);
    }
    const cdp_status st = open_consistency(d, n);
    if (st == CDP_OK)
        *out = d;
    else
        cdp_choice_close(d);
    return st;
}

void cdp_choice_close(cdp_choice *d) {
    if (d == NULL)
        return;
    cdp_consistency_close(&d->consistency);
    free(d->log.cosines);
    free(d->log.argmax);
    free(d->log.nats);
    free(d->log.selected);
    free(d->top);
    free(d->early);
    free(d->kept);
    free(d);
}

static void keep(cdp_choice *d, int state, const float *logits) {
    memcpy(d->kept, logits, (size_t)d->decoding->vocab * sizeof *logits);
    d->kept_state = state;
}

/* The last state of a new row: nothing is known yet. */
static void begin_row(cdp_choice *d, const float *logits) {
    keep(d, d->decoding->n_layers, logits);
    d->is_settled = false;
    d->selected = d->decoding->n_layers - 1;
    d->most = -INFINITY;
    const size_t first = (size_t)d->log.n_tokens * (size_t)d->log.n_layers;
    for (int i = 0; d->has_log && i < d->log.n_layers; i++) {
        d->log.nats[first + (size_t)i] = NAN;
        d->log.argmax[first + (size_t)i] = -1;
        if (d->log.cosines != NULL)
            d->log.cosines[first + (size_t)i] = NAN;
    }
}

static double look_at(cdp_choice *d, int layer, const float *logits) {
    const cdp_decoding *a = d->decoding;
    cdp_certainty c = cdp_certainty_of(logits, a->vocab);
    if (a->entropy_top_k > 0)
        c.nats = cdp_nats_of_top(logits, a->vocab, a->entropy_top_k, d->top);
    if (!d->has_log || layer < 0)
        return c.nats;
    const size_t at = (size_t)d->log.n_tokens * (size_t)d->log.n_layers + (size_t)layer;
    d->log.nats[at] = (float)c.nats;
    d->log.argmax[at] = c.argmax;
    return c.nats;
}

/* The walk has ended with the row at hand: the layer that the method makes of it, kept if it is this one,
 * asked for if its row is not kept. */
static void settle(cdp_choice *d, int64_t position, int state, const float *logits, int *ask_out) {
    const cdp_decoding *a = d->decoding;
    const double u = cdp_random_unit(d->seed, d->id, position, PURPOSE_LAYER);
    d->is_settled = true;
    d->selected = cdp_cd_layer(a->method, d->walk.chosen, a->n_layers, u);
    if (d->selected + 1 == state)
        keep(d, state, logits);
    else if (d->selected + 1 != d->kept_state)
        *ask_out = d->asked = d->selected + 1;
}

/* The layer of `state`, judged beside those above it. */
static void compare(cdp_choice *d, int state, const float *logits, const float *hidden, double nats,
                    int *ask_out) {
    const cdp_decoding *a = d->decoding;
    cdp_consistency *c = &d->consistency;
    const bool ends = c->n_rows == a->n_taps;
    const double share = cdp_nats_normalised(nats, a->entropy_top_k > 0 ? a->entropy_top_k : a->vocab);
    const int depth = cdp_consistency_add(c, hidden, share, ends);
    if (depth == CDP_DEPTH_UNKNOWN)
        return;
    d->selected = a->n_layers - 1 - depth;
    if (d->selected + 1 == state && state != d->kept_state)
        keep(d, state, logits);
    else if (ends && d->selected + 1 != d->kept_state)
        *ask_out = d->asked = d->selected + 1;
    const size_t last = ((size_t)d->log.n_tokens + 1) * (size_t)a->n_layers - 1;
    for (int i = 0; d->has_log && i < c->n_judged; i++)
        d->log.cosines[last - (size_t)i] = (float)c->cosines[i];
}

/* Conservative Dynamic, the layer of `state`. Layers below the walk's end are only noted. */
static void walk(cdp_choice *d, int64_t position, int state, const float *logits, const float *hidden,
                 int *ask_out) {
    const cdp_decoding *a = d->decoding;
    const int layer = state - 1, last = a->n_layers - 1;
    const double nats = look_at(d, layer, logits);
    if (layer == last) {
        const bool stays = cdp_random_unit(d->seed, d->id, position, PURPOSE_SHARE) >= a->p;
        cdp_walk_start(&d->walk, a->n_layers, a->window);
        cdp_consistency_start(&d->consistency);
        d->is_settled = stays || a->n_taps == 0;
        if (!stays && a->method.rule == CDP_CD_LAST)
            return; /* its one layer follows */
    }
    if (d->is_settled)
        return;
    if (a->method.rule == CDP_CD_CONSISTENCY) {
        compare(d, state, logits, hidden, nats, ask_out);
        return;
    }
    if (a->method.rule == CDP_CD_LAST) {
        settle(d, position, state, logits, ask_out);
        return;
    }
    const bool goes_on = cdp_walk_add(&d->walk, layer, nats);
    if (d->walk.chosen == layer && layer < last)
        keep(d, state, logits);
    if (!goes_on)
        settle(d, position, state, logits, ask_out);
    else if (a->head & CDP_HEAD_LAZY && layer < last)
        *ask_out = state - 1;
}

/* DoLa: the final row is kept, and the candidate that differs most; of equal ones the lowest, which comes
 * last. */
static void contrast(cdp_choice *d, int state, const float *logits) {
    const cdp_decoding *a = d->decoding;
    if (d->has_log)
        look_at(d, state - 1, logits);
    if (state == a->n_layers)
        return;
    const double js = a->n_taps > 1 ? cdp_dola_divergence(d->kept, logits, a->vocab, a->js) : 0;
    if (js >= d->most || d->most == -INFINITY) {
        memcpy(d->early, logits, (size_t)a->vocab * sizeof *logits);
        d->most = js;
        d->selected = state;
    }
}

void cdp_choice_state(cdp_choice *d, int64_t position, int state, const float *logits, const float *hidden,
                      int *ask_out) {
    if (state == d->asked) {
        keep(d, state, logits);
        d->asked = NO_STATE;
        return;
    }
    if (state == d->decoding->n_layers)
        begin_row(d, logits);
    if (d->decoding->kind == CDP_DECODING_CONSERVATIVE)
        walk(d, position, state, logits, hidden, ask_out);
    else if (d->decoding->kind == CDP_DECODING_DOLA)
        contrast(d, state, logits);
}

const float *cdp_choice_row(cdp_choice *d) {
    const cdp_decoding *a = d->decoding;
    if (a->kind == CDP_DECODING_DOLA)
        cdp_dola_scores(d->kept, d->kept, d->early, a->vocab, a->relative_top);
    d->log.selected[d->log.n_tokens++] = d->selected;
    return d->kept;
}

const cdp_layer_log *cdp_choice_log(const cdp_choice *d) {
    return &d->log;
}
