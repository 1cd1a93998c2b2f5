#include "launcher/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/option_table.h"

static bool belongs(const option_row *row, cdp_command command) {
    return (row->commands >> command) & 1u;
}

/* "--device_map" and "--device-map" are one option. */
static bool same_name(const char *given, size_t n, const char *name) {
    if (strlen(name) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((given[i] == '_' ? '-' : given[i]) != name[i])
            return false;
    return true;
}

static const option_row *find_row(const char *given, size_t n) {
    for (int i = 0; i < cdp_n_option_rows; i++)
        if (same_name(given, n, cdp_option_rows[i].name))
            return &cdp_option_rows[i];
    return NULL;
}

/* Edits (insert, delete, replace) that turn a into b. */
static int distance(const char *a, size_t n_a, const char *b) {
    int row[64];
    const size_t n_b = strlen(b);
    if (n_b >= sizeof row / sizeof row[0])
        return INT_MAX;
    for (size_t j = 0; j <= n_b; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n_a; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n_b; j++) {
            const int replace = diagonal + ((a[i - 1] == '_' ? '-' : a[i - 1]) != b[j - 1]);
            diagonal = row[j];
            const int shorter = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = replace < shorter ? replace : shorter;
        }
    }
    return row[n_b];
}

static cdp_status unknown_option(const char *given, size_t n) {
    char shown[128];
    const char *nearest = "help";
    int best = distance(given, n, nearest);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const int d = distance(given, n, cdp_option_rows[i].name);
        if (d < best) {
            best = d;
            nearest = cdp_option_rows[i].name;
        }
    }
    return cdp_fail(CDP_USAGE, "unknown option --%s, did you mean --%s?",
                    cdp_escape(shown, sizeof shown, given, n), nearest);
}

static cdp_status unknown_command(const char *given) {
    char shown[128];
    const char *nearest = NULL;
    int best = INT_MAX;
    for (int i = 0; i < CDP_N_COMMANDS; i++) {
        const int d = distance(given, strlen(given), cdp_command_rows[i].name);
        if (d < best) {
            best = d;
            nearest = cdp_command_rows[i].name;
        }
    }
    return cdp_fail(CDP_USAGE, "unknown command %s, did you mean %s? (cdpipe --help lists them)",
                    cdp_escape(shown, sizeof shown, given, strlen(given)), nearest);
}

/* `where` is "--ctx" or "CDPIPE_CTX": what the person wrote. */
static cdp_status bad_value(const option_row *row, const char *where, const char *value) {
    char shown[128];
    cdp_escape(shown, sizeof shown, value, strlen(value));
    if (row->kind == OPTION_INT)
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected a whole number from %.0f to %.0f%s%s", where,
                        shown, row->low, row->high, row->word != NULL ? " or " : "",
                        row->word != NULL ? row->word : "");
    if (row->kind == OPTION_U64)
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected a whole number from 0 to 18446744073709551615",
                        where, shown);
    if (row->kind == OPTION_REAL)
        return cdp_fail(CDP_USAGE, "%s is \"%s\", expected a number %s %g and at most %g", where, shown,
                        row->is_above ? "above" : "from", row->low, row->high);
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

static cdp_status add_stop(cdp_options *out, const char *where, const char *value) {
    if (*value == '\0')
        return cdp_fail(CDP_USAGE, "%s is empty, expected a text", where);
    if (out->n_stops == CDP_MAX_STOPS)
        return cdp_fail(CDP_USAGE, "%s is given more than %d times", where, CDP_MAX_STOPS);
    out->stops[out->n_stops++] = value;
    return CDP_OK;
}

static cdp_status set_value(cdp_options *out, const option_row *row, const char *where, const char *value) {
    void *field = (char *)out + row->offset;
    bool is_good = true;
    switch (row->kind) {
    case OPTION_FLAG: /* only the environment gives a value */
        is_good = strcmp(value, "1") == 0 || strcmp(value, "0") == 0;
        *(bool *)field = *value == '1';
        return is_good ? CDP_OK : cdp_fail(CDP_USAGE, "%s is \"%.40s\", expected 0 or 1", where, value);
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
        return add_stop(out, where, value);
    }
    return is_good ? CDP_OK : bad_value(row, where, value);
}

