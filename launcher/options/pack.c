/* Options as bytes: "command\0Oname=value\0Oname=value\0...", O the digit of the origin; only what was given
 * or differs from the defaults. And the command line as text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/options/table.h"

static cdp_status no_memory(void) {
    return cdp_fail(CDP_SYSTEM, "no memory to pack the options");
}

/* The value as text into a stream; whether it differs from the default. */
static bool write_value(FILE *to, const option_row *row, const cdp_options *o, const cdp_options *base) {
    const void *field = (const char *)o + row->offset, *other = (const char *)base + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        fputs(*(const bool *)field ? "1" : "0", to);
        return *(const bool *)field != *(const bool *)other;
    case OPTION_TEXT:
    case OPTION_CHOICE:
        if (*(const char *const *)field == NULL)
            return false;
        fputs(*(const char *const *)field, to);
        return *(const char *const *)other == NULL ||
               strcmp(*(const char *const *)field, *(const char *const *)other) != 0;
    case OPTION_INT:
        fprintf(to, "%d", *(const int *)field);
        return *(const int *)field != *(const int *)other;
    case OPTION_U64:
        fprintf(to, "%llu", (unsigned long long)*(const uint64_t *)field);
        return *(const uint64_t *)field != *(const uint64_t *)other;
    case OPTION_REAL: /* all bits */
        fprintf(to, "%a", *(const double *)field);
        return memcmp(field, other, sizeof(double)) != 0;
    case OPTION_STOPS:
        return false; /* one entry each: pack_row */
    }
    return false;
}

static cdp_status pack_row(FILE *to, const option_row *row, const cdp_options *options,
                           const cdp_options *base) {
    const int origin = options->origin[row - cdp_option_rows];
    if (row->kind == OPTION_STOPS) {
        const char *const *values = (const char *const *)((const char *)options + row->offset);
        for (int i = 0; i < *cdp_option_count((cdp_options *)options, row); i++)
            fprintf(to, "%d%s=%s%c", origin, row->name, values[i], 0);
        return CDP_OK;
    }
    char *value = NULL;
    size_t n = 0;
    FILE *one = open_memstream(&value, &n);
    if (one == NULL)
        return no_memory();
    const bool differs = write_value(one, row, options, base), is_broken = ferror(one) != 0;
    const bool is_whole = fclose(one) == 0 && !is_broken;
    if (is_whole && (differs || origin != CDP_FROM_DEFAULT))
        fprintf(to, "%d%s=%s%c", origin, row->name, value, 0);
    free(value);
    return is_whole ? CDP_OK : no_memory();
}

cdp_status cdp_options_pack(const cdp_options *options, char **bytes, size_t *n_out) {
    *bytes = NULL;
    *n_out = 0;
    cdp_options base;
    cdp_options_defaults(&base);
    FILE *to = open_memstream(bytes, n_out);
    if (to == NULL)
        return no_memory();
    fprintf(to, "%d%c", (int)options->command, 0);
    cdp_status st = CDP_OK;
    for (int i = 0; st == CDP_OK && i < cdp_n_option_rows; i++)
        st = pack_row(to, &cdp_option_rows[i], options, &base);
    const bool is_broken = ferror(to) != 0;
    if (fclose(to) != 0 || is_broken)
        st = no_memory();
    if (st != CDP_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return st;
}

/* The packed values come from our own writer; they only have to land in their fields. */
static void read_value(cdp_options *out, const option_row *row, const char *value) {
    void *field = (char *)out + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = *value == '1';
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
        ((const char **)field)[(*cdp_option_count(out, row))++] = value;
        break;
    }
}

static const option_row *row_named(const char *name, size_t n) {
    for (int i = 0; i < cdp_n_option_rows; i++)
        if (strlen(cdp_option_rows[i].name) == n && strncmp(cdp_option_rows[i].name, name, n) == 0)
            return &cdp_option_rows[i];
    return NULL;
}

/* One entry "Oname=value"; false where it is none of ours. */
static bool unpack_entry(cdp_options *out, const char *entry) {
    const char *equals = strchr(entry, '=');
    const int origin = *entry - '0';
    if (equals == NULL || origin < CDP_FROM_DEFAULT || origin > CDP_FROM_COMMAND_LINE)
        return false;
    const option_row *row = row_named(entry + 1, (size_t)(equals - entry - 1));
    if (row == NULL || (row->kind == OPTION_STOPS && *cdp_option_count(out, row) == CDP_MAX_STOPS))
        return false;
    read_value(out, row, equals + 1);
    out->origin[row - cdp_option_rows] = (unsigned char)origin;
    return true;
}

cdp_status cdp_options_unpack(cdp_options *out, const char *bytes, size_t n) {
    cdp_options_defaults(out);
    out->memory = malloc(n + 1);
    if (out->memory == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to unpack the options");
    memcpy(out->memory, bytes, n);
    out->memory[n] = '\0';
    char *rest;
    const char *at = out->memory, *end = out->memory + n;
    const long command = strtol(at, &rest, 10);
    bool is_good = rest > at && *rest == '\0' && command >= 0 && command < CDP_N_COMMANDS;
    out->command = is_good ? (cdp_command)command : CDP_GENERATE;
    for (at += strlen(at) + 1; is_good && at < end; at += strlen(at) + 1)
        is_good = unpack_entry(out, at);
    if (is_good)
        return CDP_OK;
    cdp_options_close(out);
    cdp_options_defaults(out); /* nothing points into what was freed */
    return cdp_fail(CDP_INTERNAL, "the options that rank 0 sent cannot be read");
}

void cdp_options_close(cdp_options *options) {
    free(options->memory);
    options->memory = NULL;
}

/* A backslash before backslashes and quotes, so that what cdp_escape makes of other bytes is told apart from
 * what was written that way. */
static char *printable(const char *word) {
    const size_t n = strlen(word), room = 8 * n + 16; /* a byte becomes four characters at most */
    char *marked = malloc(2 * n + 1), *text = malloc(room);
    if (marked != NULL && text != NULL) {
        size_t used = 0;
        for (size_t i = 0; i < n; i++) {
            if (word[i] == '\\' || word[i] == '"')
                marked[used++] = '\\';
            marked[used++] = word[i];
        }
        cdp_escape(text, room, marked, used);
    } else {
        free(text);
        text = NULL;
    }
    free(marked);
    return text;
}

cdp_status cdp_options_argv_text(char **out, int argc, char **argv) {
    size_t n = 0;
    *out = NULL;
    FILE *to = open_memstream(out, &n);
    if (to == NULL)
        return no_memory();
    bool is_whole = true;
    for (int i = 1; i < argc && is_whole; i++) {
        char *text = printable(argv[i]);
        const char *quote = argv[i][0] == '\0' || strchr(argv[i], ' ') != NULL ? "\"" : "";
        is_whole = text != NULL && fprintf(to, "%s%s%s%s", i > 1 ? " " : "", quote, text, quote) >= 0;
        free(text);
    }
    is_whole = fclose(to) == 0 && is_whole;
    if (is_whole)
        return CDP_OK;
    free(*out);
    *out = NULL;
    return no_memory();
}
