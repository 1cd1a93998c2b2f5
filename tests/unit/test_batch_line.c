/* Lines of a batch input: both forms, every parameter with its bounds, ids, and what is refused by name.
 *
 * What it catches: a misspelt parameter taken for one that was not given, a bound of a line that differs from
 * the command line's, an id that is lost or cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/batch/line.h"
#include "launcher/options/table.h"

static cdp_options base(void) {
    cdp_options o;
    cdp_options_defaults(&o);
    o.temperature = 0.25;
    o.stops[o.n_stops++] = "of the run";
    return o;
}

static cdp_status read_line(cdp_line *line, const char *text) {
    const cdp_options o = base();
    cdp_error_clear();
    cdp_status st = cdp_line_identify(line, text, strlen(text), 7);
    return st == CDP_OK ? cdp_line_read(line, &o) : st;
}

static void refused(const char *text, const char *part) {
    cdp_line line;
    const cdp_status st = read_line(&line, text);
    if (st != CDP_BAD_DATA || strstr(cdp_error_message(), part) == NULL ||
        strncmp(cdp_error_message(), "line 7", 6) != 0)
        fail_msg("%s\n    gave %d \"%s\", expected 65 with \"%s\"", text, st, cdp_error_message(), part);
    cdp_line_close(&line);
}

static void accepted(cdp_line *line, const char *text) {
    if (read_line(line, text) != CDP_OK)
        fail_msg("%s\n    refused: %s", text, cdp_error_message());
}

static void test_own_form(void **state) {
    (void)state;
    cdp_line line;
    accepted(&line,
             "{\"id\":\"a\\n\\u00e9\",\"prompt\":\"x\",\"max_new_tokens\":3,\"temperature\":0.5,\"top_k\":4,"
             "\"top_p\":0.9,\"min_p\":0.1,\"seed\":9007199254740992,\"stop\":[\"p\",\"q\"],\"logprobs\":2,"
             "\"repetition_penalty\":1.1,\"presence_penalty\":-1,\"frequency_penalty\":2,"
             "\"ignore_eos\":true,\"metadata\":{\"a\":1}}");
    const cdp_options *o = &line.options;
    assert_string_equal(line.id, "a\n\xC3\xA9");
    assert_string_equal(line.prompt, "x");
    assert_int_equal(o->max_new_tokens, 3);
    assert_true(o->temperature == 0.5 && o->top_k == 4 && o->top_p == 0.9 && o->min_p == 0.1);
    assert_true(o->seed == UINT64_C(9007199254740992) && o->logprobs == 2 && o->ignore_eos);
    assert_true(o->repetition_penalty == 1.1 && o->presence_penalty == -1 && o->frequency_penalty == 2);
    assert_int_equal(o->n_stops, 2); /* the line's stand in the place of the run's */
    assert_string_equal(o->stops[1], "q");
    cdp_line_close(&line);
    accepted(&line, "{\"prompt\":\"x\",\"decoding\":\"conservative-dynamic\",\"tap_window\":12,\"cd_p\":0.5,"
                    "\"cd_lazy\":true,\"cd_method\":\"trough-m1\",\"cd_entropy_top_k\":20}");
    assert_true(line.names_decoding);
    assert_string_equal(line.options.decoding, "conservative-dynamic");
    assert_string_equal(line.options.tap_window, "12");
    assert_string_equal(line.options.cd_method, "trough-m1");
    assert_true(line.options.cd_p == 0.5 && line.options.cd_lazy && line.options.cd_entropy_top_k == 20);
    cdp_line_close(&line);
    accepted(&line, "{\"prompt\":\"x\",\"decoding\":\"conservative-dynamic\",\"cd_method\":\"consistency\","
                    "\"cd_consistency\":0.25,\"cd_decay\":1}");
    assert_string_equal(line.options.cd_method, "consistency");
    assert_true(line.options.cd_consistency == 0.25 && line.options.cd_decay == 1);
    cdp_line_close(&line);
    accepted(&line, "{\"prompt_ids\":[1,2],\"stop\":null,\"temperature\":null}");
    assert_false(line.names_decoding);
    assert_string_equal(line.id, "7"); /* its number */
    assert_non_null(line.prompt_ids);
    assert_int_equal(line.options.n_stops, 1);
    assert_true(line.options.temperature == 0.25);
    cdp_line_close(&line);
}

