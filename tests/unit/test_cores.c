/* Which cores a rank computes on. What it catches: a core dealt out twice or not at all, a hardware thread
 * taken for a core, a mask or a quota that is not obeyed, a cache counted for each of its processors, workers
 * that run elsewhere than they were pinned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "kernels/cores.h"
#include "kernels/cpu/queue.h"
#include "launcher/place.h"
#include "tests/support/device.h"
#include "tests/unit/folders.h"

/* "0-3,8" */
static cpu_set_t set_of(const char *list) {
    cpu_set_t set;
    CPU_ZERO(&set);
    int low, high, used;
    for (const char *at = list; sscanf(at, "%d%n", &low, &used) == 1; at += *at == ',' ? 1 : 0) {
        at += used;
        high = low;
        if (sscanf(at, "-%d%n", &high, &used) == 1)
            at += used;
        for (int cpu = low; cpu <= high; cpu++)
            CPU_SET((size_t)cpu, &set);
    }
    return set;
}

enum { MAX_RANKS = 6 };
typedef struct share_case {
    const char *name;
    int n_cores; /* with two hardware threads each where has_pairs: cpu and cpu + n_cores */
    bool has_pairs;
    const char *mask[MAX_RANKS]; /* NULL behind the last rank */
    int quota, quota_ranks;      /* the first quota_ranks ranks share a quota */
    int n[MAX_RANKS];
    const char *cpus[MAX_RANKS]; /* NULL: nobody owns cores */
} share_case;

static const share_case cases[] = {
    {"alone", 8, false, {"0-7"}, 0, 0, {8}, {"0-7"}},
    {"one core", 1, false, {"0"}, 0, 0, {1}, {"0"}},
    {"taskset", 8, false, {"2,5"}, 0, 0, {2}, {"2,5"}},
    {"two ranks, one mask", 8, false, {"0-7", "0-7"}, 0, 0, {4, 4}, {"0-3", "4-7"}},
    {"three ranks, one mask", 8, false, {"0-7", "0-7", "0-7"}, 0, 0, {3, 3, 2}, {"0-2", "3-5", "6-7"}},
    {"two ranks on two", 2, false, {"0-1", "0-1"}, 0, 0, {1, 1}, {"0", "1"}},
    {"three ranks on two", 2, false, {"0-1", "0-1", "0-1"}, 0, 0, {1, 1, 1}, {NULL}},
    {"bound to parts", 8, false, {"0-3", "4-7"}, 0, 0, {4, 4}, {"0-3", "4-7"}},
    {"bound to unequal parts", 8, false, {"0-1", "2-7"}, 0, 0, {2, 6}, {"0-1", "2-7"}},
    {"bound to one core each", 8, false, {"3", "4"}, 0, 0, {1, 1}, {"3", "4"}},
    {"bound to the same core", 8, false, {"3", "3"}, 0, 0, {1, 1}, {NULL}},
    {"two a socket",
     8,
     false,
     {"0-3", "0-3", "4-7", "4-7"},
     0,
     0,
     {2, 2, 2, 2},
     {"0-1", "2-3", "4-5", "6-7"}},
    {"by turns on sockets",
     8,
     false,
     {"0-3", "4-7", "0-3", "4-7"},
     0,
     0,
     {2, 2, 2, 2},
     {"0-1", "4-5", "2-3", "6-7"}},
    {"one mask inside another", 4, false, {"0-3", "0"}, 0, 0, {3, 1}, {"1-3", "0"}},
    {"masks that overlap", 4, false, {"0-2", "1-3"}, 0, 0, {2, 2}, {"0-1", "2-3"}},
    {"hardware threads", 4, true, {"0-7"}, 0, 0, {4}, {"0-3"}},
    {"two ranks, hardware threads", 4, true, {"0-7", "0-7"}, 0, 0, {2, 2}, {"0-1", "2-3"}},
    {"the second threads only", 4, true, {"4-7"}, 0, 0, {4}, {"4-7"}},
    {"whole cores of two ranks", 4, true, {"0-1,4-5", "2-3,6-7"}, 0, 0, {2, 2}, {"0-1", "2-3"}},
    {"two ranks on the threads of a core", 4, true, {"0", "4"}, 0, 0, {1, 1}, {NULL}},
    {"quota", 8, false, {"0-7"}, 3, 1, {3}, {NULL}},
    {"quota larger than the mask", 4, false, {"0-3"}, 6, 1, {4}, {NULL}},
    {"two ranks in one quota", 8, false, {"0-7", "0-7"}, 6, 2, {3, 3}, {NULL}},
    {"an odd quota", 8, false, {"0-7", "0-7"}, 3, 2, {2, 1}, {NULL}},
    {"more ranks than quota", 8, false, {"0-7", "0-7", "0-7"}, 2, 3, {1, 1, 1}, {NULL}},
    {"a quota of one rank", 8, false, {"0-7", "0-7"}, 1, 1, {1, 7}, {NULL}},
};

/* Pairs are cpu and cpu + n_cores, as most processors count. */
static void fill_topology(int *core_of, int n_cores, bool has_pairs) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        core_of[cpu] = has_pairs && cpu < 2 * n_cores ? cpu % n_cores : cpu;
}

