#include "launcher/batch/record_openai.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "launcher/completion/layers.h"
#include "planner/json.h"

static const char *token_bytes(const cdp_completion *c, int32_t id, size_t *n_out) {
    const char *bytes = NULL;
    *n_out = 0;
    if (c->run->tokenizer != NULL)
        bytes = cdp_tokenizer_bytes(c->run->tokenizer, id, n_out);
    return bytes != NULL ? bytes : "";
}

/* {"token": "a", "logprob": -0.1, "bytes": [97] and, where the object goes on, no brace */
static void write_chat_token(FILE *to, const cdp_completion *c, int32_t id, double logprob) {
    size_t n;
    const char *bytes = token_bytes(c, id, &n);
    fputs("{\"token\": ", to);
    cdp_json_write_quoted(to, bytes, n);
    fprintf(to, ", \"logprob\": %.9g, \"bytes\": [", logprob);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "%s%u", i > 0 ? ", " : "", (unsigned char)bytes[i]);
    fputs("]", to);
}

static void write_chat_logprobs(FILE *to, const cdp_completion *c) {
    fputs("{\"content\": [", to);
    for (int i = 0; i < c->n_tokens; i++) {
        const cdp_token_logprobs *kept = &c->logprobs[i];
        fputs(i > 0 ? ", " : "", to);
        write_chat_token(to, c, c->tokens[i], kept->chosen);
        fputs(", \"top_logprobs\": [", to);
        for (int k = 0; k < c->request.sampling.n_logprobs; k++) {
            fputs(k > 0 ? ", " : "", to);
            write_chat_token(to, c, kept->ids[k], kept->values[k]);
            fputs("}", to);
        }
        fputs("]}", to);
    }
    fputs("]}", to);
}

static void write_top(FILE *to, const cdp_completion *c, const cdp_token_logprobs *kept) {
    fputs("{", to);
    for (int k = 0; k < c->request.sampling.n_logprobs; k++) {
        size_t n;
        const char *bytes = token_bytes(c, kept->ids[k], &n);
        fputs(k > 0 ? ", " : "", to);
        cdp_json_write_quoted(to, bytes, n);
        fprintf(to, ": %.9g", kept->values[k]);
    }
    fputs("}", to);
}

static void write_completion_logprobs(FILE *to, const cdp_completion *c) {
    fputs("{\"tokens\": [", to);
    for (int i = 0; i < c->n_tokens; i++) {
        size_t n;
        const char *bytes = token_bytes(c, c->tokens[i], &n);
        fputs(i > 0 ? ", " : "", to);
        cdp_json_write_quoted(to, bytes, n);
    }
    fputs("], \"token_logprobs\": [", to);
    for (int i = 0; i < c->n_tokens; i++)
        fprintf(to, "%s%.9g", i > 0 ? ", " : "", c->logprobs[i].chosen);
    fputs("], \"top_logprobs\": [", to);
    for (int i = 0; i < c->n_tokens; i++) {
        fputs(i > 0 ? ", " : "", to);
        write_top(to, c, &c->logprobs[i]);
    }
    fputs("]}", to);
}

static void write_choice(FILE *to, const cdp_line *line, const cdp_completion *c) {
    const bool is_chat = line->form == CDP_LINE_CHAT;
    fputs(is_chat ? "{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": "
                  : "{\"index\": 0, \"text\": ",
          to);
    if (c->answer.has_tokenizer)
        cdp_json_write_quoted(to, c->answer.text != NULL ? c->answer.text : "", c->answer.n_text);
    else
        fputs("null", to);
    fputs(is_chat ? "}, \"logprobs\": " : ", \"logprobs\": ", to);
    if (c->logprobs == NULL)
        fputs("null", to);
    else if (is_chat)
        write_chat_logprobs(to, c);
    else
        write_completion_logprobs(to, c);
    fprintf(to, ", \"finish_reason\": \"%s\"", c->finish_reason);
    if (!is_chat) {
        fputs(", ", to);
        cdp_write_ids(to, "token_ids", c->tokens, (size_t)c->n_tokens);
    }
    if (c->choice != NULL) {
        fputs(", ", to);
        cdp_write_layers(to, c);
    }
    fputs("}", to);
}

void cdp_write_openai_response(FILE *to, const cdp_line *line, const cdp_completion *c, const char *model,
                               bool has_hash) {
    const bool is_chat = line->form == CDP_LINE_CHAT;
    const char *name = line->model != NULL ? line->model : model;
    const size_t n_prompt = c->request.n_prompt;
    fprintf(to,
            "{\"status_code\": 200, \"request_id\": \"req_%u\", \"body\": {\"id\": \"%s-%u\", \"object\": "
            "\"%s\", "
            "\"created\": %lld, \"model\": ",
            line->number, is_chat ? "chatcmpl" : "cmpl", line->number,
            is_chat ? "chat.completion" : "text_completion", (long long)time(NULL));
    cdp_json_write_quoted(to, name, strlen(name));
    fputs(", \"choices\": [", to);
    write_choice(to, line, c);
    fprintf(to, "], \"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %d, \"total_tokens\": %zu}",
            n_prompt, c->n_tokens, n_prompt + (size_t)c->n_tokens);
    if (has_hash)
        fprintf(to, ", \"logits_hash\": \"%016" PRIx64 "\"", c->logits_hash);
    fputs("}}", to);
}
