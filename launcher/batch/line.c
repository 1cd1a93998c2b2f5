#include "launcher/batch/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/options/table.h"
#include "planner/json.h"
#include "planner/json_members.h"

static const cdp_json_limits limits = {CDP_MAX_LINE_BYTES, 4 << 20, 64, false, CDP_BAD_DATA};

enum {
    OWN = 1 << CDP_LINE_OWN,
    COMPLETION = 1 << CDP_LINE_COMPLETION,
    CHAT = 1 << CDP_LINE_CHAT,
    BODY = COMPLETION | CHAT,
    ANY = OWN | BODY,
};

/* What a member of a line, or of a body, is. */
typedef enum member_kind {
    OPTION,   /* sets the option named */
    TEXT,     /* what to continue; each form has its own way to say it */
    IDLE,     /* means nothing to a single run of one model */
    ONE,      /* 1 is all there is */
    OFF,      /* false is all there is */
    SWITCH,   /* chat's logprobs: whether to report any */
    TEXT_FORM /* {"type": "text"} is all there is */
} member_kind;

static const struct member {
    const char *name;
    member_kind kind;
    const char *option;
    unsigned forms;
} members[] = {
    {"id", TEXT, NULL, OWN},
    {"prompt", TEXT, NULL, OWN | COMPLETION},
    {"prompt_ids", TEXT, NULL, OWN},
    {"messages", TEXT, NULL, OWN | CHAT},
    {"max_new_tokens", OPTION, "max-new-tokens", OWN},
    {"max_tokens", OPTION, "max-new-tokens", BODY},
    {"max_completion_tokens", OPTION, "max-new-tokens", CHAT},
    {"temperature", OPTION, "temperature", ANY},
    {"top_k", OPTION, "top-k", ANY},
    {"top_p", OPTION, "top-p", ANY},
    {"min_p", OPTION, "min-p", ANY},
    {"repetition_penalty", OPTION, "repetition-penalty", ANY},
    {"presence_penalty", OPTION, "presence-penalty", ANY},
    {"frequency_penalty", OPTION, "frequency-penalty", ANY},
    {"seed", OPTION, "seed", ANY},
    {"stop", OPTION, "stop", ANY},
    {"ignore_eos", OPTION, "ignore-eos", ANY},
    {"decoding", OPTION, "decoding", ANY},
    {"tap_window", OPTION, "tap-window", ANY},
    {"cd_method", OPTION, "cd-method", ANY},
    {"cd_p", OPTION, "cd-p", ANY},
    {"cd_consistency", OPTION, "cd-consistency", ANY},
    {"cd_decay", OPTION, "cd-decay", ANY},
    {"cd_entropy_top_k", OPTION, "cd-entropy-top-k", ANY},
    {"cd_lazy", OPTION, "cd-lazy", ANY},
    {"dola_layers", OPTION, "dola-layers", ANY},
    {"relative_top", OPTION, "relative-top", ANY},
    {"dola_js", OPTION, "dola-js", ANY},
    {"dola_norm", OPTION, "dola-norm", ANY},
    {"logprobs", OPTION, "logprobs", OWN | COMPLETION},
    {"logprobs", SWITCH, NULL, CHAT},
    {"top_logprobs", OPTION, "logprobs", CHAT},
    {"model", IDLE, NULL, BODY},
    {"user", IDLE, NULL, BODY},
    {"metadata", IDLE, NULL, ANY},
    {"store", IDLE, NULL, BODY},
    {"service_tier", IDLE, NULL, BODY},
    {"n", ONE, NULL, BODY},
    {"best_of", ONE, NULL, COMPLETION},
    {"stream", OFF, NULL, BODY},
    {"echo", OFF, NULL, COMPLETION},
    {"response_format", TEXT_FORM, NULL, CHAT},
};

/* "line 7: temperature", for messages. */
typedef struct place {
    char text[160];
} place;

