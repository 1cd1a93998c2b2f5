/* What is said of CDPIPE_ variables that no option reads.
 *
 * What it catches: a slip that nobody is told of; a variable of ours that is called a slip.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/options/table.h"

/* With the option that was meant. */
static void strange_ones_are_named(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"CDPIPE_MAXNEWTOKENS=5", "CDPIPE_MAXNEWTOKENS is set, but no option reads it: did you mean "
                                  "CDPIPE_MAX_NEW_TOKENS?"},
        {"CDPIPE_MODLE", "did you mean CDPIPE_MODEL?"},
        {"CDPIPE_ctx=1", "did you mean CDPIPE_CTX?"},
        {"CDPIPE_=", "CDPIPE_ is set"},
        {"CDPIPE_\033=1", "CDPIPE_\\x1B is set"},
        {"CDPIPE_HELP=1", "CDPIPE_HELP is set"}, /* no option, though --help is a word */
        {"CDPIPE_MAX_NEW_TOKENS=x", NULL},
        {"CDPIPE_GPUS=x", NULL}, /* another command's */
        {"CDPIPE_NOW=x", NULL},
        {"CDPIPE_FAULT=", NULL},
        {"MODLE=x", NULL},
    };
    char line[256];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        line[0] = '\0';
        const bool is_said = cdp_variable_advice(line, sizeof line, cases[i][0], CDP_GENERATE);
        if (is_said != (cases[i][1] != NULL) || (is_said && strstr(line, cases[i][1]) == NULL))
            fail_msg("%s: \"%s\"", cases[i][0], line);
    }
    for (int i = 0; i < cdp_n_option_rows; i++) {
        char name[64];
        cdp_option_variable(name, sizeof name, &cdp_option_rows[i]);
        if (cdp_variable_advice(line, sizeof line, name, CDP_GENERATE))
            fail_msg("%s", line);
    }
}

/* Each name that stands in the sources, whether it is read or set. */
static void the_sources_own_are_known(void **state) {
    FILE *names = popen("grep -rhoE '\"CDPIPE_[A-Z_]+\"' launcher comm stage planner kernels", "r");
    char name[80], line[256];
    int n = 0;
    (void)state;
    assert_non_null(names);
    for (; fgets(name, sizeof name, names) != NULL; n++) {
        name[strcspn(name + 1, "\"") + 1] = '\0';
        if (cdp_variable_advice(line, sizeof line, name + 1, CDP_GENERATE))
            fail_msg("%s", line);
    }
    assert_int_equal(pclose(names), 0);
    assert_true(n > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strange_ones_are_named),
        cmocka_unit_test(the_sources_own_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
