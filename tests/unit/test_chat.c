/* The chat template of a model folder: where it is found, what it sees, which ids come of it.
 *
 * What it catches: a user's text that becomes a control token, a bos written twice, an old template that wins
 * over the newer file, special tokens that nobody told the template.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "launcher/template/chat.h"
#include "planner/json.h"
#include "tests/support/data.h"

static void write_file(const char *dir, const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    assert_int_equal(fclose(to), 0);
}

/* An empty folder of this test's own. */
static const char *fresh_dir(void) {
    static char dir[300];
    static int n;
    snprintf(dir, sizeof dir, "%s/%d", test_temp_dir(), n++);
    assert_int_equal(mkdir(dir, 0700), 0);
    return dir;
}

static cdp_conversation conversation(const char *messages) {
    return (cdp_conversation){.messages = messages, .n_messages = strlen(messages)};
}

static char *rendered(const char *dir, const cdp_conversation *c) {
    cdp_chat *chat;
    cdp_rendered out;
    assert_int_equal(cdp_chat_open(&chat, dir), CDP_OK);
    assert_int_equal(cdp_chat_render(chat, c, &out), CDP_OK);
    cdp_chat_close(chat);
    char *text = strdup(out.text);
    cdp_rendered_close(&out);
    return text;
}

static void check(const char *dir, const cdp_conversation *c, const char *expected) {
    char *text = rendered(dir, c);
    assert_string_equal(text, expected);
    free(text);
}

static void the_file_wins_over_the_config(void **state) {
    const char *dir = fresh_dir();
    const cdp_conversation c = conversation("[{\"role\": \"user\", \"content\": \"Hi\"}]");
    cdp_chat *chat;
    (void)state;
    assert_false(cdp_chat_exists(dir));
    assert_int_equal(cdp_chat_open(&chat, dir), CDP_NO_INPUT);
    assert_null(chat);
    cdp_error_clear();
    write_file(dir, "tokenizer_config.json", "{\"chat_template\": \"old {{ messages[0].content }}\"}");
    assert_true(cdp_chat_exists(dir));
    check(dir, &c, "old Hi");
    write_file(dir, "chat_template.jinja", "new {{ messages[0].content }}\n");
    check(dir, &c, "new Hi");
}

