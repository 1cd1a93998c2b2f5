/* The memory that control groups leave, on made-up trees of files.
 *
 * What it catches: a limit of a Slurm job that stands two groups above the process and is passed over, so
 * that the kernel kills what was planned to fit; cache taken for memory in use; "max" and version 1's huge
 * number taken for a limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/cgroup.h"
#include "tests/support/data.h"

static char root[512];

static void fresh_root(void) {
    static int number;
    snprintf(root, sizeof root, "%s/root%d", test_temp_dir(), number++);
}

static void put(const char *path, const char *text) {
    char command[1500], whole[1024];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    snprintf(command, sizeof command, "mkdir -p $(dirname '%s')", whole);
    assert_int_equal(system(command), 0);
    FILE *to = fopen(whole, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
}

static void test_no_limit(void **state) {
    (void)state;
    fresh_root();
    assert_true(cdp_cgroup_left(root) == UINT64_MAX); /* no /proc at all */
    put("proc/self/cgroup", "0::/\n");
    assert_true(cdp_cgroup_left(root) == UINT64_MAX);
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory.current", "123\n");
    assert_true(cdp_cgroup_left(root) == UINT64_MAX);
    put("proc/self/cgroup", "5:cpuset:/x\n4:memory:/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
    assert_true(cdp_cgroup_left(root) == UINT64_MAX);
    put("proc/self/cgroup", "garbage\n\n7\n::\n");
    assert_true(cdp_cgroup_left(root) == UINT64_MAX);
}

/* The job's limit stands above the step's group, in which the process is. */
static void test_version_2(void **state) {
    (void)state;
    fresh_root();
    put("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
    put("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
    put("sys/fs/cgroup/slurm/job_7/memory.max", "1000000\n");
    put("sys/fs/cgroup/slurm/job_7/memory.current", "300000\n");
    assert_int_equal(cdp_cgroup_left(root), 700000);
    put("sys/fs/cgroup/slurm/job_7/memory.stat", "anon 250000\ninactive_file 40000\nactive_file 10000\n");
    assert_int_equal(cdp_cgroup_left(root), 740000);
    put("sys/fs/cgroup/slurm/memory.max", "900000\n"); /* its other jobs use much */
    put("sys/fs/cgroup/slurm/memory.current", "800000\n");
    assert_int_equal(cdp_cgroup_left(root), 100000);
    put("sys/fs/cgroup/slurm/job_7/step_0/memory.high", "50000\n");
    assert_int_equal(cdp_cgroup_left(root), 50000);
    put("sys/fs/cgroup/slurm/memory.current", "1800000\n");
    assert_int_equal(cdp_cgroup_left(root), 0);
    put("proc/self/cgroup", "0::/slurm\n0::/slurm/job_70\n"); /* another job's limit is not ours */
    put("sys/fs/cgroup/slurm/memory.max", "max\n");
    assert_true(cdp_cgroup_left(root) == UINT64_MAX);
}

static void test_version_1(void **state) {
    (void)state;
    fresh_root();
    put("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/slurm/uid_0/job_7\n0::/\n");
    put("sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.limit_in_bytes", "5000000\n");
    put("sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.usage_in_bytes", "2000000\n");
    put("sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.stat",
        "inactive_file 0\ntotal_inactive_file 500000\n");
    put("sys/fs/cgroup/memory/slurm/uid_0/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(cdp_cgroup_left(root), 3500000);
}

/* The mount shows a container's own group as its root, the path is the host's, or leads out of the namespace.
 */
static void test_containers(void **state) {
    (void)state;
    static const char *const lines[] = {"0::/docker/0123456789abcdef\n", "0::/\n", "0::/../../other\n",
                                        "0::/../..\n"};
    fresh_root();
    put("sys/fs/cgroup/memory.max", "2000\n");
    put("sys/fs/cgroup/memory.current", "500\n");
    put("sys/fs/memory.max", "1\n"); /* above the mount: no group */
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        put("proc/self/cgroup", lines[i]);
        assert_int_equal(cdp_cgroup_left(root), 1500);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