static void environment_name(char *out, size_t out_size, const option_row *row) {
    snprintf(out, out_size, "CDPIPE_%s", row->name);
    for (char *c = out; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

static cdp_status read_environment(cdp_options *out) {
    for (int i = 0; i < cdp_n_option_rows; i++) {
        char name[64];
        environment_name(name, sizeof name, &cdp_option_rows[i]);
        const char *value = getenv(name);
        if (value != NULL && belongs(&cdp_option_rows[i], out->command))
            CDP_TRY(set_value(out, &cdp_option_rows[i], name, value));
    }
    return CDP_OK;
}

/* The command stands first, or it is generate. */
static cdp_status read_command(cdp_options *out, int argc, char **argv, int *next) {
    *next = 1;
    if (argc < 2 || argv[1][0] == '-')
        return CDP_OK;
    *next = 2;
    for (int i = 0; i < CDP_N_COMMANDS; i++)
        if (strcmp(argv[1], cdp_command_rows[i].name) == 0) {
            out->command = (cdp_command)i;
            return CDP_OK;
        }
    return unknown_command(argv[1]);
}

/* --help, --version and --man end the parsing wherever they stand. */
static bool read_special(cdp_options *out, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            out->help_for = i == 1 ? CDP_HELP : out->command;
            out->command = CDP_HELP;
            return true;
        }
        if (strcmp(a, "--version") == 0 || strcmp(a, "--man") == 0) {
            out->command = strcmp(a, "--man") == 0 ? CDP_MAN : CDP_VERSION;
            return true;
        }
    }
    return false;
}

/* Contradictions that the table cannot tell. */
static cdp_status check_together(const cdp_options *o) {
    const bool is_cpu = o->device != NULL && strcmp(o->device, "cpu") == 0;
    if (is_cpu && o->num_gpus != 0)
        return cdp_fail(CDP_USAGE,
                        "--device cpu and --num-gpus contradict each other: --num-gpus counts GPUs");
    if (is_cpu && o->device_id >= 0)
        return cdp_fail(CDP_USAGE,
                        "--device cpu and --device-id contradict each other: --device-id names a GPU");
    if ((o->prompt != NULL) + (o->prompt_file != NULL) + (o->prompt_ids != NULL) > 1)
        return cdp_fail(CDP_USAGE, "--prompt, --prompt-file and --prompt-ids exclude each other");
    if (o->command != CDP_DEVICES && o->model == NULL)
        return cdp_fail(CDP_USAGE, "--model DIR is needed: a folder with config.json and *.safetensors");
    if (o->command == CDP_GENERATE || o->command == CDP_SCORE)
        if (o->ctx == CDP_OPTION_MAX)
            return cdp_fail(CDP_USAGE, "--ctx max belongs to plan; here give a number");
    return CDP_OK;
}

cdp_status cdp_options_parse(cdp_options *out, int argc, char **argv) {
    cdp_options_defaults(out);
    int next;
    CDP_TRY(read_command(out, argc, argv, &next));
    if (read_special(out, argc, argv))
        return CDP_OK;
    CDP_TRY(read_environment(out));
    bool has_own_stops = false;
    for (int i = next; i < argc; i++) {
        const char *a = argv[i];
        if (strncmp(a, "--", 2) != 0) {
            char shown[128];
            return cdp_fail(CDP_USAGE, "unexpected argument \"%s\": options begin with --",
                            cdp_escape(shown, sizeof shown, a, strlen(a)));
        }
        const char *equals = strchr(a, '=');
        const size_t n = equals != NULL ? (size_t)(equals - a - 2) : strlen(a + 2);
        const option_row *row = find_row(a + 2, n);
        if (row == NULL)
            return unknown_option(a + 2, n);
        if (!belongs(row, out->command))
            return cdp_fail(CDP_USAGE, "option --%s does not belong to %s", row->name,
                            cdp_command_name(out->command));
        char where[64];
        snprintf(where, sizeof where, "--%s", row->name);
        if (row->kind == OPTION_FLAG) {
            if (equals != NULL)
                return cdp_fail(CDP_USAGE, "%s takes no value", where);
            *(bool *)((char *)out + row->offset) = true;
            continue;
        }
        if (row->kind == OPTION_STOPS && !has_own_stops) { /* the command line replaces the environment's */
            out->n_stops = 0;
            has_own_stops = true;
        }
        if (equals == NULL && i + 1 >= argc)
            return cdp_fail(CDP_USAGE, "%s needs a value: %s", where, row->metavar);
        CDP_TRY(set_value(out, row, where, equals != NULL ? equals + 1 : argv[++i]));
    }
    return check_together(out);
}

const char *cdp_command_name(cdp_command command) {
    return command < CDP_N_COMMANDS ? cdp_command_rows[command].name : "help";
}
