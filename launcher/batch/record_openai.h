/* launcher/batch/record_openai.h - the "response" of a record in OpenAI's batch form. */
#pragma once

#include "launcher/batch/line.h"
#include "launcher/completion/completion.h"

/* {"status_code": 200, "request_id": ..., "body": {completion or chat.completion}}; beside OpenAI's members a
 * choice has "token_ids" (completions) and, where layers were looked at, "decoding" and "selected_layers". */
void cdp_write_openai_response(FILE *to, const cdp_line *line, const cdp_completion *completion,
                               const char *model, bool has_hash);
