/* A rank for tests/world/test_watchdog.c. Ranks pass a token round the ring of agreements and compute a
 * little in between, so that there always is one that computes and some that wait.
 *
 *     rank_watch LIMIT_S VICTIM KIND [DURATION_S]
 *
 * After 0.5 s rank VICTIM does KIND:
 *     kill9 stop exit0     to itself
 *     hang                 its main thread never comes back from its work
 *     stuck                its main thread never comes back though it only waits
 *     work                 its main loop turns, but its work shows no progress
 *     spoken               it says a line of its own and leaves with 74
 *     leave                it ends abruptly, though after the agreement, while the others' main threads are
 *                          slow to look
 *     beat                 its last beat is still on its way when it leaves, though after the agreement
 *     lost                 it has sent step 7, and the next rank has asked for it: from the start
 *     lost-far             the same of the rank before it, as if each were on a host of its own: the ring of
 *                          messages passes over those between
 *     asked, ready         one half of that, and all end well after DURATION_S
 *     none                 all end well after DURATION_S
 *     slow                 the same; but each piece of its work takes 0.6 of the limit
 *     suspend              the same; but most of each turn is a call of MPI, so that a stop falls into one
 */
#include "comm/watch.h"
#include "comm/watchdog.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

typedef struct plan {
    double limit_s;
    int victim;
    const char *kind;
    double duration_s;
} plan;

static const MPI_Request *long_test; /* the request whose tests take long; NULL: none */

/* comm/ calls this one. Longer than the watchdog's thread looks away, and in pieces, so that some of it is
 * still to come when a job that was stopped in it goes on. */
int MPI_Test(MPI_Request *request, int *is_done, MPI_Status *status) {
    for (int i = 0; request == long_test && i < 15; i++)
        usleep(10000);
    return PMPI_Test(request, is_done, status);
}

static double since_s(int64_t start_ns) {
    return (double)(cdp_now_ns() - start_ns) * 1e-9;
}

static void wait_s(cdp_world *world, double seconds) {
    const int64_t start = cdp_now_ns();
    cdp_waiter waiter = {0};
    while (since_s(start) < seconds && cdp_world_poll(world) == CDP_OK)
        cdp_wait_pause(&waiter);
}

static void do_fault(cdp_world *world, const char *kind) {
    if (strcmp(kind, "kill9") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(kind, "stop") == 0)
        kill(getpid(), SIGSTOP);
    if (strcmp(kind, "exit0") == 0)
        _exit(0);
    if (strcmp(kind, "spoken") == 0) {
        fprintf(stderr, "cdpipe: error: the disk is full\n");
        cdp_watchdog_has_spoken(world);
        _exit(CDP_IO);
    }
    if (strcmp(kind, "stuck") == 0)
        cdp_watchdog_note(world, CDP_WAITING, /*step=*/7, 0, -1);
    while (strcmp(kind, "hang") == 0 || strcmp(kind, "stuck") == 0)
        pause();
    while (strcmp(kind, "work") == 0)
        wait_s(world, 1.0);
}

/* One turn of the ring: this rank computes while the others wait for it. */
static cdp_status work(cdp_world *world, const plan *p, int64_t step, int64_t start) {
    const int rank = cdp_world_rank(world);
    const bool is_late = since_s(start) > 0.5;
    cdp_watchdog_note(world, CDP_COMPUTING, step, 4 * rank, 4 * rank + 3);
    if (rank == p->victim && is_late)
        do_fault(world, p->kind);
    wait_s(world, strcmp(p->kind, "slow") == 0 && rank == p->victim ? 0.6 * p->limit_s : 0.02);
    cdp_watchdog_progress(world);
    cdp_watchdog_note(world, CDP_WAITING, step + 1, 0, -1);
    return CDP_OK;
}

/* From here on peers are as ranks of other hosts are: what they say comes by MPI. */
static void lose_sight(cdp_world *world) {
    cdp_watchdog *w = world->watchdog;
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < world->size; i++) {
        cdp_door_close(w->peers[i].door, w->peers[i].pidfd);
        w->peers[i].door = NULL;
        w->peers[i].pidfd = -1;
    }
    pthread_mutex_unlock(&w->lock);
}

