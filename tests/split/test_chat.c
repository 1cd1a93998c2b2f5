/* `cdpipe chat` on a pseudo terminal and down a pipe, on one, two and three ranks.
 *
 * What it catches: a terminal that mpirun keeps, keys that are not edited, a Ctrl-C that ends the program, a
 * turn that computes the whole conversation again or hears another one, a terminal left in raw mode.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/file.h"
#include "tests/split/chat_model.h"
#include "tests/support/golden.h"
#include "tests/support/terminal.h"

#define TEMPLATE                                                                                             \
    "{% if messages | length > 6 %}{{ raise_exception('too long a talk') }}{% endif %}"                      \
    "{% for m in messages %}{{ m.role | upper }}:\n{{ m.content }}\n\n{% endfor %}{{ 'ASSISTANT:\\n' }}"

enum { WAIT_S = 60 };

static char *read_file(const char *path) {
    char *text;
    size_t n;
    assert_int_equal(cdp_file_read_text(&text, &n, path, 1 << 20), CDP_OK);
    return text;
}

static char *in_dir(const char *dir, const char *name) {
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
    return path;
}

static test_run *chat_down_a_pipe(const char *dir, int np, const char *input, int exit_code) {
    char number[16];
    test_run *r = test_run_open(WAIT_S);
    snprintf(number, sizeof number, "%d", np);
    test_run_add(r, CDPIPE_BIN, "chat", "--model", dir, "--np", number, "--temperature", "0",
                 "--max-new-tokens", "12", NULL);
    r->input = input;
    test_run_go(r);
    if (r->exit_code != exit_code)
        fail_msg("exit code %d, expected %d: %s", r->exit_code, exit_code, r->err);
    assert_int_equal(test_run_left(r), 0);
    return r;
}

/* The line of the report that holds the hash over all turns. */
static const char *hash_line(const test_run *r) {
    const char *line = strstr(r->err, "# logits #");
    assert_non_null(line);
    return line;
}

/* Each line is answered; a turn hears what a single prompt of the whole conversation would. */
static void a_pipe_is_answered_line_by_line(void **state) {
    const char *dir = chat_model(TEMPLATE);
    char *saved = in_dir(dir, "saved.json"), *input = NULL, *first = NULL;
    (void)state;
    assert_true(asprintf(&input, "Who are you?\n\nAnd I?\n/stats\n/save %s\n", saved) > 0);
    for (int np = 1; np <= 3; np++) {
        test_run *r = chat_down_a_pipe(dir, np, input, 0);
        /* The second turn: all of the first one but its last token is in the cache. */
        assert_non_null(strstr(r->err, "# 4 messages, 2 turns; context "));
        int n_prompt, n_kept, n_computed;
        const char *last = strstr(r->err, "# last turn: ");
        assert_int_equal(sscanf(last, "# last turn: %d prompt tokens, %d kept and %d computed", &n_prompt,
                                &n_kept, &n_computed),
                         3);
        if (n_kept <= 20 || n_computed >= 24 || n_kept + n_computed != n_prompt)
            fail_msg("%d of %d tokens kept, %d computed", n_kept, n_prompt, n_computed);
        if (first == NULL)
            first = strdup(hash_line(r));
        assert_string_equal(hash_line(r), first);
        test_run_close(r);
    }
    /* The same second answer from the bare model, to the text the template makes of the conversation. */
    char *json = read_file(saved);
    cJSON *messages = cJSON_Parse(json);
    assert_int_equal(cJSON_GetArraySize(messages), 4);
    const char *one = golden_get(cJSON_GetArrayItem(messages, 1), "content")->valuestring;
    const char *two = golden_get(cJSON_GetArrayItem(messages, 3), "content")->valuestring;
    char *prompt = NULL;
    assert_true(
        asprintf(&prompt, "USER:\nWho are you?\n\nASSISTANT:\n%s\n\nUSER:\nAnd I?\n\nASSISTANT:\n", one) > 0);
    const char *words[] = {"--model",       dir, "--prompt",         prompt, "--raw",
                           "--temperature", "0", "--max-new-tokens", "12",   NULL};
    cJSON *whole = golden_run(1, words);
    assert_string_equal(golden_get(whole, "text")->valuestring, two);
    cJSON_Delete(whole);
    cJSON_Delete(messages);
    free(prompt);
    free(json);
    free(first);
    free(input);
    free(saved);
}

