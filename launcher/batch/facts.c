/* What the records of a job depend on: the input, the model's files, and every option of the groups `text`,
 * `generation` and `decoding` that batch takes, so that a new one is noticed without a word here. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/batch/batch.h"
#include "launcher/options/table.h"
#include "launcher/version.h"
#include "planner/file.h"
#include "planner/roles.h"

enum { MAX_FILE_BYTES = 256 << 20 };

static const char *const model_files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                          "tokenizer_config.json", "chat_template.jinja"};

/* The small files byte by byte, the weights by their headers and sizes. */
static cdp_status fingerprint(char out[CDP_HASH_TEXT], const cdp_run *run) {
    cdp_hash128 hash = cdp_hash_add(CDP_HASH_START, &run->index->fingerprint, sizeof run->index->fingerprint);
    for (size_t i = 0; i < sizeof model_files / sizeof model_files[0]; i++) {
        char path[4200], *text = NULL;
        size_t n = 0;
        if (!cdp_file_join(path, sizeof path, run->card->dir, model_files[i]) || !cdp_file_exists(path))
            continue;
        CDP_TRY(cdp_file_read_text(&text, &n, path, MAX_FILE_BYTES));
        hash = cdp_hash_add(cdp_hash_add(hash, model_files[i], strlen(model_files[i])), text, n);
        free(text);
    }
    cdp_hash_text(out, hash);
    return CDP_OK;
}

static cJSON *list_stops(const cdp_options *o) {
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < o->n_stops; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(o->stops[i]));
    return list;
}

/* The value of an option; null where it was not given and generation_config.json speaks. */
static cJSON *value_of(const cdp_options *o, const option_row *row) {
    const void *field = (const char *)o + row->offset;
    char digits[24];
    switch (row->kind) {
    case OPTION_FLAG:
        return cJSON_CreateBool(*(const bool *)field);
    case OPTION_TEXT:
    case OPTION_CHOICE: {
        const char *text = *(const char *const *)field;
        return text != NULL ? cJSON_CreateString(text) : cJSON_CreateNull();
    }
    case OPTION_INT:
        return *(const int *)field == INT_MIN ? cJSON_CreateNull() : cJSON_CreateNumber(*(const int *)field);
    case OPTION_U64: /* as text: a double has no room for it */
        snprintf(digits, sizeof digits, "%" PRIu64, *(const uint64_t *)field);
        return cJSON_CreateString(digits);
    case OPTION_REAL:
        return isnan(*(const double *)field) ? cJSON_CreateNull()
                                             : cJSON_CreateNumber(*(const double *)field);
    case OPTION_STOPS:
        return list_stops(o);
    }
    return NULL;
}

static void add_options(cJSON *facts, const cdp_options *o) {
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        const bool is_fact = strcmp(row->group, "generation") == 0 || strcmp(row->group, "text") == 0 ||
                             strcmp(row->group, "decoding") == 0;
        if (is_fact && (row->commands >> CDP_BATCH & 1u))
            cJSON_AddItemToObject(facts, row->name, value_of(o, row));
    }
}

cdp_status cdp_batch_facts(cJSON **out, const cdp_batch *batch) {
    const cdp_options *o = batch->options;
    char model[CDP_HASH_TEXT], input[CDP_HASH_TEXT];
    CDP_TRY(fingerprint(model, batch->run));
    cJSON *facts = *out = cJSON_CreateObject(), *about = cJSON_AddObjectToObject(facts, "input");
    cJSON_AddNumberToObject(about, "lines", batch->input.ledger.n);
    cJSON_AddNumberToObject(about, "bytes", (double)batch->input.size);
    cJSON_AddStringToObject(about, "hash", cdp_hash_text(input, batch->input.hash));
    cJSON_AddStringToObject(facts, "model", model);
    cJSON_AddStringToObject(facts, "dtype",
                            strcmp(o->dtype, "auto") == 0 ? cdp_dtype_name(batch->run->card->file_dtype)
                                                          : o->dtype);
    cJSON_AddStringToObject(facts, "kv-dtype", o->kv_dtype);
    add_options(facts, o);
    return cJSON_AddStringToObject(facts, "cdpipe", cdp_version()) != NULL
               ? CDP_OK
               : cdp_fail(CDP_SYSTEM, "no memory for the manifest");
}
