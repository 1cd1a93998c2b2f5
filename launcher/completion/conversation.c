#include "launcher/completion/conversation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/file.h"
#include "planner/json.h"

static const cdp_json_limits file_limits = {64 << 20, 1 << 20, 8, true, CDP_BAD_DATA};

cdp_status cdp_messages_add(cdp_messages *m, const char *role, const char *content, size_t n_content) {
    if (m->n == m->room) {
        const int room = 2 * m->room + 8;
        cdp_message *more = realloc(m->data, (size_t)room * sizeof *more);
        if (more == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for %d messages", room);
        m->data = more;
        m->room = room;
    }
    cdp_message one = {.role = strdup(role), .content = malloc(n_content + 1), .n_content = n_content};
    if (one.role == NULL || one.content == NULL) {
        free(one.role);
        free(one.content);
        return cdp_fail(CDP_SYSTEM, "no memory for a message of %zu bytes", n_content);
    }
    memcpy(one.content, content, n_content);
    one.content[n_content] = '\0';
    m->data[m->n++] = one;
    return CDP_OK;
}

void cdp_messages_cut(cdp_messages *m, int n) {
    while (m->n > n) {
        m->n--;
        free(m->data[m->n].role);
        free(m->data[m->n].content);
    }
}

void cdp_messages_close(cdp_messages *m) {
    cdp_messages_cut(m, 0);
    free(m->data);
    *m = (cdp_messages){0};
}

static void write_member(FILE *to, const char *key, const char *text, size_t n) {
    fprintf(to, "\"%s\": ", key);
    cdp_json_write_quoted(to, text, n);
}

cdp_status cdp_messages_json(const cdp_messages *m, char **json_out, size_t *n_out) {
    *json_out = NULL;
    *n_out = 0;
    FILE *to = open_memstream(json_out, n_out);
    if (to == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the messages");
    fputc('[', to);
    for (int i = 0; i < m->n; i++) {
        fputs(i > 0 ? ",\n {" : "{", to);
        write_member(to, "role", m->data[i].role, strlen(m->data[i].role));
        fputs(", ", to);
        write_member(to, "content", m->data[i].content, m->data[i].n_content);
        fputc('}', to);
    }
    fputc(']', to);
    const bool is_broken = ferror(to) != 0;
    if (fclose(to) == 0 && !is_broken)
        return CDP_OK;
    free(*json_out);
    *json_out = NULL;
    return cdp_fail(CDP_SYSTEM, "no memory for the messages");
}

cdp_status cdp_messages_save(const cdp_messages *m, const char *path) {
    char *json;
    size_t n;
    CDP_TRY(cdp_messages_json(m, &json, &n));
    const cdp_status st = cdp_file_replace(path, json);
    free(json);
    return st;
}

static cdp_status take_all(cdp_messages *out, const char *name, const cJSON *list) {
    const cJSON *item;
    if (!cJSON_IsArray(list))
        return cdp_fail(CDP_BAD_DATA, "%s: expected a list of messages", name);
    cJSON_ArrayForEach(item, list) {
        const cJSON *role = cdp_json_get(item, "role"), *content = cdp_json_get(item, "content");
        if (!cJSON_IsString(role) || !cJSON_IsString(content))
            return cdp_fail(CDP_BAD_DATA, "%s: message %d has no role or no text as its content", name,
                            out->n + 1);
        CDP_TRY(cdp_messages_add(out, role->valuestring, content->valuestring, strlen(content->valuestring)));
    }
    return CDP_OK;
}

cdp_status cdp_messages_load(cdp_messages *out, const char *path) {
    char shown[CDP_SHOWN_PATH];
    cJSON *json = NULL;
    *out = (cdp_messages){0};
    CDP_TRY(cdp_json_read(&json, path, &file_limits));
    const cdp_status st = take_all(out, cdp_escape(shown, sizeof shown, path, strlen(path)), json);
    cJSON_Delete(json);
    if (st != CDP_OK)
        cdp_messages_close(out);
    return st;
}
