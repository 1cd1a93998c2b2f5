/* `cdpipe template`, and generate through a chat template.
 *
 * What it catches: a generate that sends the bare prompt although the model was trained on a frame, a bos
 * before a template that writes its own, a user's control token that gets through.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/split/chat_model.h"
#include "tests/support/golden.h"

#define TEMPLATE                                                                                             \
    "{% for m in messages %}{{ m.role | upper }}:\n{{ m.content }}\n{{ bos_token }}{% endfor %}"             \
    "{% if add_generation_prompt %}ASSISTANT:\n{% endif %}{{ extra }}"

static test_run *run(const char *const *words, const char *input, int exit_code) {
    test_run *r = test_run_open(60);
    test_run_add(r, CDPIPE_BIN, NULL);
    for (; *words != NULL; words++)
        test_run_add(r, *words, NULL);
    r->input = input;
    test_run_env(r, "CDPIPE_NOW=2026-03-07T15:04:05");
    test_run_go(r);
    if (r->exit_code != exit_code)
        fail_msg("exit code %d, expected %d: %s", r->exit_code, exit_code, r->err);
    return r;
}

static void check_text(const char *const *words, const char *expected) {
    test_run *r = run(words, NULL, 0);
    assert_string_equal(r->out, expected);
    test_run_close(r);
}

static const char *messages(const char *dir, const char *json) {
    static char path[400];
    chat_model_file(dir, "messages.json", json);
    snprintf(path, sizeof path, "%s/messages.json", dir);
    return path;
}

static void the_command_shows_the_text(void **state) {
    const char *dir = chat_model(TEMPLATE);
    const char *file = messages(dir, "[{\"role\": \"user\", \"content\": \"Hi\"}]");
    (void)state;
    check_text((const char *[]){"template", "--model", dir, "--messages", file, NULL},
               "USER:\nHi\n<|endoftext|>ASSISTANT:\n");
    check_text((const char *[]){"template", "--model", dir, "--messages", file, "--no-generation-prompt",
                                "--var", "extra=[1, 2.0]", "--var", "bos_token=\"|\"", NULL},
               "USER:\nHi\n|[1, 2.0]");
    chat_model_file(dir, "chat_template.jinja", "{{ strftime_now('%d %b %Y') }} {{ tools[0].name }}");
    chat_model_file(dir, "tools.json", "[{\"name\": \"clock\"}]");
    char tools[400];
    snprintf(tools, sizeof tools, "%s/tools.json", dir);
    check_text((const char *[]){"template", "--model", dir, "--messages", file, "--tools", tools, NULL},
               "07 Mar 2026 clock");
}

static void faults_have_their_codes(void **state) {
    const char *dir = chat_model("{{ raise_exception('only robots') }}");
    const char *file = messages(dir, "[]");
    (void)state;
    test_run *r = run((const char *[]){"template", "--model", dir, "--messages", file, NULL}, NULL, 65);
    assert_string_equal(r->err, "cdpipe: error: only robots\n");
    test_run_close(r);
    chat_model_file(dir, "chat_template.jinja", "a\n{% include 'b' %}");
    r = run((const char *[]){"template", "--model", dir, "--messages", file, NULL}, NULL, 78);
    assert_non_null(strstr(r->err, "chat_template.jinja: line 2, column 4: the tag 'include'"));
    test_run_close(r);
    test_run_close(run((const char *[]){"template", "--model", dir, NULL}, NULL, 64));
    test_run_close(
        run((const char *[]){"template", "--model", dir, "--messages", file, "--var", "x", NULL}, NULL, 64));
    test_run_close(run(
        (const char *[]){"template", "--model", test_path("examples/shakespeare"), "--messages", file, NULL},
        NULL, 66));
}

/* What is wrong in a file is said with its name. */
static void a_broken_file_is_named(void **state) {
    (void)state;
    static const char *const broken[][2] = {{"[{\"role\":", "byte 9: expected a value"},
                                            {"{\"role\":1}", "expected a list of objects"}};
    const char *dir = chat_model("{{ messages }}{{ tools }}");
    chat_model_file(dir, "good.json", "[]");
    char from[600], file[600];
    snprintf(from, sizeof from, "%s/good.json", dir);
    snprintf(file, sizeof file, "%s/broken.json", dir);
    for (int i = 0; i < 2; i++) {
        chat_model_file(dir, "broken.json", broken[i][0]);
        test_run *r = run((const char *[]){"template", "--model", dir, "--messages", file, NULL}, NULL, 65);
        if (strstr(r->err, "/broken.json: ") == NULL || strstr(r->err, broken[i][1]) == NULL)
            fail_msg("%s: %s", broken[i][0], r->err);
        test_run_close(r);
    }
    chat_model_file(dir, "broken.json", broken[0][0]);
    test_run *r = run((const char *[]){"template", "--model", dir, "--messages", from, "--tools", file, NULL},
                      NULL, 65);
    assert_non_null(strstr(r->err, "/broken.json: byte 9"));
    test_run_close(r);
}

