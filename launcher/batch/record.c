#include "launcher/batch/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/batch/record_openai.h"
#include "launcher/completion/layers.h"
#include "planner/json.h"

static const cdp_json_limits limits = {1u << 30, 64u << 20, 64, false, CDP_BAD_DATA};

static void write_string(FILE *to, const char *text) {
    cdp_json_write_quoted(to, text, strlen(text));
}

/* {"id": ..., as the line has it; a line that has none is known by its number. */
static void open_record(FILE *to, const cdp_line *line) {
    if (line->id == NULL) {
        fprintf(to, "{\"id\": \"%u\", \"line\": %u", line->number, line->number);
        return;
    }
    if (line->form != CDP_LINE_OWN)
        fprintf(to, "{\"id\": \"batch_req_%u\", \"custom_id\": ", line->number);
    else
        fputs("{\"id\": ", to);
    if (line->id_is_number)
        fputs(line->id, to);
    else
        write_string(to, line->id);
}

static FILE *open_text(cdp_record *out) {
    *out = (cdp_record){0};
    return open_memstream(&out->text, &out->n);
}

static cdp_status close_text(FILE *to) {
    fputs("\n", to);
    const bool is_failed = ferror(to) != 0;
    if (fclose(to) != 0 || is_failed)
        return cdp_fail(CDP_SYSTEM, "no memory for a record");
    return CDP_OK;
}

cdp_status cdp_record_answer(cdp_record *out, const cdp_line *line, const cdp_completion *c,
                             const char *model, bool has_hash) {
    FILE *to = open_text(out);
    if (to == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a record");
    open_record(to, line);
    if (line->form != CDP_LINE_OWN) {
        fputs(", \"response\": ", to);
        cdp_write_openai_response(to, line, c, model, has_hash);
        fputs(", \"error\": null}", to);
        return close_text(to);
    }
    fputs(", ", to);
    cdp_write_text(to, c);
    fputs(", ", to);
    cdp_write_ids(to, "token_ids", c->tokens, (size_t)c->n_tokens);
    fprintf(to, ", \"finish_reason\": \"%s\", \"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %d}",
            c->finish_reason, c->request.n_prompt, c->n_tokens);
    if (c->logprobs != NULL) {
        fputs(", ", to);
        cdp_write_logprobs(to, c);
    }
    if (c->choice != NULL) {
        fputs(", ", to);
        cdp_write_layers(to, c);
    }
    if (has_hash)
        fprintf(to, ", \"logits_hash\": \"%016" PRIx64 "\"", c->logits_hash);
    fputs("}", to);
    return close_text(to);
}

cdp_status cdp_record_error(cdp_record *out, const cdp_line *line, const char *type, const char *message,
                            int n_attempts) {
    FILE *to = open_text(out);
    if (to == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a record");
    const bool is_openai = line->id != NULL && line->form != CDP_LINE_OWN;
    open_record(to, line);
    fprintf(to,
            is_openai ? ", \"response\": null, \"error\": {\"code\": \"%s\", \"message\": "
                      : ", \"error\": {\"type\": \"%s\", \"message\": ",
            type);
    write_string(to, message);
    if (n_attempts > 0)
        fprintf(to, ", \"attempts\": %d", n_attempts);
    fputs("}}", to);
    return close_text(to);
}

/* An id as it stands in a record: a text, or a whole number by its digits. */
static bool hash_id(cdp_hash128 *out, const cJSON *id) {
    char digits[24];
    if (cJSON_IsString(id)) {
        *out = cdp_id_hash(id->valuestring, strlen(id->valuestring));
        return true;
    }
    if (!cJSON_IsNumber(id) || !cdp_json_is_whole(id))
        return false;
    snprintf(digits, sizeof digits, "%.0f", id->valuedouble);
    *out = cdp_id_hash(digits, strlen(digits));
    return true;
}

cdp_status cdp_record_identify(cdp_hash128 *id_out, bool *is_error_out, const char *text, size_t n,
                               uint64_t number) {
    char name[40];
    cJSON *tree = NULL;
    snprintf(name, sizeof name, "record %" PRIu64, number);
    CDP_TRY(cdp_json_parse(&tree, name, text, n, &limits));
    const cJSON *custom_id = cdp_json_get(tree, "custom_id"), *line = cdp_json_get(tree, "line");
    const cJSON *error = cdp_json_get(tree, "error");
    bool is_good = true;
    *is_error_out = error != NULL && !cJSON_IsNull(error);
    if (*is_error_out && cJSON_IsNumber(line) && cdp_json_is_whole(line) && line->valuedouble >= 1 &&
        line->valuedouble <= UINT32_MAX)
        *id_out = cdp_line_hash((uint32_t)line->valuedouble);
    else
        is_good =
            cJSON_IsObject(tree) && hash_id(id_out, custom_id != NULL ? custom_id : cdp_json_get(tree, "id"));
    cJSON_Delete(tree);
    return is_good ? CDP_OK : cdp_fail(CDP_BAD_DATA, "%s has no id", name);
}
