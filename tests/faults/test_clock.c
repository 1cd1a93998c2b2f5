/* The wall clock is set an hour forth and back while a job runs: nothing happens. Everything that is measured
 * or waited for goes by the monotonic clock; the wall clock only dates what people read.
 *
 * What it catches: a watchdog, a beat, a lock or a pause on the wall clock, a speed computed from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "planner/json.h"
#include "tests/support/batch.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

enum { N_LINES = 12 };

static char input[512];

static int setup(void **state) {
    (void)state;
    snprintf(input, sizeof input, "%s/in.jsonl", test_temp_dir());
    FILE *to = fopen(input, "w");
    for (int i = 0; i < N_LINES; i++)
        fprintf(to, "{\"id\":\"c%d\",\"prompt\":\"JULIET:\\n%d\",\"max_new_tokens\":%d}\n", i, i, 20 + i);
    return fclose(to);
}

/* Long enough for many looks of the watchdog and several of its limits. */
static cJSON *run_under(const char *preload, int np, const char *output, const char *status) {
    test_run *run = batch_open(np, 60, input, output);
    test_run_add(run, "--max-batch", "4", "--step-timeout", "1", "--status", status, "--json", NULL);
    test_run_env(run, "CDPIPE_FAULT=0:step:slow:15:1");
    if (preload != NULL) {
        char variable[1024];
        snprintf(variable, sizeof variable, "LD_PRELOAD=%s", preload);
        test_run_env(run, variable);
        test_run_env(run,
                     "ASAN_OPTIONS=verify_asan_link_order=0"); /* sanitizers want to be the first library */
    }
    test_run_go(run);
    cJSON *result = cJSON_Parse(run->out);
    if (run->exit_code != 0 || result == NULL)
        fail_msg("np %d: exit %d\n%s", np, run->exit_code, run->err);
    const double run_s = golden_get(golden_get(result, "timing"), "run_s")->valuedouble;
    if (run_s < 0.3 || run_s > run->elapsed_s)
        fail_msg("np %d: the run says it took %.1f s of %.1f s", np, run_s, run->elapsed_s);
    test_run_close(run);
    cJSON_Delete(result);
    return batch_records(output);
}

/* How far the date in the status file is from now. */
static double off_s(const char *status) {
    static const cdp_json_limits limits = {
        .max_bytes = 1 << 16, .max_nodes = 100, .max_depth = 4, .fault_code = CDP_BAD_DATA};
    cJSON *root = NULL;
    assert_int_equal(cdp_json_read(&root, status, &limits), CDP_OK);
    const double at = golden_get(root, "time")->valuedouble;
    cJSON_Delete(root);
    return at > (double)time(NULL) ? at - (double)time(NULL) : (double)time(NULL) - at;
}

static void test_jumps(void **state) {
    (void)state;
    char status[512];
    snprintf(status, sizeof status, "%s/status.json", test_temp_dir());
    cJSON *expected = run_under(NULL, 1, batch_file(test_temp_dir(), "calm.jsonl"), status);
    assert_true(off_s(status) < 600);
    for (int np = 1; np <= 3; np++) {
        char out[32];
        snprintf(out, sizeof out, "jumps%d.jsonl", np);
        cJSON *records = run_under(TEST_CLOCK_JUMPS, np, batch_file(test_temp_dir(), out), status);
        if (off_s(status) < 1800)
            fail_msg("np %d: the clock did not jump", np);
        batch_check_same(expected, records, "the clock jumps");
        cJSON_Delete(records);
    }
    cJSON_Delete(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_jumps)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
