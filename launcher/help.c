/* --help and the man page, both printed from the option table. */
#include <ctype.h>
#include <string.h>

#include "launcher/option_table.h"

static const char *const groups[] = {"model", "devices", "text", "generation", "run", "tokenize", "report"};
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

static void print_group(FILE *to, const char *group, cdp_command command) {
    fprintf(to, "\n%c%s\n", toupper((unsigned char)group[0]), group + 1);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        if (!is_shown(row, group, command))
            continue;
        fprintf(to, "  --%s%s%s\n", row->name, row->metavar != NULL ? " " : "",
                row->metavar != NULL ? row->metavar : "");
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
        fprintf(to, "\\fR ");
        print_roff(to, row->metavar != NULL ? row->metavar : "");
        fputc('\n', to);
        print_roff(to, row->help);
        fprintf(to, "\nDefault: ");
        print_roff(to, row->fallback);
        fprintf(to, ".\n");
    }
}

void cdp_options_print_man(FILE *to) {
    fprintf(to, ".TH CDPIPE 1\n.SH NAME\ncdpipe \\- language models over several GPUs, one process a GPU\n"
                ".SH SYNOPSIS\n");
    for (int i = 0; i < CDP_N_COMMANDS; i++) {
        fprintf(to, ".B cdpipe %s\n", cdp_command_rows[i].name);
        print_roff(to, cdp_command_rows[i].synopsis);
        fprintf(to, "\n.br\n");
    }
    fprintf(
        to,
        ".SH DESCRIPTION\nA planner cuts the stack of layers into contiguous stages by the free memory of "
        "each device, mpirun starts one process a device, the processes hand hidden states on, rank 0 "
        "samples.\n.SH COMMANDS\n");
    for (int i = 0; i < CDP_N_COMMANDS; i++)
        fprintf(to, ".TP\n.B %s\n%s\n", cdp_command_rows[i].name, cdp_command_rows[i].help);
    fprintf(
        to,
        ".SH OPTIONS\nEvery option also reads CDPIPE_<NAME> from the environment; the command line wins.\n");
    for (int g = 0; g < N_GROUPS; g++)
        print_man_group(to, groups[g]);
    fprintf(to,
            ".SH EXIT STATUS\n0 done, 64 usage, 65 bad input data, 66 no input, 69 no device or no room, 70 "
            "internal error or watchdog, 71 system error, 74 I/O error, 75 stopped early, 78 bad model.\n");
}
