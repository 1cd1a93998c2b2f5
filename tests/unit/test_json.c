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
        {"{\"a\":\"no end\\", "without an end"},
        {"{\"a\":\"no end\\\"", "without an end"},
        {"{\"a\":1.5,\"b\":{\"z\":1,\"y\":2},\"a\":3}", "\"a\" appears twice"},
        {"[{\"a\":1},{\"a\":1}]", NULL},
        {"{\"a\":1,\"A\":2,\"\":3}", NULL},
        {"{\"\":1,\"\":2}", "appears twice"},
        {"{\"\\u0061\":1,\"a\":2}", "\"a\" appears twice"},
        {"{1:2}", "a number as a key"},
        {"{2.5 \n:1}", "byte 1: "},
        {"[-]", "without digits"},
        {"[+1]", "not JSON"},
        {"[.5]", "not JSON"},
        {"[0x10]", "not JSON"},
        {"[1e]", "without digits"},
        {"[1 2]", "not JSON"},
        {"[1-2]", "not JSON"},
        {"]]]][[[[", "not JSON"},
        {"// no comments\n{}", "not JSON"},
        {"{\"a\":\"\xE0\x9F\xBF\"}", "UTF-8"}, /* overlong */
        {"{\"a\":\"\xF0\x8F\xBF\xBF\"}", "UTF-8"},
        {"{\"a\":\"\xE2\x82\"}", "UTF-8"}, /* cut */
        {"{\"a\":\"\xC3\xA9\xEF\xBF\xBF\"}", NULL},
        {"{\"a\":\"\x7F\"}", NULL},
        {"{\"a\":\"\\ud800\"}", "not JSON"}, /* half a pair */
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
    const char *text = "[7, -7, 9007199254740992, 9007199254740993, 18446744073709551615, 2.0, 1e3, 02, -0]";
    assert_int_equal(parse(&json, text, strlen(text), &cdp_json_header_limits), CDP_OK);
    for (int i = 0; i < 9; i++)
        if (cJSON_IsNumber(cJSON_GetArrayItem(json, i)) != (i < 3))
            fail_msg("entry %d of %s", i, text);
    cJSON_Delete(json);
}

/* Without it numbers stay numbers, and each knows how it was written, wherever it stands in the tree. */
static void test_is_whole(void **state) {
    (void)state;
    cJSON *json = NULL;
    const char *text = "{\"a\": [1, 2.0, {\"b\": 3, \"c\": 1e3}], \"d\": [], \"e\": \"4.5, 6\", \"f\": -7,"
                       " \"g\": 9007199254740993, \"h\": 2.5, \"i\": 8, \"j\": -0, \"k\": true}";
    int64_t value = -1;
    assert_int_equal(parse(&json, text, strlen(text), &cdp_json_config_limits), CDP_OK);
    const cJSON *list = cdp_json_get(json, "a"), *inner = cJSON_GetArrayItem(list, 2);
    assert_true(cdp_json_is_whole(cJSON_GetArrayItem(list, 0)));
    assert_false(cdp_json_is_whole(cJSON_GetArrayItem(list, 1)));
    assert_true(cdp_json_is_whole(cdp_json_get(inner, "b")));
    assert_false(cdp_json_is_whole(cdp_json_get(inner, "c")));
    assert_true(cdp_json_is_whole(cdp_json_get(json, "f")));
    assert_true(cdp_json_is_whole(cdp_json_get(json, "i")));
    static const char *const no_whole[] = {"d", "e", "g", "h", "j", "k", "missing"};
    for (int i = 0; i < 7; i++)
        if (cdp_json_is_whole(cdp_json_get(json, no_whole[i])))
            fail_msg("%s is whole", no_whole[i]);
    assert_int_equal(cdp_json_int(inner, "f", "c", 0, 9999, &value), CDP_BAD_MODEL);
    assert_non_null(strstr(cdp_error_message(), "f: c is 1000 (not written as a whole number)"));
    assert_true(value == -1);
    assert_true(cJSON_IsNumber(cdp_json_get(inner, "c"))); /* still a number to those who want a double */
    cdp_error_clear();
    cJSON_Delete(json);
}

/* Many keys, in order and not: time grows with n log n, and the one that appears twice is found. */
static void test_many_keys(void **state) {
    (void)state;
    enum { N = 200000 };
    char *text = malloc((size_t)N * 16);
    for (int round = 0; round < 3; round++) {
        cJSON *json = NULL;
        size_t n = (size_t)sprintf(text, "{");
        for (int i = 0; i < N; i++) {
            const int key = round == 0 ? i : (int)((uint64_t)i * 7919 % N);
            n += (size_t)sprintf(text + n, "%s\"%06d\":1", i > 0 ? "," : "",
                                 round == 2 && i == N - 1 ? 77 : key);
        }
        n += (size_t)sprintf(text + n, "}");
        const cdp_status st = parse(&json, text, n, &cdp_json_header_limits);
        assert_int_equal(st, round == 2 ? CDP_BAD_MODEL : CDP_OK);
        if (round == 2)
            assert_non_null(strstr(cdp_error_message(), "\"000077\" appears twice"));
        cJSON_Delete(json);
    }
    free(text);
    cdp_error_clear();
}

/* Every prefix and every changed byte of a text: refused or parsed, never a crash, one line without control
 * bytes. */
static void test_mutants(void **state) {
    (void)state;
    const char text[] =
        "{\"a\": [1, -2.5e3, true, null, \"\\u00e9\\n\"], \"\xC3\xA9\": {\"b\": 0.5, \"c\": {}}}";
    char bytes[sizeof text];
    for (size_t i = 0; i < 2 * 256 * (sizeof text - 1); i++) {
        const size_t at = i / 512;
        cJSON *json = NULL;
        memcpy(bytes, text, sizeof text);
        bytes[at] = (char)(i % 256);
        const bool is_header = i / 256 % 2;
        const cdp_status st = parse(&json, bytes, sizeof text - 1,
                                    is_header ? &cdp_json_header_limits : &cdp_json_config_limits);
        assert_true((st == CDP_OK) == (json != NULL));
        assert_true(st == CDP_OK || st == CDP_BAD_MODEL);
        for (const char *c = cdp_error_message(); *c != '\0'; c++)
            assert_true((unsigned char)*c >= 0x20);
        cJSON_Delete(json);
    }
    for (size_t n = 0; n < sizeof text - 1; n++) {
        cJSON *json = NULL;
        assert_int_equal(parse(&json, text, n, &cdp_json_config_limits), CDP_BAD_MODEL);
        assert_null(json);
    }
    cdp_error_clear();
}

static void test_write_string(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    cdp_json_write_quoted(to, "a\"\\\n\t\x01\xFFé\0z", 11);
    fclose(to);
    assert_string_equal(text, "\"a\\\"\\\\\\n\\t\\u0001\xEF\xBF\xBDé\\u0000z\"");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_getters),  cmocka_unit_test(test_whole_numbers),
        cmocka_unit_test(test_is_whole), cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_mutants),  cmocka_unit_test(test_write_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
