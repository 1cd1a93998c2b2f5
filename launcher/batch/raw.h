/* launcher/batch/raw.h - a value as it is written. The JSON tree holds doubles: a seed of 64 bits, the long
 * numbers in a conversation, and that 1.0 is not 1, are in the text alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The value of the first member `key` of an object, in whose n bytes nothing is wrong (the strict reader has
 * passed them). False when there is none by that spelling. */
bool cdp_raw_member(const char *object, size_t n, const char *key, const char **value_out, size_t *n_out);
