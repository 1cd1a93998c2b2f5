/* The option table: what every row must have, what parsing makes of it, and that environment and pack follow
 * from it. Most tests walk over all rows, so a new row is held by them at once.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/options/table.h"

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

/* A command that has the row. */
static cdp_command command_of(const option_row *row) {
    int command = 0;
    while (!((row->commands >> command) & 1u))
        command++;
    return (cdp_command)command;
}

/* A value that the row takes and that is not its default. */
static const char *good_value(const option_row *row) {
    static char number[32];
    switch (row->kind) {
    case OPTION_FLAG:
        return "1";
    case OPTION_CHOICE:
        return strrchr(row->metavar, '|') + 1;
    case OPTION_INT:
        snprintf(number, sizeof number, "%.0f", row->low + 3 <= row->high ? row->low + 3 : row->high);
        return number;
    case OPTION_U64:
        return "18446744073709551615";
    case OPTION_REAL:
        snprintf(number, sizeof number, "%.17g", row->low + (row->high - row->low) / 3);
        return number;
    case OPTION_TEXT:
    case OPTION_STOPS:
        return "a = \"b\"";
    }
    return "";
}

static bool is_alone(const option_row *row) { /* has no --model beside it */
    return command_of(row) == CDP_DEVICES || strcmp(row->name, "model") == 0;
}

/* --name=value and what else the command needs. The options point into the word: it stays until the next
 * call. */
static cdp_status parse_row(const option_row *row, const char *value) {
    static char word[128];
    snprintf(word, sizeof word, row->kind == OPTION_FLAG ? "--%s" : "--%s=%s", row->name, value);
    const char *command = cdp_command_rows[command_of(row)].name;
    return is_alone(row) ? parse(command, word, NULL) : parse(command, word, "--model", "m", NULL);
}

/* batch needs two files beside any row of its own: the environment has them, which no other command reads. */
static void give_batch_files(void) {
    setenv("CDPIPE_INPUT", "in.jsonl", 1);
    setenv("CDPIPE_OUTPUT", "out.jsonl", 1);
}

static void test_rows(void **state) {
    (void)state;
    assert_in_range(cdp_n_option_rows, 1, CDP_MAX_OPTIONS);
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        const size_t n = strlen(row->help);
        if (n < 10 || row->help[n - 1] != '.' || row->fallback[0] == '\0' || row->commands == 0 ||
            row->commands >> CDP_N_COMMANDS != 0 || (row->kind != OPTION_FLAG && row->metavar == NULL))
            fail_msg("--%s lacks a sentence, a default, a command or a word for its value", row->name);
        for (int k = 0; k < i; k++)
            if (strcmp(row->name, cdp_option_rows[k].name) == 0 || row->offset == cdp_option_rows[k].offset)
                fail_msg("--%s is there twice, or has --%s's field", row->name, cdp_option_rows[k].name);
    }
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
    assert_int_equal(cdp_options_origin(&options, "ctx"), CDP_FROM_COMMAND_LINE);
    assert_int_equal(cdp_options_origin(&options, "temperature"), CDP_FROM_DEFAULT);
    assert_int_equal(parse("plan", "--model", "m", "--ctx", "max", "--max-batch", "max", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_PLAN);
    assert_int_equal(options.ctx, CDP_OPTION_MAX);
    assert_int_equal(parse("--model", "m", "--ctx", "max", NULL), CDP_USAGE);
    assert_int_equal(parse("--model", "m", "--max_gpu_memory=a=b", "--dtype=float16", NULL), CDP_OK);
    assert_string_equal(options.max_gpu_memory, "a=b");
    assert_string_equal(options.dtype, "fp16");
    char *words[2 * CDP_MAX_STOPS + 3] = {
        (char *)(uintptr_t) "cdpipe"}; /* once more than there is room for */
    for (int i = 0; i < 2 * CDP_MAX_STOPS + 2; i++)
        words[i + 1] = (char *)(uintptr_t)(i % 2 == 0 ? "--stop" : "x");
    assert_int_equal(cdp_options_parse(&options, 2 * CDP_MAX_STOPS + 3, words), CDP_USAGE);
    cdp_error_clear();
}

