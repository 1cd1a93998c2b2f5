/* template: a conversation as the text that the model gets to see. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/completion/completion.h"
#include "launcher/jobs/jobs.h"
#include "launcher/template/chat.h"
#include "planner/file.h"
#include "planner/json.h"

enum { MAX_CONVERSATION_BYTES = 64 << 20 };

/* --var name=JSON */
static cdp_status read_variables(cdp_variable *out, const cdp_options *o) {
    for (int i = 0; i < o->n_vars; i++) {
        const char *equals = strchr(o->vars[i], '=');
        char shown[80];
        if (equals == NULL || equals == o->vars[i])
            return cdp_fail(CDP_USAGE, "--var takes name=JSON, as in enable_thinking=false, not \"%s\"",
                            cdp_escape(shown, sizeof shown, o->vars[i], strlen(o->vars[i])));
        char *name = strndup(o->vars[i], (size_t)(equals - o->vars[i]));
        if (name == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the variables");
        out[i] = (cdp_variable){.name = name, .json = equals + 1, .n_json = strlen(equals + 1)};
    }
    return CDP_OK;
}

static void print_text(const cdp_rendered *rendered) {
    printf("{\"text\": ");
    cdp_json_write_quoted(stdout, rendered->text, rendered->n);
}

/* The text, and with a tokenizer at hand its ids. */
static cdp_status print_json(const cdp_rendered *rendered, const char *dir) {
    char path[4200];
    cdp_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    cdp_status st = CDP_OK;
    const bool has_ids = cdp_file_join(path, sizeof path, dir, "tokenizer.json") && cdp_file_exists(path);
    if (has_ids)
        st = cdp_tokenizer_open(&tokenizer, dir);
    if (st == CDP_OK && has_ids)
        st = cdp_rendered_encode(rendered, tokenizer, &ids, &n_ids);
    if (st == CDP_OK) {
        print_text(rendered);
        if (has_ids) {
            printf(", ");
            cdp_write_ids(stdout, "ids", ids, n_ids);
        }
        printf("}\n");
    }
    free(ids);
    cdp_tokenizer_close(tokenizer);
    return st;
}

static cdp_status render(const cdp_options *o, const cdp_chat *chat, const cdp_conversation *conversation) {
    cdp_rendered rendered;
    cdp_status st = cdp_chat_render(chat, conversation, &rendered);
    if (st == CDP_OK && o->json)
        st = print_json(&rendered, o->model);
    else if (st == CDP_OK)
        fwrite(rendered.text, 1, rendered.n, stdout);
    cdp_rendered_close(&rendered);
    if (st == CDP_OK && fflush(stdout) != 0)
        st = cdp_fail(CDP_IO, "writing the text: %s", strerror(errno));
    return st;
}

cdp_status cdp_job_template(const cdp_options *o) {
    cdp_variable more[CDP_MAX_STOPS] = {{0}};
    char *messages = NULL, *tools = NULL, messages_file[CDP_SHOWN_PATH], tools_file[CDP_SHOWN_PATH];
    size_t n_messages = 0, n_tools = 0;
    cdp_chat *chat = NULL;
    cdp_status st = CDP_OK;
    if (o->messages == NULL)
        return cdp_fail(CDP_USAGE, "template needs --messages FILE.json: a list of {\"role\", \"content\"}");
    CDP_TRY_GOTO(read_variables(more, o), st, done);
    CDP_TRY_GOTO(cdp_chat_open(&chat, o->model), st, done);
    CDP_TRY_GOTO(cdp_file_read_text(&messages, &n_messages, o->messages, MAX_CONVERSATION_BYTES), st, done);
    cdp_escape(messages_file, sizeof messages_file, o->messages, strlen(o->messages));
    if (o->tools != NULL) {
        CDP_TRY_GOTO(cdp_file_read_text(&tools, &n_tools, o->tools, MAX_CONVERSATION_BYTES), st, done);
        cdp_escape(tools_file, sizeof tools_file, o->tools, strlen(o->tools));
    }
    const cdp_conversation conversation = {.messages = messages,
                                           .n_messages = n_messages,
                                           .tools = tools,
                                           .n_tools = n_tools,
                                           .messages_file = messages_file,
                                           .tools_file = o->tools != NULL ? tools_file : NULL,
                                           .has_no_generation_prompt = o->no_generation_prompt,
                                           .more = more,
                                           .n_more = o->n_vars};
    st = render(o, chat, &conversation);
done:
    for (int i = 0; i < CDP_MAX_STOPS; i++)
        free((char *)more[i].name);
    free(messages);
    free(tools);
    cdp_chat_close(chat);
    return st;
}