static place place_of(const cdp_line *line, const char *name) {
    place p;
    char shown[96];
    snprintf(p.text, sizeof p.text, "line %u: %s", line->number,
             cdp_escape(shown, sizeof shown, name, strlen(name)));
    return p;
}

static cdp_status refuse(const cdp_line *line, const cJSON *item, const char *expected) {
    char shown[96];
    return cdp_fail(CDP_BAD_DATA, "%s is %s, expected %s", place_of(line, item->string).text,
                    cdp_json_shown(shown, sizeof shown, item), expected);
}

static cdp_status take_id(cdp_line *line, const cJSON *item) {
    if (item == NULL || cJSON_IsNull(item)) {
        snprintf(line->digits, sizeof line->digits, "%u", line->number);
        line->id = line->digits;
        return CDP_OK;
    }
    if (cJSON_IsNumber(item) && cdp_json_is_whole(item)) {
        snprintf(line->digits, sizeof line->digits, "%.0f", item->valuedouble);
        line->id = line->digits;
        line->id_is_number = true;
        return CDP_OK;
    }
    if (!cJSON_IsString(item) || strlen(item->valuestring) > CDP_MAX_ID_BYTES)
        return refuse(line, item, "a text of at most 512 bytes, or a whole number");
    line->id = item->valuestring;
    return CDP_OK;
}

cdp_status cdp_line_identify(cdp_line *out, const char *text, size_t n, uint32_t number) {
    char name[24];
    *out = (cdp_line){.number = number, .text = text, .n_text = n};
    snprintf(name, sizeof name, "line %u", number);
    CDP_TRY(cdp_json_parse(&out->tree, name, text, n, &limits));
    if (!cJSON_IsObject(out->tree))
        return cdp_fail(CDP_BAD_DATA, "%s: expected an object, as in {\"id\": \"a1\", \"prompt\": \"...\"}",
                        name);
    const cJSON *url = cdp_json_get(out->tree, "url"), *id = cdp_json_get(out->tree, "custom_id");
    const cJSON *body = cdp_json_get(out->tree, "body");
    const bool is_openai = id != NULL || url != NULL || body != NULL;
    out->names_decoding = cdp_json_get(is_openai ? body : out->tree, "decoding") != NULL;
    if (is_openai)
        out->form = cJSON_IsString(url) && strcmp(url->valuestring, "/v1/completions") == 0
                        ? CDP_LINE_COMPLETION
                        : CDP_LINE_CHAT;
    return take_id(out, is_openai ? id : cdp_json_get(out->tree, "id"));
}

static const option_row *find_option(const char *name) {
    for (int i = 0; i < cdp_n_option_rows; i++)
        if (strcmp(cdp_option_rows[i].name, name) == 0)
            return &cdp_option_rows[i];
    return NULL;
}

/* The option table judges texts; a number is judged by its digits. */
static cdp_status set_number(cdp_line *line, const option_row *row, const cJSON *item) {
    char digits[48];
    const bool must_be_whole = row->kind != OPTION_REAL;
    if (!cJSON_IsNumber(item))
        return refuse(line, item, must_be_whole ? "a whole number" : "a number");
    snprintf(digits, sizeof digits, cdp_json_is_whole(item) ? "%.0f" : "%.17g", item->valuedouble);
    if (row->kind == OPTION_U64 && line->seed[0] != '\0')
        snprintf(digits, sizeof digits, "%s", line->seed);
    return cdp_option_set(&line->options, row, place_of(line, item->string).text, digits);
}

static cdp_status add_stop(cdp_line *line, const option_row *row, const cJSON *list, const cJSON *item) {
    if (!cJSON_IsString(item) || item->valuestring[0] == '\0' ||
        strlen(item->valuestring) > CDP_MAX_STOP_BYTES)
        return refuse(line, list, "a text of 1 to 4096 bytes, or up to 16 of them");
    return cdp_option_set(&line->options, row, place_of(line, list->string).text, item->valuestring);
}

