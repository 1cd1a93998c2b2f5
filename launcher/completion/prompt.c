#include "launcher/completion/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/log.h"
#include "launcher/completion/conversation.h"
#include "launcher/streams.h"
#include "planner/file.h"

enum { MAX_PROMPT_BYTES = 64 << 20 };

/* Text may come late, from a program at work or a person: that is no hang of this rank. */
static cdp_status idle(void *of) {
    if (cdp_stop_wanted())
        return cdp_fail(CDP_STOPPED, "stopped by a signal before the text came");
    return of != NULL ? cdp_world_poll(of) : CDP_OK;
}

static cdp_status read_stream(cdp_prompt *out, int from, const char *name, cdp_world *world) {
    size_t room = 0;
    for (;;) {
        if (out->n_text > MAX_PROMPT_BYTES)
            return cdp_fail(CDP_BAD_DATA, "%s is longer than %d bytes", name, MAX_PROMPT_BYTES);
        if (out->n_text + 65537 > room) {
            room = room == 0 ? 131072 : 2 * room;
            char *grown = realloc(out->text, room);
            if (grown == NULL)
                return cdp_fail(CDP_SYSTEM, "no memory for %s", name);
            out->text = grown;
        }
        CDP_TRY(cdp_stream_await(from, idle, world));
        const ssize_t n = read(from, out->text + out->n_text, 65536);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return cdp_fail(CDP_NO_INPUT, "%s: %s", name, strerror(errno));
        out->n_text += n > 0 ? (size_t)n : 0;
        out->text[out->n_text] = '\0';
        if (n == 0)
            return CDP_OK;
    }
}

static cdp_status read_file(cdp_prompt *out, const char *path, cdp_world *world) {
    char shown[CDP_SHOWN_PATH];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe's writer may come later */
    const char *why = strerror(errno);
    cdp_escape(shown, sizeof shown, path, strlen(path));
    if (fd < 0)
        return cdp_fail(CDP_NO_INPUT, "%s: %s", shown, why);
    const cdp_status st = read_stream(out, fd, shown, world);
    close(fd);
    return st;
}

cdp_status cdp_prompt_read(cdp_prompt *out, const cdp_options *options, cdp_world *world) {
    *out = (cdp_prompt){0};
    if (options->prompt_ids != NULL)
        return CDP_OK;
    if (options->prompt != NULL) {
        out->text = strdup(options->prompt);
        out->n_text = strlen(options->prompt);
        return out->text != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the prompt");
    }
    if (options->prompt_file != NULL)
        return read_file(out, options->prompt_file, world);
    if (isatty(STDIN_FILENO))
        return cdp_fail(CDP_USAGE,
                        "no text: give --prompt, --prompt-file, --prompt-ids, or text on standard input");
    return read_stream(out, STDIN_FILENO, "standard input", world);
}

