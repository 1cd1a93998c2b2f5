/* One value of one option: from text into its field. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/options/table.h"

/* `max` is an answer that only a plan can give; `all` can be had everywhere. */
bool cdp_option_takes_word(const option_row *row, cdp_command command) {
    return row->word != NULL &&
           (strcmp(row->word, "max") != 0 || command >= CDP_N_COMMANDS || command == CDP_PLAN);
}

/* "--max-gpu-memory" is also CDPIPE_MAX_GPU_MEMORY. */
void cdp_option_variable(char *out, size_t out_size, const option_row *row) {
    snprintf(out, out_size, "CDPIPE_%s", row->name);
    for (char *c = out; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

/* `where` is "--ctx" or "CDPIPE_CTX": what the person wrote. */
static cdp_status bad_value(const cdp_options *o, const option_row *row, const char *where,
                            const char *value) {
    char shown[128];
    cdp_escape(shown, sizeof shown, value, strlen(value));
    if (row->kind == OPTION_FLAG)
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected 0 or 1", where, shown);
    if (row->kind == OPTION_INT) {
        const bool has_word = cdp_option_takes_word(row, o->command);
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected a whole number from %.0f to %.0f%s%s", where,
                        shown, row->low, row->high, has_word ? " or " : "", has_word ? row->word : "");
    }
    if (row->kind == OPTION_U64)
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected a whole number from 0 to 18446744073709551615",
                        where, shown);
    if (row->kind == OPTION_REAL)
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected a number %s %g %s %g", where, shown,
                        row->is_above ? "above" : "from", row->low, row->is_above ? "and at most" : "to",
                        row->high);
    return cdp_fail(CDP_USAGE, "%s is \"%s\", expected %s", where, shown, row->metavar);
}

/* Digits only (a sign where the range has one): 1e3, 0x10, " 5" and 5.0 are no whole numbers. */
static bool read_int(const char *text, double low, double high, int *out) {
    const char *digits = text + (*text == '-' ? 1 : 0);
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return false;
    errno = 0;
    const long long value = strtoll(text, NULL, 10);
    if (errno != 0 || (double)value < low || (double)value > high)
        return false;
    *out = (int)value;
    return true;
}

static bool read_u64(const char *text, uint64_t *out) {
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return false;
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool read_real(const option_row *row, const char *text, double *out) {
    char *end;
    if (*text == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0') /* no 0x10, no nan, no blanks */
        return false;
    const double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value) || value < row->low || value > row->high ||
        (row->is_above && value <= row->low))
        return false;
    *out = value;
    return true;
}

/* The choice as the table spells it; NULL when it is none. Python's dtype names are ours too. */
static const char *read_choice(const option_row *row, const char *text) {
    static const char *const words[][2] = {{"bfloat16", "bf16"}, {"float16", "fp16"}, {"float32", "fp32"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i][0]) == 0)
            text = words[i][1];
    const size_t n = strlen(text);
    for (const char *at = row->metavar; n > 0 && at != NULL; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, text, n) == 0 && (at[n] == '|' || at[n] == '\0'))
            return text;
    }
    return NULL;
}

static cdp_status add_stop(cdp_options *out, const option_row *row, const char *where, const char *value) {
    if (*value == '\0')
        return cdp_fail(CDP_USAGE, "%s is empty, expected a text", where);
    int *n = cdp_option_count(out, row);
    if (*n == CDP_MAX_STOPS)
        return cdp_fail(CDP_USAGE, "%s is given more than %d times", where, CDP_MAX_STOPS);
    ((const char **)((char *)out + row->offset))[(*n)++] = value;
    return CDP_OK;
}

cdp_status cdp_option_set(cdp_options *out, const option_row *row, const char *where, const char *value) {
    void *field = (char *)out + row->offset;
    bool is_good = true;
    switch (row->kind) {
    case OPTION_FLAG: /* the command line has no value: it stands for 1 */
        is_good = strcmp(value, "1") == 0 || strcmp(value, "0") == 0;
        *(bool *)field = is_good && *value == '1';
        break;
    case OPTION_TEXT:
        *(const char **)field = value;
        break;
    case OPTION_CHOICE:
        *(const char **)field = read_choice(row, value);
        is_good = *(const char **)field != NULL;
        break;
    case OPTION_INT:
        if (row->word != NULL && strcmp(value, row->word) == 0)
            *(int *)field = CDP_OPTION_MAX;
        else
            is_good = read_int(value, row->low, row->high, field);
        break;
    case OPTION_U64:
        is_good = read_u64(value, field);
        break;
    case OPTION_REAL:
        is_good = read_real(row, value, field);
        break;
    case OPTION_STOPS:
        return add_stop(out, row, where, value);
    }
    return is_good ? CDP_OK : bad_value(out, row, where, value);
}
