#include "launcher/sample/layers.h"

#include <stdlib.h>
#include <string.h>

void cdp_walk_start(cdp_layer_walk *walk, int n_layers, int window) {
    const int last = n_layers - 1;
    const bool sees_all = window == CDP_ALL_LAYERS || window > last;
    *walk = (cdp_layer_walk){.n_layers = n_layers, .lowest = sees_all ? 0 : last - window, .chosen = last};
}

bool cdp_walk_add(cdp_layer_walk *walk, int layer, double entropy) {
    if (layer == walk->n_layers - 1)
        walk->best = entropy;
    else if (layer != walk->chosen - 1 || !(entropy < walk->best))
        return false;
    walk->chosen = layer;
    walk->best = entropy;
    return layer > walk->lowest;
}

cdp_status cdp_layers_parse(cdp_tap_set *out, const char *word, int n_layers) {
    char shown[128];
    *out = (cdp_tap_set){0};
    if (word == NULL || strcmp(word, "all") == 0) {
        for (int layer = 0; layer < n_layers; layer++)
            cdp_taps_add(out, layer);
        return CDP_OK;
    }
    for (const char *at = word;;) {
        char *end;
        const long layer = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        if (layer < 0 || layer >= n_layers || (*end != ',' && *end != '\0'))
            return cdp_fail(CDP_USAGE, "--layers is \"%s\", expected all or some of 0 to %d, as in 1,5,9",
                            cdp_escape(shown, sizeof shown, word, strlen(word)), n_layers - 1);
        cdp_taps_add(out, (int)layer);
        if (*end == '\0')
            return CDP_OK;
        at = end + 1;
    }
}

bool cdp_cd_method_of(cdp_cd_method *out, const char *word) {
    static const struct {
        const char *word;
        cdp_cd_method method;
    } methods[] = {
        {"trough", {CDP_CD_TROUGH, 0}},           {"random-after", {CDP_CD_RANDOM_AFTER, 0}},
        {"trough-m1", {CDP_CD_TROUGH, -1}},       {"trough-m2", {CDP_CD_TROUGH, -2}},
        {"trough-p1", {CDP_CD_TROUGH, 1}},        {"trough-p2", {CDP_CD_TROUGH, 2}},
        {"last-m1", {CDP_CD_LAST, -1}},           {"last-m2", {CDP_CD_LAST, -2}},
        {"last-m4", {CDP_CD_LAST, -4}},           {"last-m8", {CDP_CD_LAST, -8}},
        {"consistency", {CDP_CD_CONSISTENCY, 0}},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i].word, word) == 0) {
            *out = methods[i].method;
            return true;
        }
    return false;
}

static int within(int layer, int n_layers) {
    return layer < 0 ? 0 : layer < n_layers ? layer : n_layers - 1;
}

int cdp_cd_layer(cdp_cd_method method, int chosen, int n_layers, double u) {
    if (method.rule == CDP_CD_RANDOM_AFTER)
        return within(chosen + (int)(u * (n_layers - chosen)), n_layers);
    return within((method.rule == CDP_CD_LAST ? n_layers - 1 : chosen) + method.shift, n_layers);
}