static void check_case(const share_case *c) {
    cdp_cores ranks[MAX_RANKS] = {0};
    int core_of[CPU_SETSIZE], n_ranks = 0;
    fill_topology(core_of, c->n_cores, c->has_pairs);
    for (; n_ranks < MAX_RANKS && c->mask[n_ranks] != NULL; n_ranks++) {
        ranks[n_ranks].mask = set_of(c->mask[n_ranks]);
        ranks[n_ranks].quota = n_ranks < c->quota_ranks ? c->quota : 0;
        ranks[n_ranks].quota_of = 7;
    }
    for (int i = 0; i < n_ranks; i++) {
        cdp_core_share share;
        cdp_cores_share(&share, ranks, n_ranks, i, core_of);
        const cpu_set_t expected = set_of(c->cpus[0] != NULL ? c->cpus[i] : c->mask[i]);
        if (share.n != c->n[i] || share.is_own != (c->cpus[0] != NULL) || !CPU_EQUAL(&share.cpus, &expected))
            fail_msg("%s: rank %d got %d cores (%s own), %d in its set, expected %d", c->name, i, share.n,
                     share.is_own ? "its" : "not its", CPU_COUNT(&share.cpus), c->n[i]);
    }
}

static void test_share(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(&cases[i]);
}

/* --threads: what a rank of `mask` beside another one's is pinned to. */
typedef struct ask_case {
    const char *name;
    int n_cores;
    bool has_pairs;
    const char *mask[2]; /* of the rank, and of another one on this host or NULL */
    int quota, n_threads;
    const char *cpus; /* NULL: not pinned */
} ask_case;

static const ask_case ask_cases[] = {
    {"as many as cores", 8, false, {"0-7"}, 0, 8, "0-7"},
    {"fewer", 8, false, {"0-7"}, 0, 3, "0-2"},
    {"one", 8, false, {"4-7"}, 0, 1, "4"},
    {"fewer, cores of two threads", 4, true, {"0-7"}, 0, 3, "0-2"},
    {"all hardware threads", 4, true, {"0-7"}, 0, 8, "0-7"},
    {"some hardware threads", 4, true, {"0-7"}, 0, 5, "0-4"},
    {"more than there are", 4, true, {"0-7"}, 0, 9, NULL},
    {"more than cores", 4, false, {"0-3"}, 0, 5, NULL},
    {"the mask has one thread of each core", 4, true, {"0-3"}, 0, 5, NULL},
    {"the mask has one pair", 4, true, {"1-3,5"}, 0, 4, "1-3,5"},
    {"the second threads of its own cores", 4, true, {"0-7", "0-7"}, 0, 4, "0-1,4-5"},
    {"not those of the other rank", 4, true, {"0-7", "0-7"}, 0, 5, NULL},
    {"fewer than its half", 8, false, {"0-7", "0-7"}, 0, 2, "0-1"},
    {"nobody owns cores", 1, false, {"0", "0"}, 0, 2, NULL},
    {"in a quota", 8, false, {"0-7"}, 4, 2, NULL},
};

static void check_ask(const ask_case *c) {
    cdp_cores ranks[2] = {{.quota = c->quota}};
    int core_of[CPU_SETSIZE], n_ranks = 0;
    cdp_core_share share;
    fill_topology(core_of, c->n_cores, c->has_pairs);
    for (; n_ranks < 2 && c->mask[n_ranks] != NULL; n_ranks++)
        ranks[n_ranks].mask = set_of(c->mask[n_ranks]);
    cdp_cores_share(&share, ranks, n_ranks, 0, core_of);
    cdp_cores_ask(&share, c->n_threads, &ranks[0].mask);
    const cpu_set_t expected = set_of(c->cpus != NULL ? c->cpus : c->mask[0]);
    if (share.n != c->n_threads || share.is_own != (c->cpus != NULL) || !CPU_EQUAL(&share.cpus, &expected))
        fail_msg("%s: %d threads (%s own) on %d processors", c->name, share.n,
                 share.is_own ? "its" : "not its", CPU_COUNT(&share.cpus));
}

static void test_ask(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ask_cases / sizeof *ask_cases; i++)
        check_ask(&ask_cases[i]);
}

/* --threads of a run goes the same way. */
static void test_place(void **state) {
    (void)state;
    cdp_cores mine;
    cdp_core_share share;
    const cdp_options options = {.threads = 1};
    cdp_cores_read(&mine, "");
    assert_int_equal(cdp_place_cores(&share, &options, NULL), CDP_OK);
    assert_int_equal(share.n, 1);
    assert_int_equal(share.is_own, mine.quota == 0);
    assert_int_equal(CPU_COUNT(&share.cpus), mine.quota == 0 ? 1 : CPU_COUNT(&mine.mask));
}

