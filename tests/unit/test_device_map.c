/* Device maps from files: what is taken, and what is refused by name. */
#include "planner/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"

/* A model of four layers on three ranks. */
static cdp_status read_map(const char *text, int *counts) {
    char path[1024];
    snprintf(path, sizeof path, "%s/map.json", test_temp_dir());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    cdp_error_clear();
    return cdp_device_map_read(counts, 3, 4, path);
}

#define L(n, where) "\"model.layers." #n "\": " #where

static void test_maps_taken(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int counts[3];
    } rows[] = {
        {"{" L(0, 0) "," L(1, 0) "," L(2, 1) "," L(3, 2) "}", {2, 1, 1}},
        {"{" L(3, 2) "," L(1, 0) "," L(2, 0) "," L(0, 0) "}", {3, 0, 1}}, /* order of keys means nothing */
        {"{" L(0, "0") "," L(1, "cuda:1") "," L(2, "cuda:1") "," L(3, "2") "}", {1, 2, 1}},
        {"{\"\": 0}", {4, 0, 0}},
        {"{\"model\": 1, \"lm_head\": 1}", {0, 4, 0}},
        {"{\"model.layers\": 2, \"model.embed_tokens\": 0}", {0, 0, 4}},
        {"{\"model.layers.0.self_attn\": 0, \"model.layers.0.mlp\": 0," L(1, 0) "," L(2, 0) "," L(3, 1) "}",
         {3, 1, 0}},
        {"{\"device_map\": {\"\": 1}, \"policy\": \"auto\"}", {0, 4, 0}},
        {"{\"model.norm\": \"disk\", \"model.rotary_emb\": 7, \"model.layers\": 0}", {4, 0, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int counts[3];
        if (read_map(rows[i].text, counts) != CDP_OK)
            fail_msg("%s: %s", rows[i].text, cdp_error_message());
        assert_memory_equal(counts, rows[i].counts, sizeof counts);
    }
}

static void test_maps_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *holds;
    } rows[] = {
        {"{" L(0, 0) "," L(1, 0) "," L(3, 2) "}", "layer 2 is missing"},
        {"{}", "layer 0 is missing"},
        {"{" L(0, 0) "," L(1, 1) "," L(2, 0) "," L(3, 2) "}", "layer 2 is on GPU 0 behind layer 1 on GPU 1"},
        {"{" L(0, 0) "," L(1, 0) "," L(2, 1) "," L(3, 3) "}",
         "\"model.layers.3\" is on 3, expected a GPU from 0 to 2"},
        {"{\"\": \"cpu\"}", "is on cpu"},
        {"{\"\": \"disk\"}", "is on disk"},
        {"{\"\": \"cuda:\"}", "is on cuda:"},
        {"{\"\": -1}", "is on -1"},
        {"{\"\": 0.5}", "is on 0.5"},
        {"{\"\": null}", "is on no number"},
        {"{\"\": [0]}", "is on no number"},
        {"{\"\": \"a\\nb\"}", "is on a\\x0Ab"},
        {"{\"model.layers\": 0," L(4, 0) "}", "the model has layers 0 to 3"},
        {"{\"model.layers\": 0," L(99999999999999999999, 0) "}", "the model has layers 0 to 3"},
        {"{\"model.layers\": 0," L(2, 1) "}", "layer 2 is on GPU 0 and on GPU 1"},
        {"{\"model.layers.0.mlp\": 0, \"model.layers.0.self_attn\": 1}", "layer 0 is on GPU 0 and on GPU 1"},
        {"{\"model.layers.-1\": 0}", "layer 0 is missing"}, /* names no layer */
        {"{\"model.layers.0x\": 0}", "layer 0 is missing"},
        {"{\"model.layers. 0\": 0}", "layer 0 is missing"},
        {"{\"model.layers.\": 0}", "layer 0 is missing"},
        {"{\"layers.0\": 0}", "layer 0 is missing"},
        {"[0, 0, 1, 2]", "expected an object"},
        {"7", "expected an object"},
        {"{\"\": 0", "map.json"},
        {"{\"\": 0, \"\": 1}", "map.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int counts[3];
        const cdp_status st = read_map(rows[i].text, counts);
        if (st != CDP_BAD_MODEL || strstr(cdp_error_message(), rows[i].holds) == NULL)
            fail_msg("%s: %d \"%s\", expected \"%s\"", rows[i].text, st, cdp_error_message(), rows[i].holds);
        assert_non_null(strstr(cdp_error_message(), "map.json"));
    }
    int counts[3];
    cdp_error_clear();
    assert_int_equal(cdp_device_map_read(counts, 3, 4, "/nowhere/map.json"), CDP_NO_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maps_taken),
        cmocka_unit_test(test_maps_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