static cdp_status set_stops(cdp_line *line, const option_row *row, const cJSON *item) {
    line->options.n_stops = 0;
    if (!cJSON_IsArray(item))
        return add_stop(line, row, item, item);
    const cJSON *stop;
    cJSON_ArrayForEach(stop, item) CDP_TRY(add_stop(line, row, item, stop));
    return CDP_OK;
}

static cdp_status set_option(cdp_line *line, const option_row *row, const cJSON *item) {
    if (row->kind == OPTION_STOPS)
        return set_stops(line, row, item);
    if (row->kind == OPTION_FLAG) {
        if (!cJSON_IsBool(item))
            return refuse(line, item, "true or false");
        return cdp_option_set(&line->options, row, place_of(line, item->string).text,
                              cJSON_IsTrue(item) ? "1" : "0");
    }
    if (strcmp(row->name, "tap-window") == 0 && cJSON_IsNumber(item) && cdp_json_is_whole(item)) {
        /* The option holds a text, all or digits, and keeps no copy. */
        snprintf(line->window, sizeof line->window, "%.0f", item->valuedouble);
        return cdp_option_set(&line->options, row, place_of(line, item->string).text, line->window);
    }
    if (row->kind == OPTION_TEXT || row->kind == OPTION_CHOICE) {
        if (!cJSON_IsString(item))
            return refuse(line, item, row->metavar);
        return cdp_option_set(&line->options, row, place_of(line, item->string).text, item->valuestring);
    }
    return set_number(line, row, item);
}

static bool is_text_form(const cJSON *item) {
    const cJSON *type = cdp_json_get(item, "type");
    return cJSON_IsString(type) && strcmp(type->valuestring, "text") == 0;
}

static cdp_status take_member(cdp_line *line, const struct member *m, const cJSON *item) {
    switch (m->kind) {
    case OPTION:
        return set_option(line, find_option(m->option), item);
    case ONE:
        return cJSON_IsNumber(item) && item->valuedouble == 1 ? CDP_OK : refuse(line, item, "1");
    case OFF:
        return cJSON_IsFalse(item) ? CDP_OK : refuse(line, item, "false");
    case SWITCH:
        return cJSON_IsBool(item) ? CDP_OK : refuse(line, item, "true or false");
    case TEXT_FORM:
        return is_text_form(item) ? CDP_OK : refuse(line, item, "{\"type\": \"text\"}");
    case TEXT:
    case IDLE:
        break;
    }
    return CDP_OK;
}

static cdp_status take_members(cdp_line *line, const cJSON *object) {
    const size_t n = sizeof members / sizeof members[0];
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        size_t i = 0;
        while (i < n &&
               (strcmp(members[i].name, item->string) != 0 || !(members[i].forms >> line->form & 1u)))
            i++;
        if (i == n)
            return cdp_fail(CDP_BAD_DATA, "%s is no member that a batch line has",
                            place_of(line, item->string).text);
        if (!cJSON_IsNull(item))
            CDP_TRY(take_member(line, &members[i], item));
    }
    return CDP_OK;
}

/* Chat says in two members what one option says: true alone reports the likeliest token beside the chosen. */
static void settle_logprobs(cdp_line *line, const cJSON *object) {
    const cJSON *wanted = line->form == CDP_LINE_CHAT ? cdp_json_get(object, "logprobs") : NULL;
    if (cJSON_IsFalse(wanted))
        line->options.logprobs = 0;
    else if (cJSON_IsTrue(wanted) && line->options.logprobs == 0)
        line->options.logprobs = 1;
}

