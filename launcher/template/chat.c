#include "launcher/template/chat.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/template/special_tokens.h"
#include "planner/file.h"
#include "planner/json.h"

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

struct cdp_chat {
    cdp_chat_template *usual, *with_tools; /* with_tools NULL: the usual one serves both */
    cdp_special_tokens tokens;
};

static bool path_in(char *out, size_t room, const char *dir, const char *name) {
    return cdp_file_join(out, room, dir, name) && cdp_file_exists(out);
}

bool cdp_chat_exists(const char *dir) {
    char path[4200];
    cJSON *config = NULL;
    if (path_in(path, sizeof path, dir, "chat_template.jinja"))
        return true;
    if (!path_in(path, sizeof path, dir, "tokenizer_config.json") ||
        cdp_json_read(&config, path, &cdp_json_index_limits) != CDP_OK) {
        cdp_error_clear(); /* a broken tokenizer_config.json has nothing that a run without chat needs */
        return false;
    }
    const cJSON *given = cdp_json_get(config, "chat_template");
    const bool exists = given != NULL && !cJSON_IsNull(given);
    cJSON_Delete(config);
    return exists;
}

static cdp_status open_text(cdp_chat_template **out, const char *name, const cJSON *text) {
    if (!cJSON_IsString(text))
        return cdp_fail(CDP_BAD_MODEL, "%s: chat_template is neither a text nor a list of named texts", name);
    return cdp_chat_template_open(out, name, text->valuestring, strlen(text->valuestring));
}

/* [{"name": "default", "template": "..."}, {"name": "tool_use", ...}]: the others are for other purposes. */
static cdp_status open_named(cdp_chat *chat, const char *path, const cJSON *list) {
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        const cJSON *name = cdp_json_get(item, "name"), *text = cdp_json_get(item, "template");
        if (!cJSON_IsString(name))
            return cdp_fail(CDP_BAD_MODEL, "%s: chat_template: a template of the list has no name", path);
        const bool is_usual = strcmp(name->valuestring, "default") == 0;
        cdp_chat_template **place = is_usual                                     ? &chat->usual
                                    : strcmp(name->valuestring, "tool_use") == 0 ? &chat->with_tools
                                                                                 : NULL;
        if (place == NULL)
            continue;
        cdp_chat_template_close(*place);
        CDP_TRY(open_text(place, is_usual ? "chat_template default" : "chat_template tool_use", text));
    }
    if (chat->usual == NULL)
        return cdp_fail(CDP_BAD_MODEL, "%s: chat_template: the list has no template named default", path);
    return CDP_OK;
}

static cdp_status open_file(cdp_chat *chat, const char *path) {
    char *text = NULL;
    size_t n;
    CDP_TRY(cdp_file_read_text(&text, &n, path, MAX_TEMPLATE_BYTES));
    const cdp_status st = cdp_chat_template_open(&chat->usual, "chat_template.jinja", text, n);
    free(text);
    return st;
}

static cdp_status open_in(cdp_chat *chat, const char *dir, const cJSON *config, const char *config_path) {
    char path[4200];
    if (path_in(path, sizeof path, dir, "chat_template.jinja"))
        return open_file(chat, path);
    const cJSON *given = cdp_json_get(config, "chat_template");
    if (given == NULL || cJSON_IsNull(given)) {
        char shown[CDP_SHOWN_PATH];
        return cdp_fail(CDP_NO_INPUT,
                        "%s has no chat template (chat_template.jinja or tokenizer_config.json)",
                        cdp_escape(shown, sizeof shown, dir, strlen(dir)));
    }
    return cJSON_IsArray(given) ? open_named(chat, config_path, given)
                                : open_text(&chat->usual, "chat_template", given);
}

