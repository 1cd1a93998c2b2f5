/* launcher/text/normalize.h - what happens to a text before it is cut into pieces. A list of steps. */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"
#include <cjson/cJSON.h>

typedef enum cdp_normal_kind {
    CDP_NORMAL_NFC, /* characters composed: e and U+0301 become U+00E9 */
} cdp_normal_kind;

enum { CDP_MAX_NORMAL_STEPS = 16 };

typedef struct cdp_normalizer {
    int n_steps; /* 0: the text stays as it is */
    cdp_normal_kind steps[CDP_MAX_NORMAL_STEPS];
} cdp_normalizer;

/* From tokenizer.json's "normalizer" (may be NULL or null). What is not supported is refused by name. */
cdp_status cdp_normalizer_open(cdp_normalizer *out, const char *name, const cJSON *json);

/* Append text[0, n), normalised, to `out`, which is empty. Valid UTF-8. */
cdp_status cdp_normalizer_run(const cdp_normalizer *normalizer, const char *text, size_t n, cdp_bytes *out);
