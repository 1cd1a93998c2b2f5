/* launcher/text/template.h - the ids that the post-processor adds before and behind a text. */
#pragma once

#include "kernels/status.h"
#include "launcher/text/vocabulary.h"
#include <cjson/cJSON.h>

enum { CDP_MAX_EXTRA = 16 };

typedef struct cdp_template {
    int n_before, n_after;
    int32_t before[CDP_MAX_EXTRA], after[CDP_MAX_EXTRA];
} cdp_template;

/* From tokenizer.json's "post_processor" (may be NULL or null). An id that is not in the vocabulary, and what
 * is not supported, is refused by name. */
cdp_status cdp_template_open(cdp_template *out, const char *name, const cJSON *json,
                             const cdp_vocabulary *vocabulary);