cdp_status cdp_chat_open(cdp_chat **out, const char *dir) {
    char path[4200];
    cJSON *config = NULL;
    *out = NULL;
    cdp_chat *chat = calloc(1, sizeof *chat);
    if (chat == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the chat template");
    cdp_status st = CDP_OK;
    if (path_in(path, sizeof path, dir, "tokenizer_config.json"))
        CDP_TRY_GOTO(cdp_json_read(&config, path, &cdp_json_index_limits), st, done);
    CDP_TRY_GOTO(open_in(chat, dir, config, path), st, done);
    CDP_TRY_GOTO(cdp_special_tokens_read(&chat->tokens, dir, config), st, done);
    *out = chat;
done:
    cJSON_Delete(config);
    if (st != CDP_OK)
        cdp_chat_close(chat);
    return st;
}

void cdp_chat_close(cdp_chat *chat) {
    if (chat == NULL)
        return;
    cdp_chat_template_close(chat->usual);
    cdp_chat_template_close(chat->with_tools);
    cdp_special_tokens_close(&chat->tokens);
    free(chat);
}

static void put(cdp_variable *list, int *n, cdp_variable v) {
    for (int i = 0; i < *n; i++)
        if (strcmp(list[i].name, v.name) == 0) {
            list[i] = v;
            return;
        }
    list[(*n)++] = v;
}

static cdp_variable word(const char *name, const char *json) {
    return (cdp_variable){.name = name, .json = json, .n_json = strlen(json), .is_own = true};
}

/* Everything a template sees, as transformers gives it: what is not there is None. */
static int variables_of(cdp_variable *list, const cdp_chat *chat, const cdp_conversation *c) {
    int n = 0;
    for (int i = 0; i < chat->tokens.n; i++)
        put(list, &n, chat->tokens.data[i]);
    put(list, &n,
        (cdp_variable){.name = "messages",
                       .json = c->messages,
                       .n_json = c->n_messages,
                       .file = c->messages_file,
                       .is_messages = true});
    put(list, &n,
        c->tools != NULL
            ? (cdp_variable){.name = "tools", .json = c->tools, .n_json = c->n_tools, .file = c->tools_file}
            : word("tools", "null"));
    put(list, &n, word("documents", "null"));
    put(list, &n, word("add_generation_prompt", c->has_no_generation_prompt ? "false" : "true"));
    for (int i = 0; i < c->n_more; i++)
        put(list, &n, c->more[i]);
    return n;
}

cdp_status cdp_chat_render(const cdp_chat *chat, const cdp_conversation *c, cdp_rendered *out) {
    cdp_clock clock;
    *out = (cdp_rendered){0};
    CDP_TRY(cdp_clock_read(&clock));
    cdp_variable *list = calloc((size_t)chat->tokens.n + (size_t)c->n_more + 4, sizeof *list);
    if (list == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the variables of the chat template");
    const int n = variables_of(list, chat, c);
    const bool takes_tools = c->tools != NULL && chat->with_tools != NULL;
    const cdp_status st =
        cdp_chat_template_render(takes_tools ? chat->with_tools : chat->usual, list, n, &clock, out);
    free(list);
    return st;
}

cdp_status cdp_rendered_encode(const cdp_rendered *rendered, const cdp_tokenizer *tokenizer,
                               int32_t **ids_out, size_t *n_ids_out) {
    const cdp_spans *own = &rendered->own;
    size_t n = 0, at = 0;
    cdp_text_part *parts = calloc(2 * own->n + 1, sizeof *parts);
    if (parts == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the parts of a conversation");
    for (size_t i = 0; i < own->n; i++) {
        const cdp_span span = own->data[i];
        if (span.begin > at)
            parts[n++] = (cdp_text_part){rendered->text + at, span.begin - at, false};
        parts[n++] = (cdp_text_part){rendered->text + span.begin, span.end - span.begin, true};
        at = span.end;
    }
    if (at < rendered->n)
        parts[n++] = (cdp_text_part){rendered->text + at, rendered->n - at, false};
    const cdp_status st = cdp_tokenizer_encode_parts(tokenizer, parts, n, ids_out, n_ids_out);
    free(parts);
    return st;
}

cdp_status cdp_chat_encode(const cdp_chat *chat, const cdp_conversation *c, const cdp_tokenizer *tokenizer,
                           int32_t **ids_out, size_t *n_ids_out) {
    cdp_rendered rendered;
    *ids_out = NULL;
    *n_ids_out = 0;
    cdp_status st = cdp_chat_render(chat, c, &rendered);
    if (st == CDP_OK)
        st = cdp_rendered_encode(&rendered, tokenizer, ids_out, n_ids_out);
    cdp_rendered_close(&rendered);
    return st;
}
