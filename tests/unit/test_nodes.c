/* Memory on the node of its worker. What it catches: a share given to another node, bytes that nobody is
 * asked about, a map of nodes misread, weights that are not placed at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cores.h"
#include "kernels/cpu/nodes.h"
#include "kernels/cpu/queue.h"
#include "kernels/device.h"
#include "tests/support/device.h"
#include "tests/unit/folders.h"

static const char *root;

static void put(const char *name, const char *text) {
    write_deep(root, name, text);
}

/* Two nodes, number 1 left out: 0 has cpus 0-1 and 6, 2 has 2-5. */
static void put_nodes(void) {
    root = new_folder();
    put("sys/devices/system/node/online", "0,2\n");
    put("sys/devices/system/node/node0/cpulist", "0-1,6\n");
    put("sys/devices/system/node/node1/cpulist", "3\n"); /* not online */
    put("sys/devices/system/node/node2/cpulist", "2-5\n");
}

static cpu_set_t cpus_from(int first, int n) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu = first; cpu < first + n; cpu++)
        CPU_SET((size_t)cpu, &set);
    return set;
}

static void test_map(void **state) {
    (void)state;
    int node_of[7] = {0};
    const int expected[7] = {0, 0, 2, 2, 2, 2, 0};
    const cpu_set_t all = cpus_from(0, 7), second = cpus_from(2, 4);
    put_nodes();
    assert_true(cdp_nodes_read(node_of, 7, &all, root));
    assert_memory_equal(node_of, expected, sizeof expected);
    assert_false(cdp_nodes_read(node_of, 4, &second, root)); /* one node has all */
    assert_false(cdp_nodes_read(node_of, 7, &second, root)); /* fewer processors than workers */
    assert_false(cdp_nodes_read(node_of, 7, &all, new_folder()));
}

/* What was asked for. */
static struct {
    char *begin;
    size_t n_bytes;
    int node;
} asked[8];
static int n_asked;

static void note(void *begin, size_t n_bytes, int node) {
    asked[n_asked].begin = begin;
    asked[n_asked].n_bytes = n_bytes;
    asked[n_asked++].node = node;
}

static void test_shares(void **state) {
    (void)state;
    const int node_of[4] = {0, 0, 3, 0};
    char memory[1003];
    n_asked = 0;
    cdp_nodes_place(memory, sizeof memory, node_of, 4, note);
    assert_int_equal(n_asked, 3);
    char *at = memory;
    const int nodes[3] = {0, 3, 0};
    const size_t ends[3] = {501, 752, 1003}; /* 1003 * 2/4, 3/4, 4/4 */
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(asked[i].begin, at);
        assert_int_equal(asked[i].node, nodes[i]);
        at += asked[i].n_bytes;
        assert_int_equal(at - memory, ends[i]);
    }
}

/* The policy of the page at `address`: -1 where the kernel does not tell. */
static int policy_at(const void *address, unsigned long *nodes) {
    enum { OF_ADDRESS = 2, BITS = 1024 };
    int policy = -1;
    unsigned long mask[BITS / (8 * sizeof(unsigned long))] = {0};
    if (syscall(SYS_get_mempolicy, &policy, mask, (unsigned long)BITS + 1, address, OF_ADDRESS) != 0)
        return -1;
    *nodes = mask[0];
    return policy;
}

enum { N_ITEMS = 40 };

static void count_job(const void *args, const cdp_turn *turn) {
    atomic_int *n_done = *(atomic_int *const *)args;
    int begin, end;
    while (cdp_turn_take(turn, N_ITEMS, 3, &begin, &end))
        for (int item = begin; item < end; item++)
            n_done[item] += turn->n_ranges;
}

/* Jobs one after the other, each worker with a range of its own: every item once a job. */
static void check_jobs(cdp_device *device) {
    enum { JOBS = 1000 };
    static atomic_int n_done[N_ITEMS];
    atomic_int *const args = n_done;
    for (int job = 0; job < JOBS; job++)
        assert_int_equal(cdp_cpu_submit(device, count_job, &args, sizeof args), CDP_OK);
    cdp_device_drain(device);
    for (int item = 0; item < N_ITEMS; item++)
        assert_int_equal(n_done[item], 2 * JOBS);
}

/* On this host, by a map that puts its second processor on a node it does not have: the first worker's half
 * asks for node 0, the second half stays as it was, and all of it can be written. */
static void test_device(void **state) {
    (void)state;
    enum { N_BYTES = 8 << 20, DEFAULT = 0, PREFERRED = 1 };
    char list[32];
    unsigned long nodes = 0;
    cdp_cores mine;
    cpu_set_t two;
    int found[2], n = 0;
    cdp_cores_read(&mine, "");
    CPU_ZERO(&two);
    for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
        if (CPU_ISSET((size_t)cpu, &mine.mask)) {
            CPU_SET((size_t)cpu, &two);
            found[n++] = cpu;
        }
    if (n < 2 || policy_at(list, &nodes) < 0)
        skip();
    root = new_folder();
    put("sys/devices/system/node/online", "0,1000\n");
    snprintf(list, sizeof list, "%d\n", found[0]);
    put("sys/devices/system/node/node0/cpulist", list);
    snprintf(list, sizeof list, "%d\n", found[1]);
    put("sys/devices/system/node/node1000/cpulist", list);
    char *memory = NULL;
    cdp_device *device =
        test_cpu((cdp_cpu_options){.n_threads = 2, .tier = CDP_TIER_PLAIN, .cpus = &two, .root = root});
    assert_int_equal(cdp_device_alloc_unwritten(device, (void **)&memory, N_BYTES), CDP_OK);
    assert_int_equal(policy_at(memory + N_BYTES / 4, &nodes), PREFERRED);
    assert_int_equal(nodes, 1);
    assert_int_equal(policy_at(memory + N_BYTES / 4 * 3, &nodes), DEFAULT);
    memset(memory, 1, N_BYTES);
    check_jobs(device);
    cdp_device_free(device, memory);
    cdp_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_map), cmocka_unit_test(test_shares),
                                       cmocka_unit_test(test_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