/* "1,2,3": digits and commas, white space around a number is fine. */
static cdp_status parse_ids(cdp_prompt *out, const char *text, int vocab) {
    out->ids = calloc(strlen(text) / 2 + 1, sizeof *out->ids);
    if (out->ids == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the ids");
    for (const char *at = text; *at != '\0';) {
        char *end;
        at += strspn(at, " \t\n");
        errno = 0;
        const long long id = strtoll(at, &end, 10);
        if (end == at || errno != 0 || id < 0 || id >= vocab)
            return cdp_fail(CDP_BAD_DATA, "--prompt-ids: number %zu is \"%.*s\", expected an id from 0 to %d",
                            out->n_ids + 1, (int)strcspn(at, ","), at, vocab - 1);
        out->ids[out->n_ids++] = (int32_t)id;
        at = end + strspn(end, " \t\n");
        if (*at != ',' && *at != '\0')
            return cdp_fail(CDP_BAD_DATA, "--prompt-ids: \"%c\" after number %zu, expected a comma", *at,
                            out->n_ids);
        at += *at == ',';
    }
    return CDP_OK;
}

static cdp_status check_ids(const cdp_prompt *prompt, const cdp_model_card *card) {
    if (prompt->n_ids == 0)
        return cdp_fail(CDP_BAD_DATA, "the prompt is empty");
    if (prompt->n_ids > INT32_MAX / 2)
        return cdp_fail(CDP_BAD_DATA, "a prompt of %zu tokens is too long", prompt->n_ids);
    for (size_t i = 0; i < prompt->n_ids; i++)
        if (prompt->ids[i] < 0 || prompt->ids[i] >= card->vocab)
            return cdp_fail(CDP_BAD_MODEL, "tokenizer.json gives id %d, but the embedding has %d rows",
                            prompt->ids[i], card->vocab);
    return CDP_OK;
}

cdp_status cdp_prompt_encode_conversation(cdp_prompt *prompt, const cdp_conversation *conversation,
                                          const cdp_chat *chat, const cdp_tokenizer *tokenizer,
                                          const cdp_model_card *card) {
    CDP_TRY(cdp_chat_encode(chat, conversation, tokenizer, &prompt->ids, &prompt->n_ids));
    return check_ids(prompt, card);
}

static cdp_status encode_messages(cdp_prompt *prompt, const cdp_options *o, const cdp_chat *chat,
                                  const cdp_tokenizer *tokenizer, const cdp_model_card *card) {
    cdp_messages messages = {0};
    cdp_conversation conversation = {0};
    char *json = NULL;
    cdp_status st = CDP_OK;
    if (o->system != NULL)
        CDP_TRY_GOTO(cdp_messages_add(&messages, "system", o->system, strlen(o->system)), st, done);
    CDP_TRY_GOTO(cdp_messages_add(&messages, "user", prompt->text, prompt->n_text), st, done);
    CDP_TRY_GOTO(cdp_messages_json(&messages, &json, &conversation.n_messages), st, done);
    conversation.messages = json;
    st = cdp_prompt_encode_conversation(prompt, &conversation, chat, tokenizer, card);
done:
    cdp_messages_close(&messages);
    free(json);
    return st;
}

/* A template that we cannot read must not keep a model from running, but its user has to know. */
static cdp_status open_chat(cdp_chat **out, const cdp_options *o) {
    const cdp_status st = cdp_chat_open(out, o->model);
    if (st != CDP_BAD_MODEL || o->system != NULL)
        return st;
    cdp_note("the chat template cannot be used, the prompt is sent as it is: %s", cdp_error_message());
    cdp_error_clear();
    return CDP_OK;
}

cdp_status cdp_prompt_encode_chat(cdp_prompt *prompt, const cdp_options *o, const cdp_tokenizer *tokenizer,
                                  const cdp_model_card *card, bool *done_out) {
    cdp_chat *chat = NULL;
    const bool is_wanted = !o->raw && prompt->text != NULL && tokenizer != NULL && cdp_chat_exists(o->model);
    *done_out = false;
    if (!is_wanted && o->system != NULL)
        return cdp_fail(CDP_USAGE, "--system needs a text and a model with a chat template, without --raw");
    if (!is_wanted)
        return CDP_OK;
    CDP_TRY(open_chat(&chat, o));
    if (chat == NULL)
        return CDP_OK;
    const cdp_status st = encode_messages(prompt, o, chat, tokenizer, card);
    cdp_chat_close(chat);
    *done_out = true;
    return st;
}

cdp_status cdp_prompt_encode(cdp_prompt *prompt, const cdp_options *options, const cdp_tokenizer *tokenizer,
                             const cdp_model_card *card) {
    if (options->prompt_ids != NULL) {
        CDP_TRY(parse_ids(prompt, options->prompt_ids, card->vocab));
    } else {
        if (tokenizer == NULL)
            return cdp_fail(CDP_NO_INPUT, "%s has no tokenizer.json: give --prompt-ids", options->model);
        CDP_TRY(cdp_tokenizer_encode(tokenizer, prompt->text, prompt->n_text, !options->no_bos, &prompt->ids,
                                     &prompt->n_ids));
    }
    if (prompt->n_ids == 0 && card->bos >= 0 && !options->no_bos && options->prompt_ids == NULL) {
        free(prompt->ids);
        prompt->ids = calloc(1, sizeof *prompt->ids);
        if (prompt->ids == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the ids");
        prompt->ids[0] = card->bos;
        prompt->n_ids = 1;
    }
    return check_ids(prompt, card);
}

void cdp_prompt_close(cdp_prompt *prompt) {
    free(prompt->text);
    free(prompt->ids);
    *prompt = (cdp_prompt){0};
}
