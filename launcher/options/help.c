/* --help and the man page, both printed from the option table. */
#include <ctype.h>
#include <string.h>

#include "launcher/options/table.h"

static const char *const groups[] = {"model", "devices", "text",     "generation", "decoding",
                                     "batch", "run",     "tokenize", "bench",      "report"};
enum { N_GROUPS = sizeof groups / sizeof groups[0] };

static bool is_shown(const option_row *row, const char *group, cdp_command command) {
    return strcmp(row->group, group) == 0 && (command >= CDP_N_COMMANDS || ((row->commands >> command) & 1u));
}

static bool has_rows(const char *group, cdp_command command) {
    for (int i = 0; i < cdp_n_option_rows; i++)
        if (is_shown(&cdp_option_rows[i], group, command))
            return true;
    return false;
}

/* " N|max", the value as this command takes it; nothing for a flag. */
typedef struct value_text {
    char text[128];
} value_text;

static value_text value_of(const option_row *row, cdp_command command) {
    value_text value = {""};
    const bool has_word = cdp_option_takes_word(row, command);
    if (row->metavar != NULL)
        snprintf(value.text, sizeof value.text, " %s%s%s", row->metavar, has_word ? "|" : "",
                 has_word ? row->word : "");
    return value;
}

static void print_group(FILE *to, const char *group, cdp_command command) {
    fprintf(to, "\n%c%s\n", toupper((unsigned char)group[0]), group + 1);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        if (!is_shown(row, group, command))
            continue;
        fprintf(to, "  --%s%s\n", row->name, value_of(row, command).text);
        fprintf(to, "        %s [%s]\n", row->help, row->fallback);
    }
}

void cdp_options_print_help(FILE *to, cdp_command command) {
    if (command >= CDP_N_COMMANDS) {
        fprintf(
            to,
            "cdpipe: language models over several GPUs, one process a GPU.\n\n"
            "  mpirun -np 3 cdpipe --model DIR --prompt TEXT\n  cdpipe --np 3 --model DIR --prompt TEXT\n\n"
            "Commands\n");
        for (int i = 0; i < CDP_N_COMMANDS; i++)
            fprintf(to, "  %-10s %s\n", cdp_command_rows[i].name, cdp_command_rows[i].help);
        fprintf(to, "\nEvery option also reads CDPIPE_<NAME> from the environment; the command line wins.\n"
                    "cdpipe COMMAND --help shows one command. --version tells what this build found.\n");
    } else {
        const command_row *row = &cdp_command_rows[command];
        fprintf(to, "cdpipe %s %s\n\n%s\n", row->name, row->synopsis, row->help);
    }
    for (int g = 0; g < N_GROUPS; g++)
        if (has_rows(groups[g], command))
            print_group(to, groups[g], command);
}

/* Text for roff: a backslash and a leading dot or quote would be commands, a dash may break. */
static void print_roff(FILE *to, const char *text) {
    if (*text == '.' || *text == '\'')
        fputs("\\&", to);
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '-')
            fputc('\\', to);
        fputc(*text, to);
    }
}

static void print_man_group(FILE *to, const char *group) {
    fprintf(to, ".SS %c%s\n", toupper((unsigned char)group[0]), group + 1);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        if (!is_shown(row, group, CDP_HELP))
            continue;
        fprintf(to, ".TP\n\\fB\\-\\-");
        print_roff(to, row->name);
        fprintf(to, "\\fR");
        print_roff(to, value_of(row, CDP_HELP).text);
        fputc('\n', to);
        print_roff(to, row->help);
        fprintf(to, "\nDefault: ");
        print_roff(to, row->fallback);
        fprintf(to, ". Commands:");
        for (int c = 0; c < CDP_N_COMMANDS; c++)
            if ((row->commands >> c) & 1u)
                fprintf(to, " %s", cdp_command_rows[c].name);
        fprintf(to, ".\n");
    }
}

static void print_man_commands(FILE *to) {
    fprintf(to, ".SH SYNOPSIS\n");
    for (int i = 0; i < CDP_N_COMMANDS; i++) {
        fprintf(to, ".B cdpipe %s\n", cdp_command_rows[i].name);
        if (cdp_command_rows[i].synopsis[0] != '\0') { /* roff would print an empty line */
            print_roff(to, cdp_command_rows[i].synopsis);
            fputc('\n', to);
        }
        fprintf(to, ".br\n");
    }
    fprintf(
        to,
        ".SH DESCRIPTION\nA planner cuts the stack of layers into contiguous stages by the free memory of "
        "each device, mpirun starts one process a device, the processes hand hidden states on, rank 0 "
        "samples. Standard output carries the result only; lines for people and errors go to standard "
        "error.\n.SH COMMANDS\n");
    for (int i = 0; i < CDP_N_COMMANDS; i++)
        fprintf(to, ".TP\n.B %s\n%s\n", cdp_command_rows[i].name, cdp_command_rows[i].help);
}

static void print_man_environment(FILE *to) {
    fprintf(
        to,
        ".SH ENVIRONMENT\nA variable stands for its option where the command line does not give it; a flag "
        "takes 0 or 1. Rank 0's variables count for all ranks.\n");
    for (int i = 0; i < cdp_n_option_rows; i++) {
        char name[64];
        cdp_option_variable(name, sizeof name, &cdp_option_rows[i]);
        /* "\%": a name is not hyphenated */
        fprintf(to, "%s\\%%\\fB%s\\fR for \\-\\-", i > 0 ? ",\n" : "", name);
        print_roff(to, cdp_option_rows[i].name);
    }
    fprintf(to, ".\n");
}

static void print_man_examples(FILE *to) {
    static const char *const examples[][2] = {
        {"Three processes, one a GPU.", "mpirun -np 3 cdpipe --model DIR --prompt TEXT"},
        {"The same without mpirun.", "cdpipe --np 3 --model DIR --prompt TEXT"},
        {"Plan for GPUs one does not have.", "cdpipe plan --model DIR --gpus 2x24GiB,16GiB --ctx max"},
        {"Perplexity of a file as JSON.", "cdpipe score --model DIR --prompt-file FILE --json"},
    };
    fprintf(to, ".SH EXAMPLES\n");
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        fprintf(to, ".TP\n");
        print_roff(to, examples[i][0]);
        fprintf(to, "\n.B ");
        print_roff(to, examples[i][1]);
        fputc('\n', to);
    }
}

void cdp_options_print_man(FILE *to) {
    fprintf(to, ".TH CDPIPE 1\n.SH NAME\ncdpipe \\- language models over several GPUs, one process a GPU\n");
    print_man_commands(to);
    fprintf(to,
            ".SH OPTIONS\nA value follows its option after a blank or an equals sign. Underscores stand for "
            "dashes.\n.TP\n\\fB\\-\\-help\\fR, \\fB\\-h\\fR\nShow the options, of all commands or of "
            "one.\n.TP\n\\fB\\-\\-version\\fR\nTell what this build found.\n.TP\n\\fB\\-\\-man\\fR\nPrint "
            "this page.\n");
    for (int g = 0; g < N_GROUPS; g++)
        print_man_group(to, groups[g]);
    print_man_environment(to);
    print_man_examples(to);
    fprintf(to,
            ".SH EXIT STATUS\n0 done, 64 usage, 65 bad input data, 66 no input, 69 no device or no room, 70 "
            "internal error or watchdog, 71 system error, 74 I/O error, 75 stopped early, 78 bad model.\n"
            ".SH SEE ALSO\n.BR mpirun (1)\n");
}
