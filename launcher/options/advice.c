/* What was probably meant: the nearest option, the nearest command. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/log.h"
#include "launcher/options/table.h"

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

/* --map for --device-map, --tokens or --max-new for --max-new-tokens: as near as a slip of one letter. */
static bool is_part(const char *name, const char *given, size_t n) {
    const size_t n_name = strlen(name);
    if (n < 2 || n_name <= n)
        return false;
    return (name[n_name - n - 1] == '-' && memcmp(name + n_name - n, given, n) == 0) ||
           (n > 2 && memcmp(name, given, n) == 0);
}

/* The nearest option; `command`'s own before others, and where has_special, --help and its like. */
static const char *nearest_option(const char *given, size_t n, cdp_command command, bool has_special) {
    static const char *const special[] = {"help", "version", "man"};
    enum { N_SPECIAL = sizeof special / sizeof special[0] };
    const char *nearest = NULL;
    int best = INT_MAX;
    for (int i = has_special ? 0 : N_SPECIAL; i < N_SPECIAL + cdp_n_option_rows; i++) {
        const option_row *row = i < N_SPECIAL ? NULL : &cdp_option_rows[i - N_SPECIAL];
        const char *name = row == NULL ? special[i] : row->name;
        const bool is_foreign = row != NULL && !((row->commands >> command) & 1u);
        const int far = distance(given, n, name);
        const bool is_some = far > 1 && is_part(name, given, n);
        const int edits = is_some ? 1 : far;
        /* Of equally near ones: no --help and its like, not a part of a name, one that this command has. */
        const int d = 4 * edits + 2 * (row == NULL) + is_some + is_foreign;
        if (d < best) {
            best = d;
            nearest = name;
        }
    }
    return nearest;
}

cdp_status cdp_option_unknown(const char *given, size_t n, cdp_command command) {
    char shown[128];
    return cdp_fail(CDP_USAGE, "unknown option --%s, did you mean --%s?",
                    cdp_escape(shown, sizeof shown, given, n), nearest_option(given, n, command, true));
}

bool cdp_variable_advice(char *out, size_t out_size, const char *variable, cdp_command command) {
    static const char *const others[] = {"FAULT", "NOW", "TRAIL", "TTY", "TERMINAL", "TERMINAL_OUT"};
    const size_t n_prefix = strlen("CDPIPE_"), n = strcspn(variable, "=");
    char name[64], shown[128], option[64];
    if (strncmp(variable, "CDPIPE_", n_prefix) != 0)
        return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (n == n_prefix + strlen(others[i]) && strncmp(variable + n_prefix, others[i], n - n_prefix) == 0)
            return false;
    size_t n_name = 0;
    for (size_t i = n_prefix; i < n && n_name < sizeof name - 1; i++)
        name[n_name++] = (char)(variable[i] == '_' ? '-' : tolower((unsigned char)variable[i]));
    name[n_name] = '\0';
    const char *nearest = nearest_option(name, n_name, command, false);
    for (int i = 0; i < cdp_n_option_rows; i++)
        if (strcmp(cdp_option_rows[i].name, nearest) == 0)
            cdp_option_variable(option, sizeof option, &cdp_option_rows[i]);
    if (strncmp(option, variable, n) == 0 && option[n] == '\0')
        return false;
    snprintf(out, out_size, "%s is set, but no option reads it: did you mean %s?",
             cdp_escape(shown, sizeof shown, variable, n), option);
    return true;
}

void cdp_options_note_variables(cdp_command command) {
    char line[256];
    for (char **entry = environ; *entry != NULL; entry++)
        if (cdp_variable_advice(line, sizeof line, *entry, command))
            cdp_note("%s", line);
}

/* The right option at the wrong command. */
cdp_status cdp_option_foreign(const option_row *row, cdp_command command) {
    char owners[128] = "";
    size_t used = 0;
    for (int i = 0; i < CDP_N_COMMANDS && used < sizeof owners - 1; i++)
        if ((row->commands >> i) & 1u)
            used += (size_t)snprintf(owners + used, sizeof owners - used, "%s%s", used > 0 ? ", " : "",
                                     cdp_command_rows[i].name);
    return cdp_fail(CDP_USAGE, "option --%s does not belong to %s (but to %s)", row->name,
                    cdp_command_name(command), owners);
}

cdp_status cdp_command_unknown(const char *given) {
    char shown[128];
    const char *nearest = "--help";
    int best = distance(given, strlen(given), "help");
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