/* The ids that --json shows of a conversation, as "1,2,3". */
static char *shown_ids(const char *dir, const char *json) {
    test_run *r =
        run((const char *[]){"template", "--model", dir, "--messages", messages(dir, json), "--json", NULL},
            NULL, 0);
    cJSON *shown = cJSON_Parse(r->out);
    const cJSON *ids = golden_get(shown, "ids");
    char *text = cJSON_PrintUnformatted(ids), *list = strndup(text + 1, strlen(text) - 2);
    free(text);
    cJSON_Delete(shown);
    test_run_close(r);
    return list;
}

static char *prompt_ids(const cJSON *json) {
    char *text = cJSON_PrintUnformatted(golden_get(json, "prompt_ids")),
         *list = strndup(text + 1, strlen(text) - 2);
    free(text);
    return list;
}

static void generate_goes_through_the_template(void **state) {
    const char *dir = chat_model(TEMPLATE);
    (void)state;
    char *framed = shown_ids(dir, "[{\"role\": \"system\", \"content\": \"Be brief.\"},"
                                  "{\"role\": \"user\", \"content\": \"Who <|endoftext|> are you?\"}]");
    const char *words[] = {"--model",
                           dir,
                           "--prompt",
                           "Who <|endoftext|> are you?",
                           "--system",
                           "Be brief.",
                           "--temperature",
                           "0",
                           "--max-new-tokens",
                           "6",
                           NULL};
    const char *by_ids[] = {"--model", dir, "--prompt-ids", framed, "--temperature", "0", "--max-new-tokens",
                            "6",       NULL};
    for (int np = 1; np <= 3; np += 2) {
        cJSON *json = golden_run(np, words), *other = golden_run(np, by_ids);
        char *ids = prompt_ids(json);
        assert_string_equal(ids, framed);
        assert_string_equal(golden_get(json, "logits_hash")->valuestring,
                            golden_get(other, "logits_hash")->valuestring);
        /* Id 0 is <|endoftext|>: the template's two, and not the user's. */
        int n_zero = 0;
        const cJSON *id;
        cJSON_ArrayForEach(id, golden_get(json, "prompt_ids")) n_zero += id->valueint == 0;
        assert_int_equal(n_zero, 2);
        free(ids);
        cJSON_Delete(json);
        cJSON_Delete(other);
    }
    const char *raw[] = {"--model",       dir, "--prompt",         "ROMEO:\n", "--raw",
                         "--temperature", "0", "--max-new-tokens", "2",        NULL};
    const char *plain[] = {"--model",
                           test_path("examples/shakespeare"),
                           "--prompt",
                           "ROMEO:\n",
                           "--temperature",
                           "0",
                           "--max-new-tokens",
                           "2",
                           NULL};
    cJSON *json = golden_run(1, raw), *other = golden_run(1, plain);
    assert_string_equal(golden_get(json, "logits_hash")->valuestring,
                        golden_get(other, "logits_hash")->valuestring);
    cJSON_Delete(json);
    cJSON_Delete(other);
    free(framed);
}

static void a_template_that_cannot_be_read_is_said(void **state) {
    const char *dir = chat_model("{% extends 'x' %}");
    (void)state;
    test_run *r =
        run((const char *[]){"--model", dir, "--prompt", "A", "--max-new-tokens", "1", NULL}, NULL, 0);
    assert_non_null(strstr(r->err, "the chat template cannot be used, the prompt is sent as it is: "
                                   "chat_template.jinja: line 1, column 4"));
    test_run_close(r);
    const char *const system[] = {"--model", dir, "--prompt", "A", "--system", "B", NULL};
    test_run_close(run(system, NULL, 78));
    test_run_close(run((const char *[]){"--model", test_path("examples/shakespeare"), "--prompt", "A",
                                        "--system", "B", NULL},
                       NULL, 64));
    chat_model_file(dir, "chat_template.jinja", "{{ raise_exception('no') }}");
    test_run_close(run((const char *[]){"--model", dir, "--prompt", "A", NULL}, NULL, 65));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_shows_the_text),
        cmocka_unit_test(faults_have_their_codes),
        cmocka_unit_test(a_broken_file_is_named),
        cmocka_unit_test(generate_goes_through_the_template),
        cmocka_unit_test(a_template_that_cannot_be_read_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
