/* launcher/sample/layers.h - which layer's row gives the token: Conservative Dynamic (arXiv 2606.21906).
 *
 *     from the top down, while the entropy falls:   H[L-1] > H[L-2] > H[L-3] < H[L-4]    ->  layer L-3
 *
 * Layers are numbered 0 .. L-1, the outputs of the blocks. The walk ends at the first layer that is not surer
 * than the one above it; a tie and a NaN end it as well, and the deeper layer stays.
 */
#pragma once

#include "kernels/status.h"
#include "kernels/step.h"

enum { CDP_ALL_LAYERS = -1 };

typedef struct cdp_layer_walk {
    int n_layers, lowest; /* the last layer the walk may look at */
    int chosen;
    double best; /* entropy of the chosen layer */
} cdp_layer_walk;

/* window: layers below the last that may be looked at, or CDP_ALL_LAYERS. */
void cdp_walk_start(cdp_layer_walk *walk, int n_layers, int window);

/* The next layer down, L-1 first. True while the walk wants the one below. */
bool cdp_walk_add(cdp_layer_walk *walk, int layer, double entropy);

/* "all" (or NULL), or "1,5,9": the layers of a model of n_layers, a bit each. CDP_USAGE for anything else,
 * and for a layer that the model does not have. */
cdp_status cdp_layers_parse(cdp_tap_set *out, const char *word, int n_layers);

/* The rules by which the walk's layer becomes the one to draw from. */
typedef enum cdp_cd_rule {
    CDP_CD_TROUGH,       /* the walk's layer, moved by `shift` (deeper where above 0) */
    CDP_CD_RANDOM_AFTER, /* a layer from the walk's to the last, all alike */
    CDP_CD_LAST,         /* the last layer moved by `shift`; no walk */
    CDP_CD_CONSISTENCY,  /* of all layers the best by entropy and direction (consistency.h); no walk */
} cdp_cd_rule;

typedef struct cdp_cd_method {
    cdp_cd_rule rule;
    int shift;
} cdp_cd_method;

/* "trough", "trough-m1", ..., "random-after", "last-m1", ..., "consistency": false for another word. */
bool cdp_cd_method_of(cdp_cd_method *out, const char *word);

/* The layer to draw from, unless it is CDP_CD_CONSISTENCY's: `chosen` is the walk's, u in [0, 1) decides
 * where chance does. */
int cdp_cd_layer(cdp_cd_method method, int chosen, int n_layers, double u);
