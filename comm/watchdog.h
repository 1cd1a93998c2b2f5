/* comm/watchdog.h - nobody waits for the dead.
 *
 * A thread of its own that needs neither MPI nor the device. It ends the process, by the callback main gave,
 * after one line on stderr that names the rank, what it was doing, its peer and the step, when
 *
 *   - this rank has work of its own and shows no progress for the limit (a job finished, a block read), or
 *     its main thread has not come round its loop for that long;
 *   - the previous rank of the world has sent no beat for the limit + 1 s after one was due (it is stopped or
 *     cut off);
 *   - a message of the previous rank of the ring has been on its way to this one for the limit + 2 s,
 *     although both live: a road that loses messages says nothing by itself; with ranks without layers
 *     between the two on other hosts, up to a beat later for each;
 *   - another rank of this host has died (pidfd): named at once, with its signal and whether the kernel has
 *     just killed for lack of memory, exit within a second; when that rank has said why it left
 *     (cdp_watchdog_has_spoken), without a line.
 *
 * Every rank sends its next rank a beat each min(1 s, limit / 4), whether computing, waiting or idle, so a
 * slow but healthy prefill, a long wait and an idle server are no faults. The exit code is 70.
 */
#pragma once

#include "comm/world.h"

typedef enum cdp_activity {
    CDP_STARTING,  /* start-up phases and agreements: waiting for peers is fine, beats must come */
    CDP_LOADING,   /* own work: blocks of weights */
    CDP_COMPUTING, /* own work: jobs on the device */
    CDP_WAITING,   /* for the previous rank's data, or idle: beats must come */
    CDP_LEAVING,   /* set by cdp_watchdog_stop */
} cdp_activity;

typedef struct cdp_watchdog_options {
    double limit_s;                 /* --step-timeout */
    void (*leave)(int exit_code);   /* ends the process; called on the watchdog's thread */
    void (*on_own_fault)(void);     /* before it, when this rank itself hangs and did not merely stand in
                                       line for a core; may be NULL */
    uint64_t (*progress)(void *of); /* the device's counter of finished jobs, may be NULL; any thread */
    void *progress_of;
} cdp_watchdog_options;

/* Start watching; from now on cdp_world_poll sends and takes beats. Collective (pids are exchanged); the same
 * status on every rank, and no rank watches where it is not CDP_OK. There is one watchdog a world;
 * cdp_world_close ends it if cdp_watchdog_stop has not. */
cdp_status cdp_watchdog_start(cdp_world *world, const cdp_watchdog_options *options);

/* Another limit: --step-timeout is agreed only after the watchdog has started. */
void cdp_watchdog_set_limit(cdp_world *world, double limit_s);

/* Change what is counted as progress: the device opens after the watchdog starts, and NULL is due before it
 * closes. When this returns the old one is not called any more. */
void cdp_watchdog_watch(cdp_world *world, uint64_t (*progress)(void *of), void *of);

/* Before there is a world there is no watchdog: MPI_Init waits for ranks that may never come. A guard ends
 * the process by `leave` with one line when it is not ended within limit_s. The caller ends it; NULL is fine.
 */
typedef struct cdp_guard cdp_guard;
cdp_status cdp_guard_start(cdp_guard **out, double limit_s, void (*leave)(int exit_code));
void cdp_guard_end(cdp_guard *guard);

/* What this rank does now, for the line: e.g. CDP_COMPUTING with first, last = layers and `step`. */
void cdp_watchdog_note(cdp_world *world, cdp_activity activity, int64_t step, int first, int last);

/* What this rank's messages stand at: steps before n_ready are computed and their data is on its way to the
 * next rank; the data of step `awaits` (-1: of none) has been asked for from rank `from`. */
void cdp_watchdog_messages(cdp_world *world, int64_t n_ready, int64_t awaits, int from);

/* One more piece of own work is done (any thread). */
void cdp_watchdog_progress(cdp_world *world);

/* The road to rank `peer` broke. When that rank is of this host and has died, the watchdog says so and ends
 * this process, which a broken road could not tell so well: give it two seconds. Returns at once for a rank
 * of another host. Main thread. */
void cdp_watchdog_await_death(cdp_world *world, int peer);

/* This rank has said on stderr why it leaves alone: the others are to leave without a line of their own. Call
 * it before _exit. NULL is fine. */
void cdp_watchdog_has_spoken(cdp_world *world);

/* End it: all ranks have agreed to leave. Collective, so that no rank takes a leaving peer for a dead one. */
cdp_status cdp_watchdog_stop(cdp_world *world);
