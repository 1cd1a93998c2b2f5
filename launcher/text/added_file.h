/* launcher/text/added_file.h - tokenizer.json's "added_tokens". */
#pragma once

#include "launcher/text/model_file.h"

/* Count the entries (each has an id and a content), and raise *n_tokens to the largest id + 1. */
cdp_status cdp_added_file_count(const char *name, const cJSON *added, size_t *n_out, int *n_tokens);

/* Enter one, where the vocabulary is read. Id and text have to agree with the vocabulary's. */
cdp_status cdp_added_file_read(cdp_tokenizer *out, const char *name, const cJSON *item);