static cdp_status take_prompt(cdp_line *line, const cJSON *object) {
    const cJSON *prompt = cdp_json_get(object, "prompt");
    line->prompt_ids = cdp_json_get(object, "prompt_ids");
    line->messages = cdp_json_get(object, "messages");
    if (cJSON_IsString(prompt))
        line->prompt = prompt->valuestring;
    else if (cJSON_IsArray(prompt) && line->form == CDP_LINE_COMPLETION)
        line->prompt_ids = prompt;
    else if (prompt != NULL)
        return refuse(line, prompt, "a text");
    if ((line->prompt != NULL) + (line->prompt_ids != NULL) + (line->messages != NULL) != 1)
        return cdp_fail(CDP_BAD_DATA, "line %u: expected one of prompt, prompt_ids and messages",
                        line->number);
    if (line->prompt_ids != NULL && !cJSON_IsArray(line->prompt_ids))
        return refuse(line, line->prompt_ids, "an array of token ids");
    if (line->messages != NULL && !cJSON_IsArray(line->messages))
        return refuse(line, line->messages, "an array of messages");
    if (line->messages != NULL && line->messages_text == NULL) /* its key is spelled with escapes */
        line->messages_text = cJSON_PrintUnformatted(line->messages);
    return line->messages == NULL || line->messages_text != NULL
               ? CDP_OK
               : cdp_fail(CDP_SYSTEM, "no memory for the messages of line %u", line->number);
}

/* The envelope of an OpenAI line. */
static cdp_status open_body(cdp_line *line, const cJSON **body_out) {
    const cJSON *item;
    cJSON_ArrayForEach(item, line->tree) {
        const char *text = cJSON_IsString(item) ? item->valuestring : "";
        if (strcmp(item->string, "custom_id") == 0)
            continue;
        if (strcmp(item->string, "method") == 0) {
            if (strcmp(text, "POST") != 0)
                return refuse(line, item, "\"POST\"");
        } else if (strcmp(item->string, "url") == 0) {
            if (strcmp(text, "/v1/completions") != 0 && strcmp(text, "/v1/chat/completions") != 0)
                return refuse(line, item, "\"/v1/chat/completions\" or \"/v1/completions\"");
        } else if (strcmp(item->string, "body") != 0) {
            return cdp_fail(CDP_BAD_DATA, "%s is no member that a batch line has",
                            place_of(line, item->string).text);
        }
    }
    *body_out = cdp_json_get(line->tree, "body");
    if (!cJSON_IsObject(*body_out) || cdp_json_get(line->tree, "url") == NULL)
        return cdp_fail(CDP_BAD_DATA, "line %u: expected custom_id, method, url and an object body",
                        line->number);
    const cJSON *model = cdp_json_get(*body_out, "model");
    line->model = cJSON_IsString(model) ? model->valuestring : NULL;
    return CDP_OK;
}

/* What the tree's doubles cannot hold: the digits of a long seed, and the numbers in a conversation. */
static cdp_status keep_written(cdp_line *line) {
    cdp_json_member object = {.value = line->text, .n_value = line->n_text}, found;
    if (line->form != CDP_LINE_OWN && !cdp_json_find_member(&object, line->text, line->n_text, "body"))
        return CDP_OK;
    if (cdp_json_find_member(&found, object.value, object.n_value, "seed") &&
        found.n_value < sizeof line->seed && strspn(found.value, "0123456789") >= found.n_value)
        snprintf(line->seed, sizeof line->seed, "%.*s", (int)found.n_value, found.value);
    if (!cdp_json_find_member(&found, object.value, object.n_value, "messages"))
        return CDP_OK;
    line->messages_text = strndup(found.value, found.n_value);
    return line->messages_text != NULL
               ? CDP_OK
               : cdp_fail(CDP_SYSTEM, "no memory for the messages of line %u", line->number);
}

cdp_status cdp_line_read(cdp_line *line, const cdp_options *options) {
    const cJSON *object = line->tree;
    line->options = *options;
    if (line->form != CDP_LINE_OWN)
        CDP_TRY(open_body(line, &object));
    CDP_TRY(keep_written(line));
    cdp_status st = take_members(line, object);
    settle_logprobs(line, object);
    if (st == CDP_OK)
        st = take_prompt(line, object);
    return st == CDP_USAGE ? CDP_BAD_DATA
                           : st; /* the option table speaks of usage; here it is a line's data */
}

void cdp_line_close(cdp_line *line) {
    cJSON_Delete(line->tree);
    free(line->messages_text);
    line->tree = NULL;
    line->messages_text = NULL;
}