static void named_templates_serve_tools(void **state) {
    const char *dir = fresh_dir();
    cdp_conversation c = conversation("[]");
    (void)state;
    write_file(dir, "tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"{% broken\"},"
               "{\"name\": \"default\", \"template\": \"plain {{ tools }}\"},"
               "{\"name\": \"tool_use\", \"template\": \"tools {{ tools[0] }}\"}]}");
    check(dir, &c, "plain None");
    c.tools = "[7]";
    c.n_tools = 3;
    check(dir, &c, "tools 7");
}

static void templates_see_what_transformers_gives(void **state) {
    const char *dir = fresh_dir();
    cdp_conversation c =
        conversation("[{\"role\": \"assistant\", \"content\": null, \"reasoning\": \"why\"}]");
    const cdp_variable more[] = {{.name = "flag", .json = "true", .n_json = 4},
                                 {.name = "bos_token", .json = "\"X\"", .n_json = 3}};
    (void)state;
    write_file(dir, "tokenizer_config.json",
               "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", \"add_bos_token\": true,"
               " \"pad_token\": null, \"extra_special_tokens\": {\"image_token\": \"<img>\"}}");
    write_file(dir, "special_tokens_map.json", "{\"pad_token\": \"<pad>\", \"eos_token\": \"<old>\"}");
    write_file(
        dir, "chat_template.jinja",
        "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ image_token }} {{ add_bos_token is defined }} "
        "{{ tools }} {{ documents }} {{ add_generation_prompt }} {{ flag is defined }} {{ messages[0] }}");
    check(dir, &c,
          "<s></s><pad><img> False None None True False {'role': 'assistant', 'content': None, 'reasoning': "
          "'why', 'reasoning_content': 'why', 'thinking': 'why'}");
    c.has_no_generation_prompt = true;
    c.more = more;
    c.n_more = 2;
    c.messages = "[{\"thinking\": \"t\", \"reasoning_content\": null}]";
    c.n_messages = strlen(c.messages);
    check(dir, &c, "X</s><pad><img> False None None False True {'thinking': 't', 'reasoning_content': 't'}");
}

static void bad_conversations_get_a_clear_line(void **state) {
    static const char *const cases[][2] = {
        {"{}", "messages: expected a list of objects"},
        {"[1]", "messages: expected a list of objects"},
        {"[{\"role\": \"user\"", "messages: byte 16: expected"},
        {"[{\"role\": \"robot\"}]", "no robots here"},
        {"[\"\xff\"]", "messages: byte 2 is no UTF-8 text"},
        {"[{\"role\": \"\\ud800\"}]", "messages: byte 17: expected a whole pair"},
    };
    const char *dir = fresh_dir();
    cdp_chat *chat;
    (void)state;
    write_file(dir, "chat_template.jinja",
               "{% if messages[0].role == 'robot' %}{{ raise_exception('no robots here') }}{% endif %}");
    assert_int_equal(cdp_chat_open(&chat, dir), CDP_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const cdp_conversation c = conversation(cases[i][0]);
        cdp_rendered out;
        assert_int_equal(cdp_chat_render(chat, &c, &out), CDP_BAD_DATA);
        if (strncmp(cdp_error_message(), cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: |%s|, expected |%s|", cases[i][0], cdp_error_message(), cases[i][1]);
        cdp_error_clear();
        cdp_rendered_close(&out);
    }
    cdp_chat_close(chat);
}

/* One message of a user through `<|im_start|>user\n...<|im_end|>\n` or llama 3's frame. */
static int32_t *ids_of(const char *dir, const cdp_tokenizer *tokenizer, const char *text, size_t *n_out) {
    char *json = NULL;
    size_t n = 0;
    cdp_chat *chat;
    int32_t *ids = NULL;
    FILE *to = open_memstream(&json, &n);
    fputs("[{\"role\": \"user\", \"content\": ", to);
    cdp_json_write_quoted(to, text, strlen(text));
    fputs("}]", to);
    fclose(to);
    const cdp_conversation c = {.messages = json, .n_messages = n};
    assert_int_equal(cdp_chat_open(&chat, dir), CDP_OK);
    assert_int_equal(cdp_chat_encode(chat, &c, tokenizer, &ids, n_out), CDP_OK);
    cdp_chat_close(chat);
    free(json);
    return ids;
}

static int n_special(const cdp_tokenizer *tokenizer, const int32_t *ids, size_t n) {
    int count = 0;
    for (size_t i = 0; i < n; i++)
        count += cdp_tokenizer_is_special(tokenizer, ids[i]);
    return count;
}

static void no_message_becomes_a_control_token(void **state) {
    static const char *const names[] = {"qwen2", "llama3", "command-r", "o200k", "tekken"};
    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        char path[300];
        const char *dir = fresh_dir();
        cdp_tokenizer *tokenizer;
        size_t n, n_text;
        snprintf(path, sizeof path, "tests/golden/tokenizers/%s", names[k]);
        assert_int_equal(cdp_tokenizer_open(&tokenizer, test_path(path)), CDP_OK);
        /* The frame is any special token of this tokenizer, written by the template. */
        int32_t frame = 0;
        while (frame < cdp_tokenizer_size(tokenizer) && !cdp_tokenizer_is_special(tokenizer, frame))
            frame++;
        char template[200];
        const char *word = cdp_tokenizer_bytes(tokenizer, frame, &n_text);
        snprintf(template, sizeof template, "%.*s{{ messages[0].content | trim }}%.*s", (int)n_text, word,
                 (int)n_text, word);
        write_file(dir, "chat_template.jinja", template);
        int n_tried = 0;
        for (int32_t id = 0; id < cdp_tokenizer_size(tokenizer); id++) {
            char text[200];
            word = cdp_tokenizer_bytes(tokenizer, id, &n_text);
            if (!cdp_tokenizer_is_special(tokenizer, id) || word == NULL)
                continue;
            snprintf(text, sizeof text, "a%.*sb", (int)n_text, word);
            int32_t *ids = ids_of(dir, tokenizer, text, &n);
            assert_int_equal(n_special(tokenizer, ids, n), 2);
            assert_int_equal(ids[0], frame);
            assert_int_equal(ids[n - 1], frame);
            free(ids);
            n_tried++;
        }
        assert_true(n_tried > 0);
        cdp_tokenizer_close(tokenizer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_wins_over_the_config),
        cmocka_unit_test(named_templates_serve_tools),
        cmocka_unit_test(templates_see_what_transformers_gives),
        cmocka_unit_test(bad_conversations_get_a_clear_line),
        cmocka_unit_test(no_message_becomes_a_control_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
