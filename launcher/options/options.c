#include "launcher/options/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/options/table.h"

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

cdp_origin cdp_options_origin(const cdp_options *o, const char *name) {
    const option_row *row = find_row(name, strlen(name));
    return row != NULL ? (cdp_origin)o->origin[row - cdp_option_rows] : CDP_FROM_DEFAULT;
}

/* What the person wrote: "--num-gpus" or "CDPIPE_NUM_GPUS". */
typedef struct written_name {
    char text[64];
} written_name;

static written_name written(const option_row *row, cdp_origin origin) {
    written_name name = {""};
    if (origin == CDP_FROM_ENVIRONMENT)
        cdp_option_variable(name.text, sizeof name.text, row);
    else
        snprintf(name.text, sizeof name.text, "--%s", row->name);
    return name;
}

static cdp_status set(cdp_options *out, const option_row *row, cdp_origin origin, const char *value) {
    unsigned char *known = &out->origin[row - cdp_option_rows];
    if (row->kind == OPTION_STOPS && *known != (unsigned char)origin)
        *cdp_option_count(out, row) = 0; /* the command line's stops replace the environment's */
    CDP_TRY(cdp_option_set(out, row, written(row, origin).text, value));
    *known = (unsigned char)origin;
    return CDP_OK;
}

static cdp_status read_environment(cdp_options *out) {
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        const char *value = getenv(written(row, CDP_FROM_ENVIRONMENT).text);
        if (value != NULL && belongs(row, out->command))
            CDP_TRY(set(out, row, CDP_FROM_ENVIRONMENT, value));
    }
    return CDP_OK;
}

static bool is_command(const char *word, cdp_command *out) {
    for (int i = 0; i < CDP_N_COMMANDS; i++)
        if (strcmp(word, cdp_command_rows[i].name) == 0) {
            *out = (cdp_command)i;
            return true;
        }
    return false;
}

/* The command stands first, or it is generate. */
static cdp_status read_command(cdp_options *out, int argc, char **argv, int *next) {
    *next = 1;
    if (argc < 2 || argv[1][0] == '-')
        return CDP_OK;
    *next = 2;
    return is_command(argv[1], &out->command) ? CDP_OK : cdp_command_unknown(argv[1]);
}

static size_t name_length(const char *word) {
    return strcspn(word + 2, "=");
}

/* --help, --version and --man end the parsing wherever they stand, unless they are another option's value: a
 * prompt may well be "--help". */
static bool read_special(cdp_options *out, int argc, char **argv, int next) {
    for (int i = next; i < argc; i++) {
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
        if (strncmp(a, "--", 2) != 0 || strchr(a, '=') != NULL)
            continue;
        const option_row *row = find_row(a + 2, name_length(a));
        if (row != NULL && row->kind != OPTION_FLAG)
            i++;
    }
    return false;
}

static cdp_status stray_word(const char *word) {
    char shown[128];
    cdp_command command;
    if (is_command(word, &command))
        return cdp_fail(CDP_USAGE, "unexpected argument \"%s\": the command stands first, cdpipe %s ...",
                        word, word);
    return cdp_fail(CDP_USAGE, "unexpected argument \"%s\": options begin with --",
                    cdp_escape(shown, sizeof shown, word, strlen(word)));
}

/* `cdpipe status OUT` is the one command with a word of its own. */
static bool is_output_word(const cdp_options *o, const char *word) {
    return o->command == CDP_STATUS && word[0] != '-' &&
           cdp_options_origin(o, "output") != CDP_FROM_COMMAND_LINE;
}

/* One option at argv[*at], and its value; *at ends on the last word of it. */
static cdp_status read_option(cdp_options *out, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
        return is_output_word(out, word)
                   ? set(out, find_row("output", strlen("output")), CDP_FROM_COMMAND_LINE, word)
                   : stray_word(word);
    const size_t n = name_length(word);
    const char *value = word[2 + n] == '=' ? word + 2 + n + 1 : NULL;
    const option_row *row = find_row(word + 2, n);
    if (row == NULL)
        return cdp_option_unknown(word + 2, n, out->command);
    if (!belongs(row, out->command))
        return cdp_option_foreign(row, out->command);
    if (row->kind == OPTION_FLAG)
        return value == NULL ? set(out, row, CDP_FROM_COMMAND_LINE, "1")
                             : cdp_fail(CDP_USAGE, "--%s takes no value", row->name);
    if (value == NULL && *at + 1 >= argc)
        return cdp_fail(CDP_USAGE, "--%s needs a value: %s", row->name, row->metavar);
    return set(out, row, CDP_FROM_COMMAND_LINE, value != NULL ? value : argv[++*at]);
}