/* Layers are looked at in turns whose beginning is in the cache, too: the same rows are drawn from on any
 * number of ranks, and others than without. */
static void turns_look_at_layers(void **state) {
    const char *dir = chat_model(TEMPLATE);
    char *first[2] = {NULL, NULL}, *plain = NULL;
    (void)state;
    for (int i = 0; i <= 6; i++) { /* plainly, then each rule on one rank, two and three */
        const int np = (i + 1) / 2, rule = i % 2;
        char number[16];
        test_run *r = test_run_open(WAIT_S);
        snprintf(number, sizeof number, "%d", np > 0 ? np : 1);
        test_run_add(r, CDPIPE_BIN, "chat", "--model", dir, "--np", number, "--temperature", "0",
                     "--max-new-tokens", "12", "--decoding", np > 0 ? "conservative-dynamic" : "standard",
                     "--cd-method", rule == 0 ? "trough" : "consistency", NULL);
        r->input = "Who are you?\nAnd I?\n";
        test_run_go(r);
        assert_int_equal(r->exit_code, 0);
        char **kept = np == 0 ? &plain : &first[rule];
        if (np <= 1)
            *kept = strdup(hash_line(r));
        if (np > 0) {
            assert_string_equal(hash_line(r), first[rule]);
            assert_string_not_equal(hash_line(r), plain);
        }
        test_run_close(r);
    }
    assert_string_not_equal(first[0], first[1]);
    free(plain);
    free(first[1]);
    free(first[0]);
}

static void commands_change_the_conversation(void **state) {
    const char *dir = chat_model(TEMPLATE);
    char *a = in_dir(dir, "a.json"), *b = in_dir(dir, "b.json"), *input = NULL;
    (void)state;
    assert_true(
        asprintf(&input,
                 "Hi\n/system Be brief.\n/save %s\n/reset\n/save %s\n/load %s\n/system\nOn\n/exit\nNo\n", a,
                 b, a) > 0);
    test_run *r = chat_down_a_pipe(dir, 1, input, 0);
    test_run_close(r);
    char *text = read_file(a);
    assert_non_null(strstr(text,
                           "[{\"role\": \"system\", \"content\": \"Be brief.\"},\n {\"role\": \"user\", "
                           "\"content\": \"Hi\"},\n {\"role\": \"assistant\""));
    free(text);
    text = read_file(b);
    assert_string_equal(text, "[{\"role\": \"system\", \"content\": \"Be brief.\"}]\n");
    free(text);
    free(input);
    free(a);
    free(b);
    test_run_close(chat_down_a_pipe(dir, 1, "/nothing\n", 64));
    test_run_close(chat_down_a_pipe(dir, 1, "/load /nowhere\n", 66));
    test_run_close(chat_down_a_pipe(dir, 1, "/save /dev/null\n", 74)); /* a rename would take its place */
    r = chat_down_a_pipe(dir, 1, "1\n2\n3\n4\n", 65);
    assert_non_null(strstr(r->err, "cdpipe: error: too long a talk\n"));
    test_run_close(r);
    r = chat_down_a_pipe(test_path("examples/shakespeare"), 1, "1\n", 66);
    assert_non_null(strstr(r->err, "has no chat template"));
    test_run_close(r);
}

static void wait_for_prompt(test_terminal *t) {
    assert_true(test_terminal_prompts(t, "\n> ", WAIT_S));
}

static test_terminal *open_terminal(const char *dir, int np, const char *n_tokens) {
    char number[16];
    snprintf(number, sizeof number, "%d", np);
    const char *const words[] = {
        CDPIPE_BIN,      "chat", "--model",          dir,      "--np",         number,
        "--temperature", "0",    "--max-new-tokens", n_tokens, "--ignore-eos", NULL};
    test_terminal *t = test_terminal_open(words);
    assert_true(test_terminal_sees(t, "/help lists the commands", WAIT_S));
    wait_for_prompt(t);
    return t;
}