/* All 64 bits of a seed count, in either form, whatever other seeds the line speaks of. */
static void test_long_seeds(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t seed;
    } cases[] = {
        {"{\"prompt\":\"x\",\"seed\":0}", 0},
        {"{\"prompt\":\"x\",\"seed\":9007199254740993}", UINT64_C(9007199254740993)},
        {"{\"seed\" : 18446744073709551615 , \"prompt\":\"x\"}", UINT64_MAX},
        {"{\"prompt\":\"\\\"seed\\\":12345678901234567890\",\"seed\":11}", 11},
        {"{\"prompt\":\"x\",\"seed\":11,\"metadata\":{\"seed\":12345678901234567890}}", 11},
        {"{\"custom_id\":\"c\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"x\","
         "\"seed\":17446744073709551615}}",
         UINT64_C(17446744073709551615)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_line line;
        accepted(&line, cases[i].text);
        if (line.options.seed != cases[i].seed)
            fail_msg("%s: seed %llu", cases[i].text, (unsigned long long)line.options.seed);
        cdp_line_close(&line);
    }
    refused("{\"prompt\":\"x\",\"seed\":18446744073709551616}", "seed is \"18446744073709551616\", expected");
}

/* A conversation reaches the template as it is written: the tree would make 1 of 1.0, and round. */
static void test_messages_text(void **state) {
    (void)state;
    static const char messages[] =
        "[ {\"role\":\"tool\",\"x\":1.0,\"n\":1234567890123456789,\"s\":\"]}\\\"\\\\\"}, {} ]";
    static const char *const around[] = {
        "{\"messages\":%s}",
        " { \"id\" : \"messages\" , \"metadata\":{\"messages\":[5]}, \"messages\" : %s , \"seed\" : 3 } ",
        "{\"custom_id\":\"c\",\"url\":\"/v1/chat/completions\",\"body\":{\"n\":1,\"messages\":%s}}",
    };
    cdp_line line;
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, around[i], messages);
        accepted(&line, text);
        assert_string_equal(line.messages_text, messages);
        cdp_line_close(&line);
    }
    accepted(&line, "{\"mess\\u0061ges\":[{}]}");
    assert_string_equal(line.messages_text, "[{}]");
    cdp_line_close(&line);
    accepted(&line, "{\"prompt\":\"\\\"messages\\\":[1]\"}");
    assert_null(line.messages_text);
    cdp_line_close(&line);
}

static void test_openai_form(void **state) {
    (void)state;
    cdp_line line;
    accepted(&line,
             "{\"custom_id\":\"c\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"model\":\"m\","
             "\"prompt\":\"x\",\"max_tokens\":5,\"n\":1,\"stream\":false,\"logprobs\":3,\"user\":\"u\"}}");
    assert_int_equal(line.form, CDP_LINE_COMPLETION);
    assert_string_equal(line.model, "m");
    assert_true(line.options.max_new_tokens == 5 && line.options.logprobs == 3);
    cdp_line_close(&line);
    accepted(&line, "{\"custom_id\":\"c\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":[1,2]}}");
    assert_non_null(line.prompt_ids);
    cdp_line_close(&line);
    accepted(&line, "{\"custom_id\":\"c\",\"url\":\"/v1/chat/completions\",\"body\":{\"messages\":[{}],"
                    "\"top_logprobs\":4,\"logprobs\":true,\"max_completion_tokens\":6,"
                    "\"response_format\":{\"type\":\"text\"}}}");
    assert_int_equal(line.form, CDP_LINE_CHAT);
    assert_true(line.options.max_new_tokens == 6 && line.options.logprobs == 4);
    cdp_line_close(&line);
    accepted(&line, "{\"custom_id\":\"c\",\"url\":\"/v1/chat/"
                    "completions\",\"body\":{\"messages\":[],\"logprobs\":true}}");
    assert_int_equal(line.options.logprobs, 1);
    cdp_line_close(&line);
#define BODY(members)                                                                                        \
    "{\"custom_id\":\"c\",\"url\":\"/v1/chat/completions\",\"body\":{\"messages\":[]," members "}}"
    refused(BODY("\"n\":2"), "n is 2, expected 1");
    refused(BODY("\"stream\":true"), "stream is true, expected false");
    refused(BODY("\"tools\":[]"), "tools is no member");
    refused(BODY("\"response_format\":{\"type\":\"json_object\"}"), "response_format");
    refused(BODY("\"max_new_tokens\":1"), "max_new_tokens is no member");
    refused(BODY("\"prompt\":\"x\""), "prompt is no member");
    refused("{\"custom_id\":\"c\",\"url\":\"/v1/embeddings\",\"body\":{}}", "url is \"/v1/embeddings\"");
    refused("{\"custom_id\":\"c\",\"method\":\"GET\",\"url\":\"/v1/completions\",\"body\":{}}",
            "method is \"GET\"");
    refused("{\"custom_id\":\"c\",\"url\":\"/v1/completions\"}", "an object body");
    refused("{\"custom_id\":\"c\",\"url\":\"/v1/completions\",\"body\":{},\"x\":1}", "x is no member");
}

