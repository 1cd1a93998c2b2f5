/* A memory limit around the run, as Slurm and containers set it: what does not fit is refused with 69 before
 * anything is loaded, and nobody is killed without a word.
 *
 * The limit is shown to the run by files in a mount namespace of its own; which files count is unit.cgroup's.
 *
 * What it catches: a plan made with memory that the limit takes away, ranks of one host that each take all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/golden.h"

static const char show_limit[] = "mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory && echo "
                                 "$1 >/sys/fs/cgroup/memory.max && "
                                 "echo 1000000 >/sys/fs/cgroup/memory.current && shift && exec \"$@\"";

static test_run *open_limited(const char *limit) {
    test_run *run = test_run_open(30.0);
    test_run_add(run, "unshare", "-m", "sh", "-c", show_limit, "sh", limit, NULL);
    return run;
}

static bool may_mount(void) {
    test_run *run = open_limited("1");
    test_run_add(run, "true", NULL);
    test_run_go(run);
    const bool may = run->exit_code == 0;
    if (!may)
        printf("skipped: no right to mount in a namespace of one's own: %s", run->err);
    test_run_close(run);
    return may;
}

static test_run *generate(const char *limit, int np) {
    test_run *run = open_limited(limit);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_BIN, "--model", test_path("examples/shakespeare"), "--prompt-ids", "1179,37",
                 "--device", "cpu", "--threads", "1", "--max-new-tokens", "2", "--temperature", "0", "--json",
                 NULL);
    return run;
}

static void test_free_bytes(void **state) {
    (void)state;
    test_run *run = open_limited("901000000");
    test_run_add(run, CDPIPE_BIN, "devices", "--json", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    assert_non_null(strstr(run->out, "\"free_bytes\": 900000000}"));
    test_run_close(run);
}

/* The ranks of a host share what the limit leaves. */
static void test_shared(void **state) {
    (void)state;
    for (int np = 1; np <= 3; np++) {
        test_run *run = generate("901000000", np);
        test_run_go(run);
        cJSON *result = cJSON_Parse(run->out);
        if (run->exit_code != 0 || result == NULL)
            fail_msg("np %d: exit %d\n%s", np, run->exit_code, run->err);
        const cJSON *stage, *stages = golden_get(golden_get(result, "plan"), "stages");
        assert_int_equal(cJSON_GetArraySize(stages), np);
        cJSON_ArrayForEach(stage, stages)
            assert_int_equal((int)golden_get(stage, "free_bytes")->valuedouble, 900000000 / np);
        cJSON_Delete(result);
        test_run_close(run);
    }
}

/* Refused in one line; a budget that asks for more than the limit leaves is refused, too. */
static void test_refused(void **state) {
    (void)state;
    for (int np = 1; np <= 3; np++)
        for (int asks = 0; asks < 2; asks++) {
            test_run *run = generate("31000000", np);
            if (asks)
                test_run_add(run, "--max-gpu-memory", "1GiB", NULL);
            test_run_go(run);
            const char *error = strstr(run->err, "cdpipe: error:");
            const char *says = asks ? "free: try a smaller --ctx" : "does not fit";
            if (run->exit_code != 69 || error == NULL || strstr(error, says) == NULL ||
                strstr(error + 1, "cdpipe: error:") != NULL)
                fail_msg("np %d: exit %d, expected 69 and one line with \"%s\"\n%s", np, run->exit_code, says,
                         run->err);
            assert_int_equal(test_run_left(run), 0);
            test_run_close(run);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_bytes),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_refused),
    };
    return may_mount() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
