/* planner/rope.h - config.json's many spellings of rotary embedding, worked out to one list of frequencies.
 *
 *     inv_i = theta^(-2i/dim), i < dim/2, then by type:
 *       default    as it is                       linear     inv_i / f
 *       llama3     long waves / f, short ones kept, a ramp between (low_freq_factor, high_freq_factor)
 *       yarn       ramp by rotation counts (beta_fast, beta_slow), cos and sin times m(f)
 *       longrope   inv_i / list_i, a short and a long list, cos and sin times sqrt(1 + ln f / ln original)
 *
 * Sources: the llama 3.1 and phi-3 model cards, the YaRN paper (arXiv 2309.00071).
 */
#pragma once

#include "planner/families.h"
#include <cjson/cJSON.h>

/* `path` names config.json in messages. CDP_BAD_MODEL for an unknown type, a factor out of range, a list of
 * the wrong length. */
cdp_status cdp_rope_read(cdp_rope_card *out, const cJSON *config, const char *path, const cdp_family *family,
                         int head_dim, int max_positions);
