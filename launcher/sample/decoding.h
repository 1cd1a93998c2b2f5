/* launcher/sample/decoding.h - decoding that looks at layers on the way: which states a sequence taps, what
 * is read off them, which row the next token is drawn from.
 *
 *     state N, N-1, ... --cdp_choice_state--> entropy, walk, divergence --> row
 *     row --processors, sampler--> token
 *
 * A cdp_decoding is what was asked for, shared by any number of sequences; a cdp_choice is one sequence's.
 * Layer i is state i + 1 (kernels/step.h): Conservative Dynamic and the log count layers, DoLa counts states.
 */
#pragma once

#include "launcher/options/options.h"
#include "launcher/sample/dola.h"
#include "launcher/sample/layers.h"
#include "planner/model_card.h"

typedef enum cdp_decoding_kind {
    CDP_DECODING_STANDARD,
    CDP_DECODING_CONSERVATIVE,
    CDP_DECODING_DOLA,
} cdp_decoding_kind;

typedef struct cdp_decoding {
    cdp_decoding_kind kind;
    int n_layers, vocab, hidden;
    cdp_tap_set taps; /* what its home rows bring along */
    int n_taps;
    int head;             /* CDP_HEAD_ bits */
    cdp_cd_method method; /* Conservative Dynamic */
    int window;
    int entropy_top_k; /* logits that a layer's entropy is of, up to vocab; 0: all */
    double p;          /* share of tokens that may leave the last layer */
    double weight;     /* CDP_CD_CONSISTENCY: what consistency counts against entropy, */
    double decay;      /* and what each layer counts in the reference against the one above it */
    double relative_top;
    cdp_dola_js js;
} cdp_decoding;

/* What `word` (standard, conservative-dynamic, dola) means for this model with the parameters of the command
 * line. CDP_USAGE for a word or a parameter that cannot be. */
cdp_status cdp_decoding_settle(cdp_decoding *out, const char *word, const cdp_options *options,
                               const cdp_model_card *card);

/* One `#` line about what was settled; none for standard. */
void cdp_decoding_say(const cdp_decoding *decoding, double repetition_penalty);

/* What was seen of a token's layers; NaN and -1 where a layer was not looked at. */
typedef struct cdp_layer_log {
    int n_tokens, n_layers;
    int32_t *selected; /* (n_tokens) layer, or DoLa's state, whose row was used */
    float *nats;       /* (n_tokens, n_layers) of all logits, or of the entropy_top_k largest */
    int32_t *argmax;   /* (n_tokens, n_layers) */
    float *cosines;    /* (n_tokens, n_layers) with the reference; NULL but for CDP_CD_CONSISTENCY */
} cdp_layer_log;

typedef struct cdp_choice cdp_choice;

/* Room for max_tokens tokens' log when has_log, else only `selected` is kept. seed and id are the sampler's;
 * the decoding and the id outlive *out, which the caller closes. */
cdp_status cdp_choice_open(cdp_choice **out, const cdp_decoding *decoding, uint64_t seed, const char *id,
                           int max_tokens, bool has_log);
void cdp_choice_close(cdp_choice *choice); /* NULL is fine */

/* The logits (vocab) of one state of the row whose token will stand at `position`, from the last state down;
 * hidden and *ask_out as in cdp_request. */
void cdp_choice_state(cdp_choice *choice, int64_t position, int state, const float *logits,
                      const float *hidden, int *ask_out);

/* The row to draw from, once nothing more of it comes; it lasts until the next state. Notes the choice. */
const float *cdp_choice_row(cdp_choice *choice);

const cdp_layer_log *cdp_choice_log(const cdp_choice *choice);
