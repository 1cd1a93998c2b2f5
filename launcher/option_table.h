/* launcher/option_table.h - the rows behind options.h, shared by parser and help. */
#pragma once

#include "launcher/options.h"

typedef enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_CHOICE, /* const char *, one of `choices` (separated by |) */
    OPTION_INT,    /* int in [low, high]; `word` stands for CDP_OPTION_MAX */
    OPTION_U64,    /* uint64_t */
    OPTION_REAL,   /* double in [low, high], low excluded where is_above */
    OPTION_STOPS,  /* appended to stops */
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

/* All values at their defaults. */
void cdp_options_defaults(cdp_options *out);
