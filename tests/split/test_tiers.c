/* What is said where the matrix unit is refused, and where ranks have unequal processors. The program is
 * twin_cdpipe (tests/kernels/twin_host.c), whose kernel answers as TWIN_REFUSED says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

#if defined(TEST_TWIN_BIN)
#define JOB                                                                                                  \
    "score", "--model", test_path("tests/golden/models/qwen3"), "--prompt-ids", "5,6,7,8,9", "--device", "cpu"

/* The tier that is left where the tiles are refused. */
static const char *lower(void) {
    const cdp_cpu_tier best = cdp_cpu_best_tier();
    return cdp_cpu_tier_name(best < CDP_TIER_AVX512 ? best : CDP_TIER_AVX512);
}

static void demand_text(const test_run *run, const char *text) {
    if (strstr(run->err, text) == NULL)
        fail_msg("\"%s\" is not in:\n%s", text, run->err);
}

static void test_refused(void **state) {
    (void)state;
    test_run *run = test_run_open(30.0);
    test_run_env(run, "TWIN_REFUSED=1");
    test_run_add(run, TEST_TWIN_BIN, JOB, "--cpu-tier", "amx", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, CDP_UNAVAILABLE);
    demand_text(run, "has AMX, but its tiles are refused");
    demand_text(run, lower());
    test_run_close(run);
}

static void test_note(void **state) {
    (void)state;
    test_run *run = test_run_open(30.0);
    test_run_env(run, "TWIN_REFUSED=1");
    test_run_add(run, TEST_TWIN_BIN, JOB, NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    demand_text(run, "this processor has AMX, but its tiles are refused");
    test_run_close(run);
}

/* One rank has the unit, one is refused: both take the lower tier, the plan says so, and so do the bits. */
static void test_unequal(void **state) {
    (void)state;
    test_run *run = test_run_open(60.0);
    test_run_mpirun(run, 2);
    /* In Open MPI 5, mpirun's own -x is for all ranks, and the ':' between two programs may crash it. */
    test_run_add(run, "sh", "-c",
                 "[ $OMPI_COMM_WORLD_RANK = 0 ] || export TWIN_REFUSED=1; exec \"$0\" \"$@\"", NULL);
    test_run_add(run, TEST_TWIN_BIN, JOB, "--threads", "1", "--json", NULL);
    test_run_go(run);
    char note[128], label[64];
    snprintf(note, sizeof note, "not every rank has amx: all compute with %s", lower());
    snprintf(label, sizeof label, "CPU 1 thread, %s", lower());
    demand_text(run, note);
    cJSON *json = cJSON_Parse(run->out);
    assert_non_null(json);
    const cJSON *stage;
    cJSON_ArrayForEach(stage, golden_get(golden_get(json, "plan"), "stages"))
        assert_string_equal(golden_get(stage, "label")->valuestring, label);
    const char *words[] = {JOB, "--cpu-tier", lower(), NULL};
    cJSON *alone = golden_run(1, words);
    assert_string_equal(golden_get(json, "logits_hash")->valuestring,
                        golden_get(alone, "logits_hash")->valuestring);
    cJSON_Delete(alone);
    cJSON_Delete(json);
    test_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_note),
        cmocka_unit_test(test_unequal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void) {
    printf("the matrix unit is one of x86 processors\n");
    return 77;
}
#endif