/* One text: the command line's, whichever of the three it is, else the environment's. */
static cdp_status choose_text(cdp_options *o) {
    static const char *const names[] = {"prompt", "prompt-file", "prompt-ids"};
    const char **const fields[] = {&o->prompt, &o->prompt_file, &o->prompt_ids};
    cdp_origin strongest = CDP_FROM_DEFAULT;
    int n = 0;
    for (int i = 0; i < 3; i++)
        if (cdp_options_origin(o, names[i]) > strongest)
            strongest = cdp_options_origin(o, names[i]);
    for (int i = 0; i < 3; i++) {
        const bool is_weaker = cdp_options_origin(o, names[i]) < strongest;
        if (is_weaker) {
            *fields[i] = NULL;
            o->origin[find_row(names[i], strlen(names[i])) - cdp_option_rows] = CDP_FROM_DEFAULT;
        }
        n += *fields[i] != NULL;
    }
    return n <= 1 ? CDP_OK
                  : cdp_fail(CDP_USAGE, "--prompt, --prompt-file and --prompt-ids exclude each other");
}

/* What only makes sense with a GPU beside --device cpu. */
static cdp_status check_cpu(const cdp_options *o, const char *name, const char *meaning) {
    const option_row *device = find_row("device", strlen("device")), *other = find_row(name, strlen(name));
    return cdp_fail(CDP_USAGE, "%s cpu and %s contradict each other: %s",
                    written(device, cdp_options_origin(o, "device")).text,
                    written(other, cdp_options_origin(o, name)).text, meaning);
}

/* Contradictions that the table cannot tell. */
static cdp_status check_together(const cdp_options *o) {
    const bool is_cpu = o->device != NULL && strcmp(o->device, "cpu") == 0;
    if (is_cpu && o->num_gpus != 0)
        return check_cpu(o, "num-gpus", "it counts GPUs");
    if (is_cpu && o->device_id >= 0)
        return check_cpu(o, "device-id", "it names a GPU");
    if (is_cpu && o->gpus != NULL && cdp_options_origin(o, "gpus") <= cdp_options_origin(o, "device"))
        return check_cpu(o, "gpus", "it lists GPUs"); /* else the environment's device gives way */
    if (o->command == CDP_STATUS)
        return o->output != NULL ? CDP_OK
                                 : cdp_fail(CDP_USAGE, "cdpipe status OUT: the --output of a batch job");
    if (o->command == CDP_BATCH && (o->input == NULL || o->output == NULL))
        return cdp_fail(CDP_USAGE, "batch needs --input X.jsonl and --output Y.jsonl");
    if (o->command == CDP_BATCH && (o->output[0] == '\0' || strcmp(o->output, "-") == 0))
        return cdp_fail(CDP_USAGE, "--output is \"%s\", expected a file that the job can be resumed from",
                        o->output);
    if (o->command != CDP_DEVICES && o->model == NULL)
        return cdp_fail(CDP_USAGE, "--model DIR is needed: a folder with config.json and *.safetensors");
    if (o->command != CDP_PLAN && o->ctx == CDP_OPTION_MAX)
        return cdp_fail(CDP_USAGE, "--ctx max belongs to plan; here give a number");
    return CDP_OK;
}

cdp_status cdp_options_parse(cdp_options *out, int argc, char **argv) {
    cdp_options_defaults(out);
    int next;
    CDP_TRY(read_command(out, argc, argv, &next));
    if (read_special(out, argc, argv, next))
        return CDP_OK;
    CDP_TRY(read_environment(out));
    for (int i = next; i < argc; i++)
        CDP_TRY(read_option(out, argc, argv, &i));
    CDP_TRY(choose_text(out));
    return check_together(out);
}

const char *cdp_command_name(cdp_command command) {
    return command < CDP_N_COMMANDS ? cdp_command_rows[command].name : "help";
}
