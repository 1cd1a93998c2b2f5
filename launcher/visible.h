/* launcher/visible.h - what CUDA_VISIBLE_DEVICES says, judged against what CUDA shows. */
#pragma once

#include <stddef.h>

#include "kernels/status.h"

/* CUDA cuts the list at the first entry it does not like, without a word: an index that is not there, a name
 * of no GPU, -1, an entry that stands twice, names among indices. `text` is the variable's value (NULL: not
 * set), n_shown the GPUs that CUDA shows. CDP_UNAVAILABLE with the entry by name. */
cdp_status cdp_visible_check(const char *text, int n_shown);

/* The variable's value as lines show it, in out: `not set`, and for none at all `"" (no GPU is visible)`. */
const char *cdp_visible_words(char *out, size_t n_bytes, const char *text);
