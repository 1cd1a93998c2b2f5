/* How a job's items are shared out among workers. What it catches: an item done twice or not at all, in
 * whatever order workers come and whoever never comes; a worker that leaves its own range while there is work
 * in it; a count that is not as it was at the next job.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

enum { MAX_WORKERS = 7, MAX_ITEMS = 300 };

typedef struct scene {
    cdp_taken taken[MAX_WORKERS];
    int n_workers, n_items, grain;
    int n_done[MAX_ITEMS];
    bool has_left[MAX_WORKERS]; /* it has been given an item of another's range */
} scene;

static int owner_of(const scene *s, int item) {
    const int n = (s->n_items + s->grain - 1) / s->grain;
    int worker = 0;
    while (cdp_range_begin(n, worker + 1, s->n_workers) <= item / s->grain)
        worker++;
    return worker;
}

/* False when the worker finds nothing more. */
static bool take(scene *s, int worker) {
    const cdp_turn turn = {s->taken, worker, s->n_workers, s->n_workers};
    int begin, end;
    if (!cdp_turn_take(&turn, s->n_items, s->grain, &begin, &end))
        return false;
    assert_true(begin >= 0 && begin < end && end <= s->n_items && end - begin <= s->grain);
    const bool is_own = owner_of(s, begin) == worker;
    if (is_own && s->has_left[worker])
        fail_msg("worker %d of %d left its range before item %d", worker, s->n_workers, begin);
    s->has_left[worker] = s->has_left[worker] || !is_own;
    for (int item = begin; item < end; item++)
        s->n_done[item]++;
    return true;
}

static void test_every_item_once(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        test_random r = {seed};
        static scene room; /* aligned as its counters are */
        scene *s = &room;
        memset(s, 0, sizeof *s);
        s->n_workers = 1 + test_random_below(&r, MAX_WORKERS);
        s->n_items = 1 + test_random_below(&r, test_random_below(&r, 2) == 0 ? MAX_WORKERS : MAX_ITEMS);
        s->grain = 1 + test_random_below(&r, 5);
        const int n_present = 1 + test_random_below(&r, s->n_workers); /* the others have no core just now */
        while (take(s, test_random_below(&r, n_present)))
            continue;
        for (int item = 0; item < s->n_items; item++)
            if (s->n_done[item] != 1)
                fail_msg("seed %llu: item %d of %d done %d times", (unsigned long long)seed, item, s->n_items,
                         s->n_done[item]);
    }
}

/* Alone at work a worker goes through its own range in order, then through its neighbours'. */
static void test_own_range_first(void **state) {
    (void)state;
    scene s = {.n_workers = 3, .n_items = 30, .grain = 2};
    const cdp_turn turn = {s.taken, 1, s.n_workers, s.n_workers};
    for (int i = 0; i < 15; i++) {
        int begin = 0, end = 0;
        assert_true(cdp_turn_take(&turn, s.n_items, s.grain, &begin, &end));
        assert_int_equal(begin, (10 + 2 * i) % 30);
        assert_int_equal(end, begin + 2);
    }
}

/* On a device, one job after the other, as they are queued in a step. */
typedef struct count_args {
    atomic_int *n_done; /* (n_items) */
    int n_items;
} count_args;

static void count_job(const void *args, const cdp_turn *turn) {
    const count_args *a = args;
    int begin, end;
    while (cdp_turn_take(turn, a->n_items, 3, &begin, &end))
        for (int item = begin; item < end; item++)
            atomic_fetch_add(&a->n_done[item], 1);
}

static void test_job_after_job(void **state) {
    (void)state;
    enum { JOBS = 3000 };
    static atomic_int n_done[MAX_ITEMS];
    cdp_device *device = test_cpu((cdp_cpu_options){.n_threads = 3, .tier = CDP_TIER_PLAIN});
    int expected[MAX_ITEMS] = {0};
    for (int job = 0; job < JOBS; job++) {
        const count_args args = {n_done, 1 + job * 7 % MAX_ITEMS};
        assert_int_equal(cdp_cpu_submit(device, count_job, &args, sizeof args), CDP_OK);
        for (int item = 0; item < args.n_items; item++)
            expected[item]++;
    }
    cdp_device_drain(device);
    cdp_device_close(device);
    for (int item = 0; item < MAX_ITEMS; item++)
        assert_int_equal(n_done[item], expected[item]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_item_once),
                                       cmocka_unit_test(test_own_range_first),
                                       cmocka_unit_test(test_job_after_job)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
