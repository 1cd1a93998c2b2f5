/* launcher/jobs/lens.h - what a text looks like from inside: at every position, for every layer, the token
 * that layer would put next, how likely it holds it, and how sure it is. lens.c collects, the faces show. */
#pragma once

#include "launcher/run.h"
#include <stdio.h>

typedef struct cdp_lens {
    const cdp_run *run;
    const int32_t *ids; /* (n_positions) the text */
    int n_positions, n_prompt, n_layers;
    const int *layers; /* (n_layers) shown, ascending; the last is always the model's last */
    int32_t *argmax;   /* (n_positions, n_layers) */
    float *top, *nats; /* (n_positions, n_layers) its probability; entropy */
} cdp_lens;

/* The first shown layer from which on the likeliest token stays the last layer's: where the model makes up
 * its mind.
 */
int cdp_lens_settled(const cdp_lens *lens, int position);

/* A table: layers down, tokens across, as wide as `columns`; shaded by entropy where has_colours. CDP_IO. */
cdp_status cdp_lens_print(const cdp_lens *lens, FILE *to, int columns, bool has_colours);

/* The inside of the JSON object, up to a comma. */
void cdp_lens_write_json(const cdp_lens *lens, FILE *to);

/* One page that needs nothing else. CDP_IO by the file's name. */
cdp_status cdp_lens_write_html(const cdp_lens *lens, const char *path, const char *model);
