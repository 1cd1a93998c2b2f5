/* Options as bytes: "command\0name=value\0name=value\0...", only what differs from the defaults. */
#include <stdlib.h>
#include <string.h>

#include "launcher/option_table.h"

/* The value as text into a stream; false when it is the default. */
static bool write_value(FILE *to, const option_row *row, const cdp_options *o, const cdp_options *base) {
    const void *field = (const char *)o + row->offset, *other = (const char *)base + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        if (*(const bool *)field == *(const bool *)other)
            return false;
        fputs("1", to);
        return true;
    case OPTION_TEXT:
    case OPTION_CHOICE:
        if (*(const char *const *)field == *(const char *const *)other)
            return false;
        fputs(*(const char *const *)field, to);
        return true;
    case OPTION_INT:
        fprintf(to, "%d", *(const int *)field);
        return *(const int *)field != *(const int *)other;
    case OPTION_U64:
        fprintf(to, "%llu", (unsigned long long)*(const uint64_t *)field);
        return *(const uint64_t *)field != *(const uint64_t *)other;
    case OPTION_REAL:
        fprintf(to, "%a", *(const double *)field);
        return memcmp(field, other, sizeof(double)) != 0;
    case OPTION_STOPS:
        return false; /* rank 0 alone compares texts */
    }
    return false;
}

cdp_status cdp_options_pack(const cdp_options *options, char **bytes, size_t *n_out) {
    *bytes = NULL;
    *n_out = 0;
    cdp_options base;
    cdp_options_defaults(&base);
    FILE *to = open_memstream(bytes, n_out);
    if (to == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to pack the options");
    fprintf(to, "%d%c", (int)options->command, 0);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        char *value = NULL;
        size_t n = 0;
        FILE *one = open_memstream(&value, &n);
        if (one == NULL)
            break;
        const bool is_set = write_value(one, row, options, &base);
        fclose(one);
        if (is_set)
            fprintf(to, "%s=%s%c", row->name, value, 0);
        free(value);
    }
    if (fclose(to) != 0)
        return cdp_fail(CDP_SYSTEM, "no memory to pack the options");
    return CDP_OK;
}

/* The packed values come from our own writer; they only have to land in their fields. */
static void read_value(cdp_options *out, const option_row *row, const char *value) {
    void *field = (char *)out + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        break;
    case OPTION_TEXT:
    case OPTION_CHOICE:
        *(const char **)field = value;
        break;
    case OPTION_INT:
        *(int *)field = (int)strtol(value, NULL, 10);
        break;
    case OPTION_U64:
        *(uint64_t *)field = strtoull(value, NULL, 10);
        break;
    case OPTION_REAL:
        *(double *)field = strtod(value, NULL);
        break;
    case OPTION_STOPS:
        break;
    }
}

cdp_status cdp_options_unpack(cdp_options *out, const char *bytes, size_t n) {
    cdp_options_defaults(out);
    out->memory = malloc(n + 1);
    if (out->memory == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to unpack the options");
    memcpy(out->memory, bytes, n);
    out->memory[n] = '\0';
    const char *at = out->memory, *end = out->memory + n;
    out->command = (cdp_command)strtol(at, NULL, 10);
    for (at += strlen(at) + 1; at < end; at += strlen(at) + 1) {
        const char *equals = strchr(at, '=');
        for (int i = 0; equals != NULL && i < cdp_n_option_rows; i++) {
            const char *name = cdp_option_rows[i].name;
            if (strlen(name) == (size_t)(equals - at) && strncmp(name, at, strlen(name)) == 0)
                read_value(out, &cdp_option_rows[i], equals + 1);
        }
    }
    return CDP_OK;
}

void cdp_options_close(cdp_options *options) {
    free(options->memory);
    options->memory = NULL;
}
