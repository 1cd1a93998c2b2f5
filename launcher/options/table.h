/* launcher/options/table.h - the rows behind options.h, shared by parser and help. */
#pragma once

#include "launcher/options/options.h"

typedef enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_CHOICE, /* const char *, one of `choices` (separated by |) */
    OPTION_INT,    /* int in [low, high]; `word` stands for CDP_OPTION_MAX */
    OPTION_U64,    /* uint64_t */
    OPTION_REAL,   /* double in [low, high], low excluded where is_above */
    OPTION_STOPS,  /* appended to stops, or to vars: cdp_option_count */
} option_kind;

typedef struct option_row {
    const char *name; /* without dashes */
    option_kind kind;
    size_t offset;
    unsigned commands; /* bit per cdp_command */
    const char *group;
    const char *metavar; /* what the value is called; for choices the choices */
    const char *word;    /* "max" or "all" where an int takes it, else NULL */
    double low, high;
    bool is_above;        /* low itself is not allowed */
    const char *fallback; /* the default as a person reads it */
    const char *help;     /* one sentence */
} option_row;

extern const option_row cdp_option_rows[];
extern const int cdp_n_option_rows;

typedef struct command_row {
    const char *name, *synopsis, *help;
} command_row;
extern const command_row cdp_command_rows[CDP_N_COMMANDS];

/* How many values a row of OPTION_STOPS has: the counter before its list. */
int *cdp_option_count(cdp_options *options, const option_row *row);

/* Put a value into its field. `where` is what the person wrote, the flag or the variable, for the message. */
cdp_status cdp_option_set(cdp_options *out, const option_row *row, const char *where, const char *value);

/* Whether `word` may stand instead of a number at this command (CDP_HELP: at any). */
bool cdp_option_takes_word(const option_row *row, cdp_command command);

/* "CDPIPE_MAX_GPU_MEMORY" of --max-gpu-memory. */
void cdp_option_variable(char *out, size_t out_size, const option_row *row);

/* CDP_USAGE with the nearest option, the commands that have the option, the nearest command. */
cdp_status cdp_option_unknown(const char *given, size_t n, cdp_command command);
cdp_status cdp_option_foreign(const option_row *row, cdp_command command);
cdp_status cdp_command_unknown(const char *given);

/* True when NAME or NAME=VALUE looks like an option's variable but is none; `out` then says which was meant.
 */
bool cdp_variable_advice(char *out, size_t out_size, const char *variable, cdp_command command);

/* All values at their defaults. */
void cdp_options_defaults(cdp_options *out);
