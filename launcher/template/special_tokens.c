#include "launcher/template/special_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/file.h"
#include "planner/json.h"

static cdp_status no_memory(void) {
    return cdp_fail(CDP_SYSTEM, "no memory for the special tokens");
}

/* "text" or {"content": "text"}; NULL when it is no token. */
static const char *token_text(const cJSON *json) {
    const cJSON *text = cJSON_IsObject(json) ? cdp_json_get(json, "content") : json;
    return cJSON_IsString(text) ? text->valuestring : NULL;
}

static bool is_known(const cdp_special_tokens *tokens, const char *name) {
    for (int i = 0; i < tokens->n; i++)
        if (strcmp(tokens->data[i].name, name) == 0)
            return true;
    return false;
}

static cdp_status add(cdp_special_tokens *tokens, const char *name, const char *text) {
    if (tokens->n == tokens->room) {
        const int room = 2 * tokens->room + 8;
        cdp_variable *more = realloc(tokens->data, (size_t)room * sizeof *more);
        if (more == NULL)
            return no_memory();
        tokens->data = more;
        tokens->room = room;
    }
    char *json = NULL, *copy = strdup(name);
    size_t n = 0;
    FILE *to = copy != NULL ? open_memstream(&json, &n) : NULL;
    if (to != NULL)
        cdp_json_write_quoted(to, text, strlen(text));
    if (to == NULL || fclose(to) != 0) {
        free(copy);
        free(json);
        return no_memory();
    }
    tokens->data[tokens->n++] = (cdp_variable){.name = copy, .json = json, .n_json = n, .is_own = true};
    return CDP_OK;
}

/* Every member whose name ends in _token and that is one. */
static cdp_status add_members(cdp_special_tokens *tokens, const cJSON *object) {
    const cJSON *member;
    if (!cJSON_IsObject(object))
        return CDP_OK;
    cJSON_ArrayForEach(member, object) {
        const char *name = member->string, *text = token_text(member);
        const size_t n = strlen(name), n_end = strlen("_token");
        if (text != NULL && n > n_end && strcmp(name + n - n_end, "_token") == 0 && !is_known(tokens, name))
            CDP_TRY(add(tokens, name, text));
    }
    return CDP_OK;
}

cdp_status cdp_special_tokens_read(cdp_special_tokens *out, const char *dir, const cJSON *config) {
    char path[4200];
    cJSON *map = NULL;
    *out = (cdp_special_tokens){0};
    CDP_TRY(add_members(out, config));
    CDP_TRY(add_members(out, cdp_json_get(config, "extra_special_tokens")));
    if (!cdp_file_join(path, sizeof path, dir, "special_tokens_map.json") || !cdp_file_exists(path))
        return CDP_OK;
    CDP_TRY(cdp_json_read(&map, path, &cdp_json_config_limits));
    const cdp_status st = add_members(out, map);
    cJSON_Delete(map);
    return st;
}

void cdp_special_tokens_close(cdp_special_tokens *tokens) {
    for (int i = 0; i < tokens->n; i++) {
        free((char *)tokens->data[i].name);
        free((char *)tokens->data[i].json);
    }
    free(tokens->data);
    *tokens = (cdp_special_tokens){0};
}