static void test_refused(void **state) {
    (void)state;
    refused("", "not JSON");
    refused("{", "not JSON");
    refused("{} {}", "more after the end");
    refused("[1]", "expected an object");
    refused("3", "expected an object");
    refused("{\"id\":\"a\"}", "one of prompt, prompt_ids and messages");
    refused("{\"prompt\":\"a\",\"prompt_ids\":[1]}", "one of prompt, prompt_ids and messages");
    refused("{\"prompt\":5}", "prompt is 5, expected a text");
    refused("{\"prompt_ids\":\"1\"}", "prompt_ids is \"1\", expected an array");
    refused("{\"prompt\":\"a\",\"temprature\":1}", "temprature is no member");
    refused("{\"prompt\":\"a\",\"prompt\":\"b\"}", "twice");
    refused("{\"prompt\":\"\\u0000\"}", "NUL");
    refused("{\"prompt\":\"\\ud800\"}", "not JSON");
    refused("{\"prompt\":\"\xC3\x28\"}", "UTF-8");
    refused("{\"prompt\":\"a\",\"id\":1.5}", "id is 1.5");
    refused("{\"prompt\":\"a\",\"id\":{}}", "id is");
}

static void test_bounds(void **state) {
    (void)state;
    static const struct {
        const char *member, *part;
    } cases[] = {
        {"\"max_new_tokens\":-1", "max_new_tokens is \"-1\", expected a whole number from 0"},
        {"\"max_new_tokens\":1e12", "max_new_tokens"},
        {"\"max_new_tokens\":2.5", "max_new_tokens is \"2.5\""},
        {"\"max_new_tokens\":\"many\"", "max_new_tokens is \"many\", expected a whole number"},
        {"\"temperature\":-1", "temperature"},
        {"\"temperature\":1e30", "temperature"},
        {"\"temperature\":\"0.5\"", "temperature is \"0.5\", expected a number"},
        {"\"top_p\":0", "top_p"},
        {"\"top_p\":1.01", "top_p"},
        {"\"min_p\":-0.1", "min_p"},
        {"\"top_k\":-1", "top_k"},
        {"\"seed\":-1", "seed"},
        {"\"seed\":18446744073709551616", "seed"},
        {"\"logprobs\":1001", "logprobs"},
        {"\"logprobs\":true", "logprobs is true, expected a whole number"},
        {"\"ignore_eos\":1", "ignore_eos is 1, expected true or false"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":5", "stop is 5"},
        {"\"stop\":[\"a\",5]", "stop"},
        {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\","
         "\"15\","
         "\"16\",\"17\"]",
         "stop is given more than 16 times"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"prompt\":\"a\",%s}", cases[i].member);
        refused(text, cases[i].part);
    }
}

/* Long texts have limits, and the id of a line that is refused is still known. */
static void test_lengths_and_ids(void **state) {
    (void)state;
    cdp_line line;
    char *text = malloc(8192);
    snprintf(text, 8192, "{\"prompt\":\"a\",\"id\":\"%0513d\"}", 0);
    refused(text, "at most 512 bytes");
    snprintf(text, 8192, "{\"prompt\":\"a\",\"stop\":\"%04097d\"}", 0);
    refused(text, "1 to 4096 bytes");
    snprintf(text, 8192, "{\"prompt\":\"a\",\"id\":\"%0512d\",\"stop\":\"%04096d\"}", 0, 0);
    accepted(&line, text);
    cdp_line_close(&line);
    free(text);
    assert_int_equal(read_line(&line, "{\"id\":12,\"prompt\":\"a\",\"top_p\":7}"), CDP_BAD_DATA);
    assert_true(line.id_is_number);
    assert_string_equal(line.id, "12");
    cdp_line_close(&line);
    assert_int_equal(read_line(&line, "[]"), CDP_BAD_DATA);
    assert_null(line.id);
    cdp_line_close(&line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_form),        cmocka_unit_test(test_long_seeds),
        cmocka_unit_test(test_messages_text),   cmocka_unit_test(test_openai_form),
        cmocka_unit_test(test_refused),         cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_lengths_and_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
