/* The watchdog's life and the main thread's side of it; watch.c is what its thread does. */
#include "comm/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "kernels/fault.h"

/* Signals are for the main thread, whose loop they are to reach. */
static cdp_status start_thread(cdp_watchdog *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&w->thread, NULL, cdp_watch_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? CDP_OK
                      : cdp_fail(CDP_SYSTEM, "the watchdog thread cannot start: %s", strerror(error));
}

static void end_thread(cdp_watchdog *w) {
    const uint64_t one = 1;
    atomic_store(&w->is_ending, true);
    if (write(w->wake_fd, &one, sizeof one) < 0)
        return; /* it looks by itself within 100 ms */
    pthread_join(w->thread, NULL);
}

static void free_watchdog(cdp_watchdog *w) {
    cdp_peers_close(w);
    cdp_door_close(w->door, w->door_fd);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void set_limit(cdp_watchdog *w, double limit_s) {
    const int64_t second = 1000000000;
    w->limit_ns = (int64_t)(limit_s * (double)second);
    w->beat_ns = w->limit_ns / 4 < second ? w->limit_ns / 4 : second;
}

static cdp_watchdog *make_watchdog(cdp_world *world, const cdp_watchdog_options *options) {
    cdp_watchdog *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    const int64_t now = cdp_now_ns();
    w->world = world;
    set_limit(w, options->limit_s);
    w->leave = options->leave;
    w->on_own_fault = options->on_own_fault;
    w->progress = options->progress;
    w->progress_of = options->progress_of;
    w->door_fd = w->wake_fd = -1;
    w->beat_in = w->beat_out = MPI_REQUEST_NULL;
    w->turns.at_ns = w->beats.at_ns = w->work.at_ns = now;
    w->missed = -1;
    w->heard.n_ready = -1;
    atomic_init(&w->awaits, -1);
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

/* What this rank can do by itself. */
static cdp_status start_own(cdp_watchdog *w) {
    CDP_TRY(cdp_fault_pass("watchdog"));
    w->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (w->wake_fd < 0)
        return cdp_fail(CDP_SYSTEM, "eventfd: %s", strerror(errno));
    CDP_TRY(cdp_door_open(&w->door, &w->door_fd));
    cdp_door_write(w->door, &(cdp_label){.activity = CDP_STARTING, .first = 0, .last = -1, .step = -1});
    CDP_TRY(cdp_beat_open(w));
    CDP_TRY(start_thread(w));
    w->world->watchdog = w; /* cdp_world_close ends it from here on, whatever comes */
    return CDP_OK;
}

/* The thread runs before the pids are exchanged, so that a rank that stops in the exchange is seen too. A
 * rank without a watchdog of its own would send no beats: all watch, or none. */
cdp_status cdp_watchdog_start(cdp_world *world, const cdp_watchdog_options *options) {
    cdp_watchdog *w = make_watchdog(world, options);
    cdp_status st = w != NULL ? start_own(w) : cdp_fail(CDP_SYSTEM, "no memory for the watchdog");
    st = cdp_world_agree(world, st);
    if (st == CDP_OK)
        st = cdp_peers_open(w);
    if (st == CDP_OK || w == NULL)
        return st;
    if (world->watchdog != NULL)
        end_thread(w);
    cdp_beat_close(w); /* trouble here has nobody left to be told */
    world->watchdog = NULL;
    free_watchdog(w);
    return st;
}

void cdp_watchdog_set_limit(cdp_world *world, double limit_s) {
    cdp_watchdog *w = world->watchdog;
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    set_limit(w, limit_s);
    w->next_beat_ns = 0; /* the peers may wait less long from now on */
    pthread_mutex_unlock(&w->lock);
}

void cdp_watchdog_watch(cdp_world *world, uint64_t (*progress)(void *of), void *of) {
    cdp_watchdog *w = world->watchdog;
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->progress = progress;
    w->progress_of = of;
    pthread_mutex_unlock(&w->lock);
}

void cdp_watchdog_note(cdp_world *world, cdp_activity activity, int64_t step, int first, int last) {
    if (world->watchdog == NULL)
        return;
    const cdp_label label = {.activity = (int32_t)activity, .first = first, .last = last, .step = step};
    cdp_door_write(world->watchdog->door, &label);
}

void cdp_watchdog_messages(cdp_world *world, int64_t n_ready, int64_t awaits, int from) {
    cdp_watchdog *w = world->watchdog;
    if (w == NULL)
        return;
    atomic_store(&w->door->n_ready, n_ready);
    atomic_store(&w->awaits_from, from);
    atomic_store(&w->awaits, awaits);
}

void cdp_watchdog_progress(cdp_world *world) {
    if (world->watchdog != NULL)
        atomic_fetch_add(&world->watchdog->n_done, 1);
}

void cdp_watchdog_has_spoken(cdp_world *world) {
    if (world != NULL && world->watchdog != NULL)
        atomic_store(&world->watchdog->door->has_spoken, 1);
}

/* Its second (judge_dead), and time to be woken in. */
enum { DEATH_MS = 2000 };

void cdp_watchdog_await_death(cdp_world *world, int peer) {
    const cdp_watchdog *w = world->watchdog;
    if (w == NULL || w->peers == NULL || w->peers[peer].door == NULL)
        return;
    cdp_watchdog_note(world, CDP_WAITING, /*step=*/-1, /*first=*/0, /*last=*/-1); /* no work of its own */
    const int64_t until = cdp_now_ns() + (int64_t)DEATH_MS * 1000000;
    while (cdp_now_ns() < until && cdp_world_poll(world) == CDP_OK)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

cdp_status cdp_watchdog_turn(cdp_watchdog *w) {
    CDP_TRY(cdp_beat_turn(w));
    atomic_fetch_add(&w->n_turns, 1);
    return CDP_OK;
}

/* Two barriers: behind the first, every rank knows that all want to leave and takes no end for a death any
 * more; behind the second, every rank knows that all others know, and may end. */
cdp_status cdp_watchdog_stop(cdp_world *world) {
    cdp_watchdog *w = world->watchdog;
    if (w == NULL)
        return CDP_OK;
    cdp_watchdog_note(world, CDP_LEAVING, /*step=*/-1, /*first=*/0, /*last=*/-1);
    cdp_status st = CDP_OK;
    CDP_TRY_GOTO(cdp_world_barrier(world), st, done);
    atomic_store(&w->may_peers_leave, true);
    CDP_TRY_GOTO(cdp_world_barrier(world), st, done);
    CDP_TRY_GOTO(cdp_beat_close(w), st, done);
done:
    end_thread(w);
    world->watchdog = NULL;
    if (st == CDP_OK)
        free_watchdog(w); /* else MPI may still write a beat into it */
    return st;
}
