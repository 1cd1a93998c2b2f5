/* The strict reader in front of cJSON: what plain cJSON would let through, and what must still pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/json.h"

static cdp_status parse(cJSON **out, const char *text, size_t n, const cdp_json_limits *limits) {
    cdp_error_clear();
    return cdp_json_parse(out, "file", text, n, limits);
}

static void check(const char *text, size_t n, bool is_good, const char *holds) {
    cJSON *json = NULL;
    const cdp_status st = parse(&json, text, n, &cdp_json_config_limits);
    if ((st == CDP_OK) != is_good ||
        (!is_good && (st != CDP_BAD_MODEL || strstr(cdp_error_message(), holds) == NULL)))
        fail_msg("%.60s: status %d, \"%s\", expected \"%s\"", text, st, cdp_error_message(), holds);
    cJSON_Delete(json);
}

typedef struct text_case {
    const char *text, *holds; /* NULL: it is fine */
} text_case;

static void test_texts(void **state) {
    (void)state;
    static const text_case cases[] = {
        {" {\"a\": [1, -2.5e3, true, null, \"\\u00e9\"]} \n", NULL},
        {"\"one string\"", NULL},
        {"", "not JSON"},
        {"{\"a\":1,}", "not JSON"},
        {"{\"a\":1} x", "after the end"},
        {"{} {}", "after the end"},
        {"{\"a\":1,\"a\":1}", "appears twice"},
        {"{\"b\":{\"a\":1,\"c\":2,\"a\":3}}", "\"a\" appears twice"},
        {"{\"a\":\"\\u0000\"}", "NUL"},
        {"{\"a\":\"\xFF\"}", "UTF-8"},
        {"{\"a\":\"\xC0\x80\"}", "UTF-8"},
        {"{\"a\":\"\xED\xA0\x80\"}", "UTF-8"},
        {"{\"a\":\"\xF4\x90\x80\x80\"}", "UTF-8"},
        {"{\"a\":\"\xF0\x9F\x98\x80\"}", NULL},
        {"{\"a\":\"line\nbreak\"}", "control"},
        {"\xEF\xBB\xBF{}", "not JSON"},
        {"{\"a\":01}", "not JSON"},
        {"{\"a\":1.}", "not JSON"},
        {"{\"a\":1e999}", "too large"},
        {"{\"a\":NaN}", "not JSON"},
        {"{'a':1}", "not JSON"},
        {"{\"a\":\"no end", "not JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check(cases[i].text, strlen(cases[i].text), cases[i].holds == NULL, cases[i].holds);
    check("{}\0", 3, false, "not JSON");
    check("{\"a\0b\":1}", 9, false, "control");
    cdp_error_clear();
}

/* Depth, nodes and bytes are bounded before a tree is built. */
static void test_limits(void **state) {
    (void)state;
    char *text = malloc(400001);
    cJSON *json = NULL;
    memset(text, '[', 100000);
    assert_int_equal(parse(&json, text, 100000, &cdp_json_config_limits), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "deep"));
    text[0] = '[';
    for (int i = 0; i < 150000; i++)
        memcpy(text + 1 + 2 * i, "0,", 2);
    memcpy(text + 300001, "0]", 2);
    assert_int_equal(parse(&json, text, 300003, &cdp_json_config_limits), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "too many values"));
    free(text);
    char big[64] = "[]";
    const cdp_json_limits small = {8, 100, 8, false, CDP_BAD_DATA};
    assert_int_equal(parse(&json, big, 64, &small), CDP_BAD_DATA);
    cdp_error_clear();
}

/* Keys as numbers: exact, in range, of the right case. */
static void test_getters(void **state) {
    (void)state;
    cJSON *json = NULL;
    const char *text =
        "{\"n\": 9007199254740992, \"half\": 1.5, \"Name\": 3, \"word\": \"x\", \"nothing\": null}";
    int64_t value = -7;
    double real = -7;
    bool flag = true;
    assert_int_equal(parse(&json, text, strlen(text), &cdp_json_config_limits), CDP_OK);
    assert_int_equal(cdp_json_int(json, "f", "n", 0, INT64_C(1) << 53, &value), CDP_OK);
    assert_true(value == INT64_C(9007199254740992));
    assert_int_equal(cdp_json_int(json, "f", "nothing", 0, 9, &value), CDP_OK);
    assert_int_equal(cdp_json_int(json, "f", "name", 0, 9, &value), CDP_OK); /* another case: absent */
    assert_true(value == INT64_C(9007199254740992));
    assert_int_equal(cdp_json_int(json, "f", "half", 0, 9, &value), CDP_BAD_MODEL);
    cdp_error_clear();
    assert_int_equal(cdp_json_int(json, "f", "n", 0, 9, &value), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "f: n is"));
    cdp_error_clear();
    assert_int_equal(cdp_json_double(json, "f", "half", 0, 2, &real), CDP_OK);
    assert_true(real == 1.5);
    assert_int_equal(cdp_json_bool(json, "f", "word", &flag), CDP_BAD_MODEL);
    cdp_error_clear();
    cJSON_Delete(json);
}

/* whole_numbers: what is no exact whole number stands as a string. */
static void test_whole_numbers(void **state) {
    (void)state;
    cJSON *json = NULL;
    const char *text = "[7, -7, 9007199254740992, 9007199254740993, 18446744073709551615, 2.0, 1e3, 02]";
    assert_int_equal(parse(&json, text, strlen(text), &cdp_json_header_limits), CDP_OK);
    for (int i = 0; i < 8; i++)
        if (cJSON_IsNumber(cJSON_GetArrayItem(json, i)) != (i < 3))
            fail_msg("entry %d of %s", i, text);
    cJSON_Delete(json);
}

static void test_write_string(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    cdp_json_write_string(to, "a\"\\\n\t\x01\xFFé\0z", 11);
    fclose(to);
    assert_string_equal(text, "a\\\"\\\\\\n\\t\\u0001\xEF\xBF\xBDé\\u0000z");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_getters),      cmocka_unit_test(test_whole_numbers),
        cmocka_unit_test(test_write_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