/* --help and its like end the parsing wherever they stand, except as the value of another option. */
static void test_special(void **state) {
    (void)state;
    assert_int_equal(parse("plan", "--help", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_HELP);
    assert_int_equal(options.help_for, CDP_PLAN);
    assert_int_equal(parse("--help", "--modle", NULL), CDP_OK);
    assert_int_equal(options.help_for, CDP_HELP);
    assert_int_equal(parse("--modle", "x", "-h", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_HELP);
    assert_int_equal(parse("--json", "--version", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_VERSION);
    assert_int_equal(parse("--prompt=x", "--man", NULL), CDP_OK);
    assert_int_equal(options.command, CDP_MAN);
    static const char *const words[] = {"--help", "-h", "--version", "--man", "--json", "-"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        assert_int_equal(parse("--model", "m", "--prompt", words[i], NULL), CDP_OK);
        assert_int_equal(options.command, CDP_GENERATE);
        assert_string_equal(options.prompt, words[i]);
    }
}

/* Numbers below and above their range, and words that are no numbers, for every numeric row: flag and both
 * ends are shown. The ends themselves are taken. */
static void test_ranges(void **state) {
    (void)state;
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        if (row->kind != OPTION_INT && row->kind != OPTION_REAL)
            continue;
        const char *format = row->kind == OPTION_INT ? "%.0f" : "%g";
        char below[32], above[32], low[32], high[32], flag[64];
        snprintf(below, sizeof below, "%.0f", row->low - 1);
        snprintf(above, sizeof above, "%.0f", row->high + 1);
        snprintf(low, sizeof low, format, row->low);
        snprintf(high, sizeof high, format, row->high);
        snprintf(flag, sizeof flag, "--%s is ", row->name);
        const char *bad[] = {below, above, "many", "",
                             "nan", "inf", "0x1",  "1e400",
                             " 1",  "1 ",  "+",    "99999999999999999999",
                             "--",  "1e3", "1.5",  row->is_above ? low : ""};
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            if (row->kind == OPTION_REAL && (strcmp(bad[k], "1e3") == 0 || strcmp(bad[k], "1.5") == 0))
                continue;
            const cdp_status st = parse_row(row, bad[k]);
            const char *said = cdp_error_message();
            if (st != CDP_USAGE || strncmp(said, flag, strlen(flag)) != 0)
                fail_msg("--%s=%s is not refused: %s", row->name, bad[k], said);
            const char *range = strstr(said, "expected ");
            if (range == NULL || strstr(range, low) == NULL || strstr(range, high) == NULL)
                fail_msg("--%s=%s: the range is not shown: %s", row->name, bad[k], said);
        }
        if (parse_row(row, high) != CDP_OK || (!row->is_above && parse_row(row, low) != CDP_OK))
            fail_msg("--%s does not take its own range: %s", row->name, cdp_error_message());
    }
    assert_int_equal(parse("--model", "m", "--seed", "18446744073709551616", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "from 0 to 18446744073709551615"));
    assert_int_equal(parse("--model", "m", "--ctx", "-1", NULL), CDP_USAGE);
    assert_null(strstr(cdp_error_message(), "max")); /* generate would not take it */
    assert_int_equal(parse("plan", "--model", "m", "--ctx", "-1", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "or max"));
    cdp_error_clear();
}

/* Each option by its variable does what it does on the command line; a bad value names the variable. */
static void test_variables(void **state) {
    (void)state;
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        const char *command = cdp_command_rows[command_of(row)].name;
        char name[64], *by_line = NULL, *by_variable = NULL;
        size_t n_line, n_variable;
        assert_int_equal(parse_row(row, good_value(row)), CDP_OK);
        assert_int_equal(cdp_options_origin(&options, row->name), CDP_FROM_COMMAND_LINE);
        options.origin[i] = CDP_FROM_ENVIRONMENT; /* the one difference that is allowed */
        assert_int_equal(cdp_options_pack(&options, &by_line, &n_line), CDP_OK);

        cdp_option_variable(name, sizeof name, row);
        setenv(name, good_value(row), 1);
        if ((is_alone(row) ? parse(command, NULL) : parse(command, "--model", "m", NULL)) != CDP_OK)
            fail_msg("%s is not taken: %s", name, cdp_error_message());
        assert_int_equal(cdp_options_origin(&options, row->name), CDP_FROM_ENVIRONMENT);
        assert_int_equal(cdp_options_pack(&options, &by_variable, &n_variable), CDP_OK);
        if (n_line != n_variable || memcmp(by_line, by_variable, n_line) != 0)
            fail_msg("%s does something else than --%s", name, row->name);

        setenv(name, row->kind == OPTION_STOPS ? "" : "\033[31m", 1);
        if (row->kind != OPTION_TEXT && (parse(command, "--model", "m", NULL) != CDP_USAGE ||
                                         strncmp(cdp_error_message(), name, strlen(name)) != 0 ||
                                         strchr(cdp_error_message(), '\033') != NULL))
            fail_msg("a bad %s: %s", name, cdp_error_message());
        unsetenv(name);
        give_batch_files();
        free(by_variable);
        free(by_line);
    }
    cdp_error_clear();
}