/* 1024 processors, as many ranks as a large host has: it must not take long. */
static void test_large(void **state) {
    (void)state;
    enum { RANKS = 96 };
    static cdp_cores ranks[RANKS];
    int core_of[CPU_SETSIZE], sum = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        core_of[cpu] = cpu % (CPU_SETSIZE / 2);
    for (int i = 0; i < RANKS; i++)
        ranks[i].mask = set_of("0-1023");
    for (int i = 0; i < RANKS; i++) {
        cdp_core_share share;
        cdp_cores_share(&share, ranks, RANKS, i, core_of);
        assert_in_range(share.n, 5, 6);
        sum += share.n;
    }
    assert_int_equal(sum, CPU_SETSIZE / 2);
}

/* Quotas ------------------------------------------------------------------------------------------------- */

static const char *root;

static void put(const char *name, const char *text) {
    write_deep(root, name, text);
}

static int quota_of_root(void) {
    cdp_cores cores;
    cdp_cores_read(&cores, root);
    return cores.quota;
}

static void test_quota(void **state) {
    (void)state;
    root = new_folder();
    assert_int_equal(quota_of_root(), 0); /* nothing is there */
    put("proc/self/cgroup", "0::/\n");
    put("sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(quota_of_root(), 0);
    put("sys/fs/cgroup/cpu.max", "250000 100000\n");
    assert_int_equal(quota_of_root(), 2);
    put("sys/fs/cgroup/cpu.max", "50000 100000\n"); /* half a core computes with one thread */
    assert_int_equal(quota_of_root(), 1);
    put("sys/fs/cgroup/cpu.max", "800000 100000\n");
    put("proc/self/cgroup", "0::/job.slice/step\n");
    put("sys/fs/cgroup/job.slice/cpu.max", "400000 100000\n");
    put("sys/fs/cgroup/job.slice/step/cpu.max", "max 100000\n");
    assert_int_equal(quota_of_root(), 4); /* the tightest on the way up */
    put("proc/self/cgroup", "0::/job.slice/not/seen/from/here\n");
    assert_int_equal(quota_of_root(), 4);
    put("proc/self/cgroup", "12:cpuset:/a\n4:cpu,cpuacct:/docker/1234\n0::/\n"); /* version 1 beside 2 */
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(quota_of_root(), 3);
    put("sys/fs/cgroup/cpu/docker/1234/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(quota_of_root(), 3);
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(quota_of_root(), 0);
}

/* Caches ------------------------------------------------------------------------------------------------ */

static void test_caches(void **state) {
    (void)state;
    char name[128];
    const cpu_set_t all = set_of("0-3"), half = set_of("2-3");
    root = new_folder();
    assert_int_equal(cdp_cores_cache_bytes(&all, root), 0); /* nothing is said */
    for (int cpu = 0; cpu < 4; cpu++) {
        snprintf(name, sizeof name, "sys/devices/system/cpu/cpu%d/cache/index0/size", cpu);
        put(name, "32K\n");
        snprintf(name, sizeof name, "sys/devices/system/cpu/cpu%d/cache/index1/size", cpu);
        put(name, cpu < 2 ? "32768K\n" : "16M\n");
        snprintf(name, sizeof name, "sys/devices/system/cpu/cpu%d/cache/index1/shared_cpu_list", cpu);
        put(name, cpu < 2 ? "0-1\n" : "2-3\n");
    }
    assert_int_equal(cdp_cores_cache_bytes(&all, root), 48 << 20);
    assert_int_equal(cdp_cores_cache_bytes(&half, root), 16 << 20);
}

/* This host ---------------------------------------------------------------------------------------------- */

typedef struct seen_args {
    cpu_set_t *allowed; /* (n_workers) */
} seen_args;

static void see_job(const void *args, const cdp_turn *turn) {
    cpu_set_t *allowed = &((const seen_args *)args)->allowed[turn->worker];
    sched_getaffinity(0, sizeof *allowed, allowed);
}

static void test_pinned(void **state) {
    (void)state;
    cdp_cores mine;
    cdp_core_share share;
    static cpu_set_t allowed[CPU_SETSIZE];
    int core_of[CPU_SETSIZE];
    cdp_cores_read(&mine, "");
    mine.quota = 0;
    cdp_cores_topology(core_of, &mine.mask, "");
    cdp_cores_share(&share, &mine, 1, 0, core_of);
    assert_true(share.is_own);
    cdp_device *device =
        test_cpu((cdp_cpu_options){.n_threads = share.n, .tier = CDP_TIER_PLAIN, .cpus = &share.cpus});
    const seen_args args = {allowed};
    assert_int_equal(cdp_cpu_submit(device, see_job, &args, sizeof args), CDP_OK);
    cdp_device_drain(device);
    cdp_device_close(device);
    cpu_set_t seen;
    CPU_ZERO(&seen);
    for (int i = 0; i < share.n; i++) {
        assert_int_equal(CPU_COUNT(&allowed[i]), 1);
        CPU_OR(&seen, &seen, &allowed[i]);
    }
    assert_true(CPU_EQUAL(&seen, &share.cpus)); /* one worker on each */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_share), cmocka_unit_test(test_ask),
                                       cmocka_unit_test(test_place), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_quota), cmocka_unit_test(test_caches),
                                       cmocka_unit_test(test_pinned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