static void type(test_terminal *t, const char *keys, const char *seen) {
    test_terminal_type(t, keys);
    assert_true(test_terminal_sees(t, seen, WAIT_S));
}

/* What ends with the next prompt. */
static void type_line(test_terminal *t, const char *keys) {
    test_terminal_type(t, keys);
    wait_for_prompt(t);
}

static void save(test_terminal *t, const char *path) {
    char keys[600];
    snprintf(keys, sizeof keys, "/save %s\r", path);
    type_line(t, keys);
}

/* Keys: backspace, Ctrl-A with what is typed there, the line before by the arrow, Ctrl-C on a half-typed
 * line.
 */
static void a_person_types(void **state) {
    const char *dir = chat_model(TEMPLATE);
    char *path = in_dir(dir, "typed.json");
    (void)state;
    for (int np = 1; np <= 3; np++) {
        bool is_restored;
        test_terminal *t = open_terminal(dir, np, "4");
        type_line(t, "Who are yxx\x7f\x7fou?\r");
        type(t,
             "nd I?\x01"
             "A\r",
             "\n");
        wait_for_prompt(t);
        test_terminal_type(t, "never sent");
        type_line(t, "\x03");
        type_line(t, "\x1b[A\r");
        type(t, "/nothing\r", "\"/nothing\" is no command of the chat");
        wait_for_prompt(t);
        save(t, path);
        test_terminal_type(t, np == 2 ? "\x04" : "/exit\r");
        assert_int_equal(test_terminal_close(t, WAIT_S, &is_restored), 0);
        assert_true(is_restored);
        char *json = read_file(path);
        cJSON *messages = cJSON_Parse(json);
        static const char *const said[] = {"Who are you?", "And I?", "And I?"};
        assert_int_equal(cJSON_GetArraySize(messages), 6);
        for (int i = 0; i < 3; i++)
            assert_string_equal(golden_get(cJSON_GetArrayItem(messages, 2 * i), "content")->valuestring,
                                said[i]);
        cJSON_Delete(messages);
        free(json);
        assert_int_equal(test_processes(dir), 0);
    }
    free(path);
}

static void ctrl_c_stops_the_answer(void **state) {
    const char *dir = chat_model(TEMPLATE);
    (void)state;
    test_run *r = chat_down_a_pipe(dir, 1, "Speak, and speak on.\n", 0);
    char *beginning = strndup(r->out, 8);
    test_run_close(r);
    for (int np = 1; np <= 3; np++) {
        bool is_restored;
        int n_answer = 0;
        test_terminal *t = open_terminal(dir, np, "950");
        type(t, "Speak, and speak on.\r", beginning);
        type_line(t, "\x03");
        type(t, "/stats\r", "# last turn: ");
        assert_true(test_terminal_sees(t, "answer ", WAIT_S));
        const size_t at = t->n_seen;
        assert_true(test_terminal_sees(t, " tokens", WAIT_S));
        n_answer = atoi(t->screen + at);
        assert_in_range(n_answer, 1, 949);
        wait_for_prompt(t);
        type(t, "Go on.\r", "on.");
        assert_true(test_terminal_sees(t, "\n", WAIT_S)); /* the line is taken */
        type_line(t, "\x03");
        type(t, "/stats\r", "2 turns");
        test_terminal_type(t, "/exit\r");
        assert_int_equal(test_terminal_close(t, WAIT_S, &is_restored), 0);
        assert_true(is_restored);
        assert_int_equal(test_processes(dir), 0);
    }
    free(beginning);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_is_answered_line_by_line),  cmocka_unit_test(turns_look_at_layers),
        cmocka_unit_test(commands_change_the_conversation), cmocka_unit_test(a_person_types),
        cmocka_unit_test(ctrl_c_stops_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
