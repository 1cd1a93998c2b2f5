#include "launcher/jobs/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "planner/file.h"
#include "planner/json.h"

enum { MAX_PROMPT_BYTES = 64 << 20 };

static cdp_status read_stream(cdp_prompt *out, FILE *from, const char *name) {
    size_t room = 0;
    for (;;) {
        if (out->n_text + 65537 > room) {
            room = room == 0 ? 131072 : 2 * room;
            char *grown = room > 2 * (size_t)MAX_PROMPT_BYTES ? NULL : realloc(out->text, room);
            if (grown == NULL)
                return cdp_fail(CDP_BAD_DATA, "%s is longer than %d bytes", name, MAX_PROMPT_BYTES);
            out->text = grown;
        }
        const size_t n = fread(out->text + out->n_text, 1, 65536, from);
        out->n_text += n;
        out->text[out->n_text] = '\0';
        if (n < 65536)
            return ferror(from) ? cdp_fail(CDP_NO_INPUT, "%s: %s", name, strerror(errno)) : CDP_OK;
    }
}

cdp_status cdp_prompt_read(cdp_prompt *out, const cdp_options *options) {
    *out = (cdp_prompt){0};
    if (options->prompt_ids != NULL)
        return CDP_OK;
    if (options->prompt != NULL) {
        out->text = strdup(options->prompt);
        out->n_text = strlen(options->prompt);
        return out->text != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the prompt");
    }
    if (options->prompt_file != NULL)
        return cdp_file_read_text(&out->text, &out->n_text, options->prompt_file, MAX_PROMPT_BYTES);
    if (isatty(STDIN_FILENO))
        return cdp_fail(CDP_USAGE,
                        "no text: give --prompt, --prompt-file, --prompt-ids, or text on standard input");
    return read_stream(out, stdin, "standard input");
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

cdp_status cdp_prompt_encode(cdp_prompt *prompt, const cdp_options *options, const cdp_tokenizer *tokenizer,
                             const cdp_model_card *card) {
    if (options->prompt_ids != NULL) {
        CDP_TRY(parse_ids(prompt, options->prompt_ids, card->vocab));
    } else {
        if (tokenizer == NULL)
            return cdp_fail(CDP_BAD_DATA, "%s has no tokenizer.json: give --prompt-ids", options->model);
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

void cdp_prompt_close(cdp_prompt *prompt) {
    free(prompt->text);
    free(prompt->ids);
    *prompt = (cdp_prompt){0};
}

bool cdp_model_has_chat_template(const char *dir) {
    char path[4200];
    if (cdp_file_join(path, sizeof path, dir, "chat_template.jinja") && cdp_file_exists(path))
        return true;
    cJSON *config = NULL;
    if (!cdp_file_join(path, sizeof path, dir, "tokenizer_config.json") || !cdp_file_exists(path) ||
        cdp_json_read(&config, path, &cdp_json_index_limits) != CDP_OK) {
        cdp_error_clear(); /* a broken tokenizer_config.json has nothing that this run needs */
        return false;
    }
    const cJSON *chat_template = cdp_json_get(config, "chat_template");
    const bool has_one = chat_template != NULL && !cJSON_IsNull(chat_template);
    cJSON_Delete(config);
    return has_one;
}
