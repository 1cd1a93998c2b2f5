/* launcher/batch/record.h - one line of a batch output: an answer, or what was wrong with its line.
 *
 *     {"id": "a1", "text": "...", "token_ids": [..], "finish_reason": "stop", "usage": {..}}
 *     {"id": "a2", "error": {"type": "invalid_request", "message": "line 2: ..."}}
 *     {"id": "3", "line": 3, "error": {..}}        of a line whose id could not be read
 *
 * An id that was written as a number stays one. A line in OpenAI's form gets OpenAI's: {"id", "custom_id",
 * "response": {"status_code", "request_id", "body"}, "error"}.
 */
#pragma once

#include "launcher/batch/ledger.h"
#include "launcher/batch/line.h"
#include "launcher/completion/completion.h"

typedef struct cdp_record {
    char *text; /* with its newline; the caller frees it */
    size_t n;
} cdp_record;

/* The answer of a line. `model` stands where an OpenAI body names none. */
cdp_status cdp_record_answer(cdp_record *out, const cdp_line *line, const cdp_completion *completion,
                             const char *model, bool has_hash);

/* type: "invalid_request", "non_finite_logits", "crashed_engine" (then n_attempts > 0). line->id may be NULL.
 */
cdp_status cdp_record_error(cdp_record *out, const cdp_line *line, const char *type, const char *message,
                            int n_attempts);

/* Whose record is it, and does it tell an error? CDP_BAD_DATA when it is no record. number: of the record,
 * for the message. */
cdp_status cdp_record_identify(cdp_hash128 *id_out, bool *is_error_out, const char *text, size_t n,
                               uint64_t number);