/* The command line wins, also with another of several options for one thing. */
static void test_priority(void **state) {
    (void)state;
    setenv("CDPIPE_MAX_NEW_TOKENS", "7", 1);
    setenv("CDPIPE_ECHO", "0", 1);
    setenv("CDPIPE_STOP", "x", 1);
    setenv("CDPIPE_PROMPT", "from outside", 1);
    assert_int_equal(parse("--model", "m", NULL), CDP_OK);
    assert_int_equal(options.max_new_tokens, 7);
    assert_false(options.echo);
    assert_string_equal(options.stops[0], "x");
    assert_string_equal(options.prompt, "from outside");
    assert_int_equal(
        parse("--model", "m", "--max-new-tokens", "9", "--stop", "y", "--echo", "--prompt-ids", "1", NULL),
        CDP_OK);
    assert_int_equal(options.max_new_tokens, 9);
    assert_true(options.echo);
    assert_int_equal(options.n_stops, 1);
    assert_string_equal(options.stops[0], "y");
    assert_null(options.prompt);
    assert_int_equal(cdp_options_origin(&options, "prompt"), CDP_FROM_DEFAULT);
    assert_string_equal(options.prompt_ids, "1");
    assert_int_equal(parse("--model", "m", "--prompt-ids", "1", "--prompt-file", "f", NULL), CDP_USAGE);
    setenv("CDPIPE_PROMPT_FILE", "f", 1);
    assert_int_equal(parse("--model", "m", NULL), CDP_USAGE);
    unsetenv("CDPIPE_PROMPT_FILE");
    unsetenv("CDPIPE_PROMPT");
    unsetenv("CDPIPE_STOP");
    unsetenv("CDPIPE_ECHO");
    unsetenv("CDPIPE_MAX_NEW_TOKENS");
    setenv("CDPIPE_NUM_GPUS", "2", 1);
    assert_int_equal(parse("--model", "m", "--device", "cpu", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "--device cpu and CDPIPE_NUM_GPUS contradict"));
    unsetenv("CDPIPE_NUM_GPUS");
    cdp_error_clear();
}

static void test_advice(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"--modle", NULL, "unknown option --modle, did you mean --model?"},
        {"--max_gpu_memroy=1", NULL, "did you mean --max-gpu-memory?"},
        {"--versoin", NULL, "did you mean --version?"},
        {"--hlep", NULL, "did you mean --help?"},
        {"scoer", NULL, "did you mean score?"},
        {"help", NULL, "did you mean --help?"},
        {"plan", "--gpu", "did you mean --gpus?"},
        {"--map", "3,3,2", "did you mean --device-map?"}, /* --man is one letter away */
        {"--tokens", "8", "did you mean --max-new-tokens?"},
        {"--max-new", "8", "did you mean --max-new-tokens?"},
        {"--temp", "0", "did you mean --temperature?"},
        {"--\033x", NULL, "--\\x1Bx"},
        {"generate", "--gpus", "option --gpus does not belong to generate (but to plan)"},
        {"--json", "score", "\"score\": the command stands first"},
        {"--json", "stray", "\"stray\": options begin with --"},
        {"--json", "--", "\"--\": options begin with --"},
        {"--json=1", NULL, "--json takes no value"},
        {"--model", NULL, "--model needs a value: DIR"},
        {"--dtype", "float64", "--dtype is \"float64\", expected auto|bf16|fp16|fp32"},
        {"--dtype", "fp",
         "--dtype is \"fp\", expected auto|bf16|fp16|fp32"}, /* the start of a choice is none */
        {"--dtype", "", "--dtype is \"\", expected"},
        {"generate", "--p", "did you mean --np?"}, /* --pp is as near, but bench's */
        {"--json", NULL, "--model DIR is needed"},
        {"generate", "out.jsonl",
         "\"out.jsonl\": options begin with --"}, /* only status has a word of its own */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (parse(cases[i][0], cases[i][1], NULL) != CDP_USAGE ||
            strstr(cdp_error_message(), cases[i][2]) == NULL)
            fail_msg("%s %s: \"%s\", expected \"%s\"", cases[i][0], cases[i][1] != NULL ? cases[i][1] : "",
                     cdp_error_message(), cases[i][2]);
    assert_int_equal(parse("status", "a.jsonl", "--json", NULL), CDP_OK);
    assert_string_equal(options.output, "a.jsonl");
    assert_int_equal(parse("status", "a.jsonl", "b.jsonl", NULL), CDP_USAGE);
    assert_int_equal(parse("--model", "m", "--device", "cpu", "--num-gpus", "2", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "--device cpu and --num-gpus contradict each other"));
    assert_int_equal(parse("--model", "m", "--device", "cpu", "--device-id", "0", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "--device cpu and --device-id contradict each other"));
    assert_int_equal(parse("plan", "--model", "m", "--device", "cpu", "--gpus", "2GiB", NULL), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "--device cpu and --gpus contradict each other"));
    setenv("CDPIPE_DEVICE", "cpu", 1);
    assert_int_equal(parse("plan", "--model", "m", "--gpus", "2GiB", NULL), CDP_OK);
    unsetenv("CDPIPE_DEVICE");
    cdp_error_clear();
}

