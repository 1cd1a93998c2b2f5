/* launcher/template/special_tokens.h - the special tokens a model's folder names, as variables of its chat
 * template: bos_token, eos_token, and whatever else ends in _token. */
#pragma once

#include "launcher/template/template.h"
#include <cjson/cJSON.h>

typedef struct cdp_special_tokens {
    cdp_variable *data; /* names and JSON texts are owned; all is_own */
    int n, room;
} cdp_special_tokens;

/* From tokenizer_config.json's tree (may be NULL), and where that says nothing from DIR's
 * special_tokens_map.json. Closed also after a failure. */
cdp_status cdp_special_tokens_read(cdp_special_tokens *out, const char *dir, const cJSON *config);
void cdp_special_tokens_close(cdp_special_tokens *tokens);
