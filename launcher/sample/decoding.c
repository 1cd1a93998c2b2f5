/* What was asked for, in states and numbers. */
#include "launcher/sample/decoding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"

static cdp_status take_window(cdp_decoding *out, const char *word) {
    char *end, shown[64];
    out->window = CDP_ALL_LAYERS;
    if (strcmp(word, "all") == 0)
        return CDP_OK;
    const long n = strtol(word, &end, 10);
    if (*word < '0' || *word > '9' || *end != '\0' || n > CDP_MAX_STATES)
        return cdp_fail(CDP_USAGE, "--tap-window is \"%s\", expected all or 0 to %d",
                        cdp_escape(shown, sizeof shown, word, strlen(word)), CDP_MAX_STATES);
    out->window = (int)n;
    return CDP_OK;
}

/* A single token has no entropy to compare. */
static cdp_status take_entropy(cdp_decoding *out, int top_k) {
    if (top_k == 1)
        return cdp_fail(CDP_USAGE, "--cd-entropy-top-k is 1, expected 0 (all tokens) or at least 2");
    out->entropy_top_k = top_k < out->vocab ? top_k : out->vocab;
    return CDP_OK;
}

/* The layers the walk may look at, those below them that a shift may end in, or the one fixed layer. */
static cdp_status settle_conservative(cdp_decoding *out, const cdp_options *o) {
    const int last = out->n_layers - 1;
    if (!cdp_cd_method_of(&out->method, o->cd_method))
        return cdp_fail(CDP_USAGE, "--cd-method is \"%s\", which is none of its methods", o->cd_method);
    CDP_TRY(take_window(out, o->tap_window));
    CDP_TRY(take_entropy(out, o->cd_entropy_top_k));
    if (out->method.rule == CDP_CD_CONSISTENCY && o->cd_lazy)
        return cdp_fail(CDP_USAGE,
                        "--cd-lazy goes on while the entropy falls, and --cd-method consistency looks "
                        "at all layers: leave one of them out");
    out->p = o->cd_p;
    out->weight = o->cd_consistency;
    out->decay = o->cd_decay;
    cdp_layer_walk walk;
    cdp_walk_start(&walk, out->n_layers, out->window);
    int lowest = walk.lowest, highest = last - 1;
    if (out->method.rule == CDP_CD_LAST)
        lowest = highest = cdp_cd_layer(out->method, last, out->n_layers, 0);
    else if (out->method.shift < 0)
        lowest = cdp_cd_layer(out->method, lowest, out->n_layers, 0);
    for (int layer = lowest; layer <= highest; layer++)
        if (layer < last) /* the last one comes home anyway */
            cdp_taps_add(&out->taps, layer + 1);
    out->head = o->cd_lazy ? CDP_HEAD_LAZY : out->method.rule == CDP_CD_CONSISTENCY ? CDP_HEAD_HIDDEN : 0;
    return CDP_OK;
}

static cdp_status settle_dola(cdp_decoding *out, const cdp_options *o, bool is_tied) {
    CDP_TRY(cdp_dola_candidates(&out->taps, o->dola_layers, out->n_layers, is_tied));
    const bool has_norm = strcmp(o->dola_norm, "on") == 0;
    out->js = strcmp(o->dola_js, "hf") == 0 ? CDP_DOLA_JS_HF : CDP_DOLA_JS_TRUE;
    out->relative_top = o->relative_top;
    out->head = has_norm ? 0 : CDP_HEAD_NO_NORM;
    if (!has_norm && out->js == CDP_DOLA_JS_HF) /* transformers calls the bare head */
        out->head |= CDP_HEAD_NO_SCALE;
    return CDP_OK;
}

cdp_status cdp_decoding_settle(cdp_decoding *out, const char *word, const cdp_options *options,
                               const cdp_model_card *card) {
    char shown[64];
    *out = (cdp_decoding){.n_layers = card->n_layers, .vocab = card->vocab, .hidden = card->hidden};
    if (strcmp(word, "conservative-dynamic") == 0) {
        out->kind = CDP_DECODING_CONSERVATIVE;
        CDP_TRY(settle_conservative(out, options));
    } else if (strcmp(word, "dola") == 0) {
        out->kind = CDP_DECODING_DOLA;
        CDP_TRY(settle_dola(out, options, card->is_tied));
    } else if (strcmp(word, "standard") != 0) {
        return cdp_fail(CDP_USAGE, "decoding is \"%s\", expected standard, conservative-dynamic or dola",
                        cdp_escape(shown, sizeof shown, word, strlen(word)));
    }
    out->n_taps = cdp_taps_count(&out->taps, 0, out->n_layers);
    return CDP_OK;
}

void cdp_decoding_say(const cdp_decoding *d, double repetition_penalty) {
    char entropy[64] = "", consistency[64] = "";
    if (d->entropy_top_k > 0)
        snprintf(entropy, sizeof entropy, ", entropy of the %d likeliest tokens", d->entropy_top_k);
    if (d->method.rule == CDP_CD_CONSISTENCY)
        snprintf(consistency, sizeof consistency, ", consistency %g, decay %g", d->weight, d->decay);
    if (d->kind == CDP_DECODING_CONSERVATIVE)
        cdp_note(
            "decoding: conservative-dynamic, %d of the %d layers below the last are looked at, p %g%s%s%s",
            d->n_taps, d->n_layers - 1, d->p, entropy, consistency,
            d->head & CDP_HEAD_LAZY ? ", lazily" : "");
    if (d->kind != CDP_DECODING_DOLA)
        return;
    cdp_note("decoding: dola, %d early layer%s, relative_top %g, js %s, %s norm", d->n_taps,
             d->n_taps == 1 ? "" : "s", d->relative_top, d->js == CDP_DOLA_JS_HF ? "hf" : "true",
             d->head & CDP_HEAD_NO_NORM ? "without" : "with");
    if (repetition_penalty < 1.2)
        cdp_note("dola repeats itself without --repetition-penalty 1.2 or more (now %g)", repetition_penalty);
}
