/* The option table: what every row must have, what parsing makes of it, and that help, man page, environment
 * and pack all follow from it.
 */
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/option_table.h"

static cdp_options options;

/* Parse words (the program's name is added); NULL ends them. */
static cdp_status parse(const char *first, ...) {
    char *words[32] = {(char *)(uintptr_t) "cdpipe"};
    int n = 1;
    va_list args;
    va_start(args, first);
    for (const char *word = first; word != NULL; word = va_arg(args, const char *))
        words[n++] = (char *)(uintptr_t)word;
    va_end(args);
    cdp_error_clear();
    return cdp_options_parse(&options, n, words);
}

static void test_rows(void **state) {
    (void)state;
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        const size_t n = strlen(row->help);
        if (n < 10 || row->help[n - 1] != '.' || row->fallback[0] == '\0' || row->commands == 0 ||
            (row->kind != OPTION_FLAG && row->metavar == NULL))
            fail_msg("--%s lacks a sentence, a default, a command or a word for its value", row->name);
        for (int k = 0; k < i; k++)
            if (strcmp(row->name, cdp_option_rows[k].name) == 0)
                fail_msg("--%s is there twice", row->name);
    }
}

static char *printed(void (*print)(FILE *to)) {
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    print(to);
    fclose(to);
    return text;
}

static void print_help(FILE *to) {
    cdp_options_print_help(to, CDP_HELP);
}
static void print_plan_help(FILE *to) {
    cdp_options_print_help(to, CDP_PLAN);
}

static void test_help(void **state) {
    (void)state;
    char *help = printed(print_help), *man = printed(cdp_options_print_man), *plan = printed(print_plan_help);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        char flag[64], roff[96] = "";
        snprintf(flag, sizeof flag, "--%s", cdp_option_rows[i].name);
        for (const char *c = cdp_option_rows[i].name; *c != '\0'; c++)
            strcat(strcat(roff, *c == '-' ? "\\" : ""), (char[2]){*c, '\0'});
        if (strstr(help, flag) == NULL || strstr(man, roff) == NULL)
            fail_msg("%s is not in --help or not in the man page", flag);
    }
    assert_non_null(strstr(plan, "--gpus"));
    assert_null(strstr(plan, "--temperature"));
    free(plan);
    free(man);
    free(help);
}

static void test_values(void **state) {
    (void)state;
    assert_int_equal(parse("--model", "m", "--ctx=12", "--top_p", "0.5", "--dtype", "bfloat16",
                           "--device_map", "1,2", "--stop", "a", "--stop", "b", "--json", "--seed",
                           "18446744073709551615", NULL),
                     CDP_OK);
    assert_int_equal(options.command, CDP_GENERATE);
    assert_int_equal(options.ctx, 12);
    assert_true(options.top_p == 0.5 && isnan(options.temperature));
    assert_string_equal(options.dtype, "bf16");
    assert_string_equal(options.device_map, "1,2");
    assert_int_equal(options.n_stops, 2);
    assert_true(options.json && !options.quiet && options.seed == UINT64_MAX);
    assert_int_equal(parse("plan", "--model", "m", "--ctx", "max", "--max-batch", "max", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_PLAN);
    assert_int_equal(options.ctx, CDP_OPTION_MAX);
    assert_int_equal(parse("--model", "m", "--ctx", "max", NULL), CDP_USAGE);
    assert_int_equal(parse("plan", "--help", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_HELP);
    assert_int_equal(options.help_for, CDP_PLAN);
}

/* Numbers below and above their range, and words that are no numbers, for every numeric row. */
static void test_ranges(void **state) {
    (void)state;
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        if (row->kind != OPTION_INT && row->kind != OPTION_REAL)
            continue;
        int command = 0;
        while (!((row->commands >> command) & 1u))
            command++;
        char flag[64], low[32], high[32];
        snprintf(flag, sizeof flag, "--%s", row->name);
        snprintf(low, sizeof low, "%.0f", row->low - 1);
        snprintf(high, sizeof high, "%.0f", row->high + 1);
        const char *bad[] = {low,   high,    "many", "",
                             "nan", "1e400", "0x10", row->kind == OPTION_INT ? "1.5" : "1,5"};
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            if (parse(cdp_command_rows[command].name, "--model", "m", flag, bad[k], NULL) != CDP_USAGE &&
                command != CDP_DEVICES)
                fail_msg("%s %s is taken", flag, bad[k]);
            char shown[40];
            snprintf(shown, sizeof shown, "%g", row->high);
            if (command != CDP_DEVICES && row->kind == OPTION_REAL &&
                strstr(cdp_error_message(), shown) == NULL)
                fail_msg("%s %s: the range is not shown: %s", flag, bad[k], cdp_error_message());
        }
    }
    cdp_error_clear();
}

