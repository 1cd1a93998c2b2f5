/* What is printed of the option table and of a command line: --help, the man page, the text of argv.
 *
 * What it catches: an option that help or man page forget or show at a command that refuses it, a sentence
 * that roff takes for a request, two command lines that look the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/options/table.h"

static char *printed_help(cdp_command command) {
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (command == CDP_MAN)
        cdp_options_print_man(to);
    else
        cdp_options_print_help(to, command);
    fclose(to);
    return text;
}

/* Each option with its sentence and default, at its commands and at no other. */
static void test_help(void **state) {
    (void)state;
    for (int command = 0; command <= CDP_HELP; command++) {
        char *help = printed_help((cdp_command)command);
        for (int i = 0; i < cdp_n_option_rows; i++) {
            const option_row *row = &cdp_option_rows[i];
            char flag[64], sentence[512];
            snprintf(flag, sizeof flag, "\n  --%s%s", row->name, row->metavar == NULL ? "\n" : " ");
            snprintf(sentence, sizeof sentence, "%s [%s]\n", row->help, row->fallback);
            const bool is_wanted = command == CDP_HELP || ((row->commands >> command) & 1u);
            const bool is_there = strstr(help, flag) != NULL && strstr(help, sentence) != NULL;
            if (is_wanted != is_there)
                fail_msg("--%s in the help of %s: %d, expected %d", row->name,
                         cdp_command_name((cdp_command)command), is_there, is_wanted);
        }
        free(help);
    }
    char *plan = printed_help(CDP_PLAN), *generate = printed_help(CDP_GENERATE);
    assert_non_null(strstr(plan, "--ctx N|max\n")); /* only a plan can answer it */
    assert_non_null(strstr(generate, "--ctx N\n"));
    assert_non_null(strstr(generate, "--num-gpus N|all\n"));
    free(generate);
    free(plan);
}

/* What a value may be stands whole in the help of each command that takes it. */
static void test_help_is_whole(void **state) {
    (void)state;
    for (int command = 0; command < CDP_N_COMMANDS; command++) {
        char *text = printed_help((cdp_command)command);
        for (int i = 0; i < cdp_n_option_rows; i++) {
            const option_row *row = &cdp_option_rows[i];
            char line[256];
            snprintf(line, sizeof line, "  --%s %s", row->name, row->metavar != NULL ? row->metavar : "");
            if (strstr(text, line) == NULL && row->metavar != NULL && (row->commands >> command & 1u) != 0)
                fail_msg("the help of command %d has no line \"%s\"", command, line);
        }
        free(text);
    }
}

/* Every option, sentence and variable; no line that roff would take for a command. */
static void test_man(void **state) {
    (void)state;
    char *man = printed_help(CDP_MAN);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        char name[64], flag[96] = "\n\\fB\\-\\-", variable[96];
        for (const char *c = row->name; *c != '\0'; c++)
            strcat(strcat(flag, *c == '-' ? "\\" : ""), (char[2]){*c, '\0'});
        cdp_option_variable(name, sizeof name, row);
        snprintf(variable, sizeof variable, "\\fB%s\\fR for ", name);
        if (strstr(man, strcat(flag, "\\fR")) == NULL || strstr(man, variable) == NULL)
            fail_msg("--%s or %s is not in the man page", row->name, name);
    }
    static const char *const requests[] = {".TH ", ".SH ", ".SS ", ".TP\n", ".B ", ".BR ", ".br\n"};
    for (const char *line = man; line != NULL && *line != '\0';) {
        bool is_known = *line != '.' && *line != '\'' && *line != '\n';
        for (size_t k = 0; k < sizeof requests / sizeof requests[0]; k++)
            is_known = is_known || strncmp(line, requests[k], strlen(requests[k])) == 0;
        if (!is_known)
            fail_msg("the man page has a line roff misreads: %.60s", line);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    free(man);
}

/* Different command lines never have one text, and no text ends a line or a terminal's colour. */
static void test_argv_text(void **state) {
    (void)state;
    static const char *const lines[][3] = {
        {NULL},
        {"", NULL},
        {"a", "b", NULL},
        {"a b", NULL},
        {"\"a b\"", NULL},
        {"ab", NULL},
        {"a\nb", NULL},
        {"a\\x0Ab", NULL},
        {"a\\", "b"},
        {"a\\ b", NULL},
        {"a", "", NULL},
        {"\xFF", NULL},
        {"\\xFF", NULL},
        {"\"", "a"},
        {"\" a", NULL},
        {"a\" \"b", NULL},
        {"a\tb", NULL},
        {"\033[0m", NULL},
    };
    enum { N = sizeof lines / sizeof lines[0] };
    char *texts[N];
    for (int i = 0; i < N; i++) {
        char *argv[] = {(char *)(uintptr_t) "cdpipe", (char *)(uintptr_t)lines[i][0],
                        (char *)(uintptr_t)lines[i][1], NULL};
        int argc = 1;
        while (argv[argc] != NULL)
            argc++;
        assert_int_equal(cdp_options_argv_text(&texts[i], argc, argv), CDP_OK);
        for (const char *c = texts[i]; *c != '\0'; c++)
            assert_true((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7F);
        for (int k = 0; k < i; k++)
            if (strcmp(texts[i], texts[k]) == 0)
                fail_msg("command lines %d and %d are both %s", k, i, texts[i]);
    }
    assert_string_equal(texts[2], "a b");
    assert_string_equal(texts[3], "\"a b\"");
    for (int i = 0; i < N; i++)
        free(texts[i]);
    enum { LONG = 100000 };
    char *word = malloc(LONG + 1);
    memset(word, 1, LONG); /* four characters each; nothing is cut */
    word[LONG] = '\0';
    char *argv[] = {(char *)(uintptr_t) "cdpipe", word}, *text = NULL;
    assert_int_equal(cdp_options_argv_text(&text, 2, argv), CDP_OK);
    assert_int_equal(strlen(text), 4 * LONG);
    free(text);
    free(word);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_help_is_whole),
        cmocka_unit_test(test_man),
        cmocka_unit_test(test_argv_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
