/* launcher/options/options.h - what a person or a batch job asks for: one table of options.
 *
 * A row of the table is a flag, its type and range, its default, one sentence of help and the commands it
 * belongs to. The table drives parsing, --help, the man page, the environment (--max-gpu-memory is also
 * CDPIPE_MAX_GPU_MEMORY; the command line wins), the nearest-name advice and what rank 0 sends to the others.
 * Python's spellings (--device_map, bfloat16) are accepted.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>
#include <stdio.h>

typedef enum cdp_command {
    CDP_GENERATE,
    CDP_SCORE,
    CDP_PLAN,
    CDP_DEVICES,
    CDP_TOKENIZE,
    CDP_BENCH,
    CDP_BATCH,
    CDP_STATUS,
    CDP_TEMPLATE,
    CDP_LENS,
    CDP_CHAT,
    CDP_N_COMMANDS,
    CDP_HELP = CDP_N_COMMANDS, /* --help: print and end */
    CDP_VERSION,
    CDP_MAN,
} cdp_command;

/* Who gave an option; the later one wins. */
typedef enum cdp_origin {
    CDP_FROM_DEFAULT,
    CDP_FROM_ENVIRONMENT,
    CDP_FROM_COMMAND_LINE,
} cdp_origin;

enum {
    CDP_MAX_STOPS = 16,
    CDP_MAX_OPTIONS = 128,
    CDP_OPTION_MAX = -1, /* --ctx max, --max-batch max, --num-gpus all */
};

/* Texts point into argv, the environment or a pack; they live as long as those. A value that was not given
 * holds the default of its row; NAN and INT_MIN mean "not given" where generation_config.json may fill in. */
typedef struct cdp_options {
    cdp_command command;
    cdp_command help_for; /* of --help after a command */

    const char *model, *dtype, *kv_dtype;
    int ctx; /* 0: not given */

    const char *device, *device_map, *max_gpu_memory, *gpus, *cpu_tier, *road;
    bool allow_shared_gpu;
    int device_id;             /* -1: not given */
    int num_gpus, np, threads; /* 0: not given */
    double gpu_memory_fraction;

    const char *prompt, *prompt_file, *prompt_ids;
    bool raw, echo, ignore_eos, no_bos;
    int max_new_tokens, logprobs, chunk, max_batch; /* chunk, max_batch 0: not given */
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int top_k;
    uint64_t seed;
    int n_stops;
    const char *stops[CDP_MAX_STOPS];

    const char *input, *output, *status; /* batch */
    bool strict, logits_hash;
    const char *system, *messages, *tools; /* chat templates */
    bool no_generation_prompt;
    int n_vars;
    const char *vars[CDP_MAX_STOPS]; /* name=JSON */

    int pp, tg, depth, repeat; /* bench */
    const char *batch, *pg;

    const char *logits, *save, *trace, *costs, *save_costs;
    bool no_special, decode, skip_special, json_lines;

    double step_timeout;
    bool check_weights, json, quiet;

    const char *layers, *html, *color; /* lens, score */
    const char *decoding, *tap_window, *cd_method, *dola_layers, *dola_js, *dola_norm;
    double cd_p, cd_consistency, cd_decay, relative_top;
    int cd_entropy_top_k;
    bool cd_lazy, verbose;

    unsigned char origin[CDP_MAX_OPTIONS]; /* cdp_origin of each row of the table */

    char *memory; /* of an unpacked set of options */
} cdp_options;

/* Parse environment and command line. CDP_USAGE with the option (or variable) and what it takes. */
cdp_status cdp_options_parse(cdp_options *out, int argc, char **argv);

/* A `#` line for each CDPIPE_ variable that no option reads. */
void cdp_options_note_variables(cdp_command command);

/* Free what cdp_options_unpack made. */
void cdp_options_close(cdp_options *options);

/* Who gave --NAME (without the dashes); CDP_FROM_DEFAULT where nobody did, or where there is no such option.
 */
cdp_origin cdp_options_origin(const cdp_options *options, const char *name);

/* The words after the program's name as one printable text. Two command lines have equal texts only if they
 * are equal: words that hold blanks, quotes or nothing are quoted. The caller frees *out. */
cdp_status cdp_options_argv_text(char **out, int argc, char **argv);

/* The options that were given or differ from their defaults as bytes, for the other ranks, and back. The
 * caller frees *bytes. */
cdp_status cdp_options_pack(const cdp_options *options, char **bytes, size_t *n_out);
cdp_status cdp_options_unpack(cdp_options *out, const char *bytes, size_t n);

/* Help for one command (CDP_HELP: all), and the man page in roff. */
void cdp_options_print_help(FILE *to, cdp_command command);
void cdp_options_print_man(FILE *to);

/* "generate", "score", ... */
const char *cdp_command_name(cdp_command command);
