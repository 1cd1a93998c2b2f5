/* A rank for tests/world/test_world.c: world, agreements, stop, binding.
 *
 *     rank_world agree CODES     rank r brings the r-th code of "0,65,66"; all return what was agreed,
 *                                by an agreement within another
 *     rank_world collect         broadcast, gather, min, barrier with values that all ranks can check
 *     rank_world who             one line: rank, size, local rank, local size, launcher
 *     rank_world unbind          one line: was it undone, processors now
 *     rank_world idle MS         wait for rank 0, who comes MS later; the share of a core goes to stdout
 *     rank_world stop            wait until a stop is wanted, then leave together with 75
 *     rank_world deaf            catch the signals and never look
 */
#include "comm/watchdog.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void wait_ms(cdp_world *world, int64_t ms) {
    const int64_t until = cdp_now_ns() + ms * 1000000;
    cdp_waiter waiter = {0};
    while (cdp_now_ns() < until && cdp_world_poll(world) == CDP_OK)
        cdp_wait_pause(&waiter);
}

static cdp_status agree(cdp_world *world, const char *codes) {
    const int rank = cdp_world_rank(world);
    for (int i = 0; i < rank; i++)
        codes = strchr(codes, ',') + 1;
    const cdp_status mine = (cdp_status)atoi(codes);
    if (mine != CDP_OK)
        cdp_fail(mine, "bad thing %d", rank);
    const cdp_status st = cdp_world_agree(world, cdp_world_agree(world, mine));
    if (st != CDP_OK)
        printf("%d says %s\n", rank, cdp_error_message());
    return st;
}

static cdp_status check(bool is_right, const char *what) {
    return is_right ? CDP_OK : cdp_fail(CDP_INTERNAL, "%s is wrong", what);
}

static cdp_status collect(cdp_world *world) {
    enum { BIG = 3000000 };
    const int rank = cdp_world_rank(world), size = cdp_world_size(world);
    static unsigned char big[BIG];
    for (size_t i = 0; i < BIG; i++)
        big[i] = rank == 0 ? (unsigned char)(i * 7 + i / 251) : 0;
    CDP_TRY(cdp_world_broadcast(world, big, BIG));
    bool is_right = true;
    for (size_t i = 0; i < BIG; i++)
        is_right &= big[i] == (unsigned char)(i * 7 + i / 251);
    CDP_TRY(check(is_right, "broadcast"));
    CDP_TRY(cdp_world_broadcast(world, big, 0));

    char mine[32], all[32 * 16];
    snprintf(mine, sizeof mine, "from %d of %d", rank, size);
    CDP_TRY(cdp_world_gather(world, all, mine, sizeof mine));
    for (int i = 0; i < size; i++) {
        snprintf(mine, sizeof mine, "from %d of %d", i, size);
        CDP_TRY(check(strcmp(all + 32 * i, mine) == 0, "gather"));
    }
    int64_t value = (int64_t)1 << 40 | (rank == size - 1 ? 3 : 5 + rank);
    CDP_TRY(cdp_world_min(world, &value));
    CDP_TRY(check(value == ((int64_t)1 << 40 | 3), "min"));
    return cdp_world_barrier(world);
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* Every rank waits, rank 0 for the clock and the others for rank 0. */
static cdp_status idle(cdp_world *world, int64_t ms) {
    const double cpu_before = cpu_s();
    const int64_t before = cdp_now_ns();
    if (cdp_world_rank(world) == 0)
        wait_ms(world, ms);
    CDP_TRY(cdp_world_barrier(world));
    const double share = (cpu_s() - cpu_before) / ((double)(cdp_now_ns() - before) * 1e-9);
    printf("share %.4f\n", share);
    return CDP_OK;
}

static cdp_status stop(cdp_world *world, bool is_deaf) {
    CDP_TRY(cdp_stop_install());
    CDP_TRY(cdp_world_barrier(world));
    printf("ready\n");
    fflush(stdout);
    cdp_waiter waiter = {0};
    while (is_deaf || !cdp_stop_wanted()) {
        CDP_TRY(cdp_world_poll(world));
        cdp_wait_pause(&waiter);
    }
    return cdp_world_agree(world, cdp_fail(CDP_STOPPED, "stopped"));
}

static cdp_status unbind(const cdp_world *world) {
    int n_cpus = 0;
    const bool is_undone = cdp_world_unbind(world, &n_cpus);
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    printf("undone %d now %d\n", is_undone, CPU_COUNT(&mask));
    return is_undone && n_cpus != CPU_COUNT(&mask) ? CDP_INTERNAL : CDP_OK;
}

static cdp_status run(cdp_world *world, int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    const char *word = argc > 2 ? argv[2] : "";
    if (strcmp(verb, "agree") == 0)
        return agree(world, word);
    if (strcmp(verb, "collect") == 0)
        return collect(world);
    if (strcmp(verb, "idle") == 0)
        return idle(world, atoi(word));
    if (strcmp(verb, "stop") == 0 || strcmp(verb, "deaf") == 0)
        return stop(world, /*is_deaf=*/strcmp(verb, "deaf") == 0);
    if (strcmp(verb, "unbind") == 0)
        return unbind(world);
    printf("rank %d size %d local %d of %d launcher %d\n", cdp_world_rank(world), cdp_world_size(world),
           cdp_world_local_rank(world), cdp_world_local_size(world), cdp_world_has_launcher());
    return CDP_OK;
}

static void leave(int code) {
    _exit(code);
}

int main(int argc, char **argv) {
    cdp_world *world = NULL;
    cdp_status st = cdp_world_open(&world);
    if (st == CDP_OK)
        st = cdp_watchdog_start(world, &(cdp_watchdog_options){.limit_s = 20, .leave = leave});
    if (st == CDP_OK)
        st = run(world, argc, argv);
    if (st != CDP_OK && (world == NULL || cdp_world_rank(world) == 0))
        fprintf(stderr, "cdpipe: error: %s\n", cdp_error_message());
    cdp_world_close(world);
    return (int)st;
}