/* What goes to the other ranks comes back as it was: each row alone, then many together. */
static void test_pack(void **state) {
    (void)state;
    cdp_options back;
    char *bytes = NULL, *again = NULL;
    size_t n = 0, n_again = 0;
    for (int i = 0; i < cdp_n_option_rows; i++) {
        const option_row *row = &cdp_option_rows[i];
        assert_int_equal(parse_row(row, good_value(row)), CDP_OK);
        assert_int_equal(cdp_options_pack(&options, &bytes, &n), CDP_OK);
        assert_int_equal(cdp_options_unpack(&back, bytes, n), CDP_OK);
        assert_int_equal(back.command, options.command);
        assert_int_equal(cdp_options_origin(&back, row->name), CDP_FROM_COMMAND_LINE);
        const void *field = (const char *)&back + row->offset, *want = (const char *)&options + row->offset;
        static const size_t sizes[] = {[OPTION_FLAG] = sizeof(bool),
                                       [OPTION_INT] = sizeof(int),
                                       [OPTION_U64] = sizeof(uint64_t),
                                       [OPTION_REAL] = sizeof(double)};
        const bool is_text =
            row->kind == OPTION_TEXT || row->kind == OPTION_CHOICE || row->kind == OPTION_STOPS;
        if (is_text ? strcmp(*(const char *const *)field, *(const char *const *)want) != 0
                    : memcmp(field, want, sizes[row->kind]) != 0)
            fail_msg("--%s=%s comes back otherwise", row->name, good_value(row));
        cdp_options_close(&back);
        free(bytes);
    }
    setenv("CDPIPE_QUIET", "1", 1);
    assert_int_equal(parse("generate", "--model", "a b=c\n", "--ctx", "5", "--dtype", "fp32",
                           "--step-timeout", "0.1", "--json", "--stop", "one", "--stop", "=two",
                           "--max-new-tokens", "512", NULL),
                     CDP_OK);
    unsetenv("CDPIPE_QUIET");
    assert_int_equal(cdp_options_pack(&options, &bytes, &n), CDP_OK);
    assert_int_equal(cdp_options_unpack(&back, bytes, n), CDP_OK);
    assert_string_equal(back.model, "a b=c\n");
    assert_true(back.step_timeout == 0.1 && back.json && back.quiet && isnan(back.temperature));
    assert_int_equal(back.n_stops, 2);
    assert_string_equal(back.stops[1], "=two");
    assert_memory_equal(back.origin, options.origin,
                        sizeof back.origin); /* given, though it is the default */
    assert_int_equal(cdp_options_pack(&back, &again, &n_again), CDP_OK);
    assert_int_equal(n, n_again);
    assert_memory_equal(bytes, again, n);
    cdp_options_close(&back);
    free(again);
    free(bytes);
    static const char *const broken[] = {"",
                                         "x",
                                         "99",
                                         "-1",
                                         "0\0ctx",
                                         "0\0"
                                         "2nothing=1",
                                         "0\0"
                                         "9ctx=1"};
    static const size_t sizes[] = {0, 1, 2, 2, 5, 12, 8};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        cdp_error_clear();
        assert_int_equal(cdp_options_unpack(&back, broken[i], sizes[i]), CDP_INTERNAL);
        assert_null(back.memory);
    }
    cdp_error_clear();
}

int main(void) {
    for (int i = 0; i < cdp_n_option_rows; i++) { /* whatever the caller's environment asks for */
        char name[64];
        cdp_option_variable(name, sizeof name, &cdp_option_rows[i]);
        unsetenv(name);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),   cmocka_unit_test(test_values),    cmocka_unit_test(test_special),
        cmocka_unit_test(test_ranges), cmocka_unit_test(test_variables), cmocka_unit_test(test_priority),
        cmocka_unit_test(test_advice), cmocka_unit_test(test_pack),
    };
    give_batch_files();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