static void tell_messages(cdp_world *world, const plan *p) {
    const bool is_far = strcmp(p->kind, "lost-far") == 0, is_lost = is_far || strcmp(p->kind, "lost") == 0;
    const int rank = cdp_world_rank(world), size = cdp_world_size(world);
    const int next = (p->victim + (is_far ? size - 1 : 1)) % size;
    if (is_far)
        lose_sight(world);
    if (rank == p->victim && (is_lost || strcmp(p->kind, "ready") == 0))
        cdp_watchdog_messages(world, /*n_ready=*/8, /*awaits=*/-1, /*from=*/0);
    if (rank == next && (is_lost || strcmp(p->kind, "asked") == 0))
        cdp_watchdog_messages(world, /*n_ready=*/7, /*awaits=*/7, /*from=*/p->victim);
}

static cdp_status run(cdp_world *world, const plan *p) {
    const int64_t start = cdp_now_ns();
    tell_messages(world, p);
    if (strcmp(p->kind, "suspend") == 0)
        long_test = &world->watchdog->beat_in;
    printf("ready\n");
    fflush(stdout);
    for (int64_t step = 0;; step++) {
        if (step % cdp_world_size(world) == cdp_world_rank(world))
            CDP_TRY(work(world, p, step, start));
        int64_t goes_on = since_s(start) < p->duration_s;
        CDP_TRY(cdp_world_min(world, &goes_on));
        if (goes_on == 0)
            return CDP_OK;
    }
}

static void doze(int number) {
    (void)number;
    usleep(100000);
}

/* From here on the main thread is awake for 3 of 103 ms, also inside the calls of comm/; each rank at another
 * time, so that rank 2, which would name rank 1, sleeps while the others' barrier ends. */
static void become_slow(int rank) {
    const struct itimerval often = {{0, 103000}, {0, 1000 + 34000 * (2 - rank)}};
    signal(SIGALRM, doze);
    setitimer(ITIMER_REAL, &often, NULL);
}

/* The next rank takes the last beat only when it has left the ring of beats itself. */
static void hold_last_beat(cdp_world *world) {
    static char byte;
    MPI_Request *out = &world->watchdog->beat_out;
    MPI_Wait(out, MPI_STATUS_IGNORE);
    MPI_Issend(&byte, 1, MPI_BYTE, (world->rank + 1) % world->size, 0, world->data, out);
}

static void take_last_beat(cdp_world *world, int from) {
    char byte;
    usleep(300000);
    MPI_Recv(&byte, 1, MPI_BYTE, from, 0, world->data, MPI_STATUS_IGNORE);
}

static void leave(int code) {
    _exit(code);
}

int main(int argc, char **argv) {
    if (argc < 4)
        return CDP_USAGE;
    const plan p = {atof(argv[1]), atoi(argv[2]), argv[3], argc > 4 ? atof(argv[4]) : 60.0};
    cdp_world *world = NULL;
    cdp_status st = cdp_world_open(&world);
    if (st == CDP_OK)
        st = cdp_watchdog_start(world, &(cdp_watchdog_options){.limit_s = p.limit_s, .leave = leave});
    if (st == CDP_OK)
        st = run(world, &p);
    const bool is_leaving = strcmp(p.kind, "leave") == 0;
    if (st == CDP_OK && is_leaving && cdp_world_rank(world) != p.victim)
        become_slow(cdp_world_rank(world));
    else if (st == CDP_OK && is_leaving)
        wait_s(world, 0.35); /* the others are in cdp_watchdog_stop by now, and asleep */
    const bool has_beat = strcmp(p.kind, "beat") == 0;
    if (st == CDP_OK && has_beat && cdp_world_rank(world) == p.victim)
        hold_last_beat(world);
    if (st == CDP_OK)
        st = cdp_watchdog_stop(world);
    if (st == CDP_OK && has_beat && cdp_world_rank(world) == (p.victim + 1) % cdp_world_size(world))
        take_last_beat(world, p.victim);
    if (st == CDP_OK && is_leaving && cdp_world_rank(world) == p.victim)
        _exit(0);
    if (st != CDP_OK)
        fprintf(stderr, "cdpipe: error: %s\n", cdp_error_message());
    cdp_world_close(world);
    return (int)st;
}
