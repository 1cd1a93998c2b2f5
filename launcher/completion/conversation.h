/* launcher/completion/conversation.h - who said what: the messages of a chat, as a chat template wants
 * them. */
#pragma once

#include "kernels/status.h"

typedef struct cdp_message {
    char *role, *content;
    size_t n_content;
} cdp_message;

typedef struct cdp_messages {
    cdp_message *data;
    int n, room;
} cdp_messages;

/* Append; role and content are copied. */
cdp_status cdp_messages_add(cdp_messages *messages, const char *role, const char *content, size_t n_content);

/* Forget all but the first n. */
void cdp_messages_cut(cdp_messages *messages, int n);

/* [{"role": "user", "content": "..."}, ...]; the caller frees *json_out. */
cdp_status cdp_messages_json(const cdp_messages *messages, char **json_out, size_t *n_out);

/* The same from a file. CDP_BAD_DATA when it is no list of roles with texts. */
cdp_status cdp_messages_load(cdp_messages *out, const char *path);
/* An older file stays until the new one is whole. CDP_IO. */
cdp_status cdp_messages_save(const cdp_messages *messages, const char *path);

void cdp_messages_close(cdp_messages *messages);