/* Each option by its variable; the command line wins; a bad value names the variable. */
static void test_environment(void **state) {
    (void)state;
    setenv("CDPIPE_MAX_NEW_TOKENS", "7", 1);
    setenv("CDPIPE_ECHO", "1", 1);
    setenv("CDPIPE_STOP", "x", 1);
    assert_int_equal(parse("--model", "m", NULL), CDP_OK);
    assert_int_equal(options.max_new_tokens, 7);
    assert_true(options.echo);
    assert_string_equal(options.stops[0], "x");
    assert_int_equal(parse("--model", "m", "--max-new-tokens", "9", "--stop", "y", NULL), CDP_OK);
    assert_int_equal(options.max_new_tokens, 9);
    assert_int_equal(options.n_stops, 1);
    assert_string_equal(options.stops[0], "y");
    setenv("CDPIPE_MAX_NEW_TOKENS", "seven", 1);
    assert_int_equal(parse("--model", "m", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "CDPIPE_MAX_NEW_TOKENS"));
    unsetenv("CDPIPE_MAX_NEW_TOKENS");
    unsetenv("CDPIPE_ECHO");
    unsetenv("CDPIPE_STOP");
    cdp_error_clear();
}

static void test_advice(void **state) {
    (void)state;
    assert_int_equal(parse("--modle", "m", NULL), CDP_USAGE);
    assert_string_equal(cdp_error_message(), "unknown option --modle, did you mean --model?");
    assert_int_equal(parse("scoer", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "did you mean score?"));
    assert_int_equal(parse("--model", "m", "stray", NULL), CDP_USAGE);
    assert_int_equal(parse("--model", "m", "--device", "cpu", "--num-gpus", "2", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "--num-gpus"));
    cdp_error_clear();
}

/* What goes to the other ranks comes back as it was. */
static void test_pack(void **state) {
    (void)state;
    cdp_options back;
    char *bytes = NULL;
    size_t n = 0;
    assert_int_equal(parse("score", "--model", "a b=c", "--ctx", "5", "--dtype", "fp32", "--step-timeout",
                           "0.1", "--json", NULL),
                     CDP_OK);
    assert_int_equal(cdp_options_pack(&options, &bytes, &n), CDP_OK);
    assert_int_equal(cdp_options_unpack(&back, bytes, n), CDP_OK);
    assert_int_equal(back.command, CDP_SCORE);
    assert_string_equal(back.model, "a b=c");
    assert_int_equal(back.ctx, 5);
    assert_string_equal(back.dtype, "fp32");
    assert_true(back.step_timeout == 0.1 && back.json && !back.quiet && isnan(back.temperature));
    assert_int_equal(back.max_new_tokens, 512);
    cdp_options_close(&back);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),   cmocka_unit_test(test_help),        cmocka_unit_test(test_values),
        cmocka_unit_test(test_ranges), cmocka_unit_test(test_environment), cmocka_unit_test(test_advice),
        cmocka_unit_test(test_pack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
