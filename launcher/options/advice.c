/* What was probably meant: the nearest option, the nearest command. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

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

/* --map for --device-map, --tokens for --max-new-tokens: as near as a slip of one letter. */
static bool ends_with(const char *name, const char *given, size_t n) {
    const size_t n_name = strlen(name);
    return n > 1 && n_name > n && name[n_name - n - 1] == '-' && memcmp(name + n_name - n, given, n) == 0;
}

cdp_status cdp_option_unknown(const char *given, size_t n, cdp_command command) {
    static const char *const special[] = {"help", "version", "man"};
    enum { N_SPECIAL = sizeof special / sizeof special[0] };
    char shown[128];
    const char *nearest = NULL;
    int best = INT_MAX;
    for (int i = 0; i < N_SPECIAL + cdp_n_option_rows; i++) {
        const option_row *row = i < N_SPECIAL ? NULL : &cdp_option_rows[i - N_SPECIAL];
        const char *name = row == NULL ? special[i] : row->name;
        const bool is_foreign = row != NULL && !((row->commands >> command) & 1u);
        const bool is_tail = ends_with(name, given, n);
        const int edits = is_tail ? 1 : distance(given, n, name);
        /* Of equally near ones: no --help and its like, not the tail of a name, one that this command has. */
        const int d = 4 * edits + 2 * (row == NULL) + is_tail + is_foreign;
        if (d < best) {
            best = d;
            nearest = name;
        }
    }
    return cdp_fail(CDP_USAGE, "unknown option --%s, did you mean --%s?",
                    cdp_escape(shown, sizeof shown, given, n), nearest);
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
