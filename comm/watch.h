/* comm/watch.h - the inside of the watchdog.
 *
 *     main thread                                   watchdog thread (every 100 ms, or when a peer ends)
 *     cdp_watchdog_note  -> door: what I do          reads own door, three counts, the clock
 *     cdp_world_poll     -> n_turns, n_heard, beats  -> judges itself, the previous rank, peers of this host
 *
 * A door is a page of shared memory on which a rank writes what it does and, before it leaves, that it has
 * said why. Ranks of one host read each other's doors, so that of a dead peer one still knows what it did,
 * and of a peer that has spoken nobody else speaks. It has a bell, too: rung when a message has gone to the
 * next rank, which may sleep on it.
 */
#pragma once

#include "comm/death.h"
#include "comm/inside.h"
#include "comm/queueing.h"
#include <pthread.h>
#include <stdatomic.h>

/* What a rank does, as plain data: what beats carry. */
typedef struct cdp_label {
    int32_t activity; /* cdp_activity */
    int32_t first, last;
    int32_t sender; /* the rank that n_ready is of */
    int64_t step;
    int64_t n_ready; /* steps before this one are computed, and their messages on their way; -1: none yet */
} cdp_label;

typedef struct cdp_door {
    uint64_t key; /* says that this really is the door of the rank that gave the key */
    atomic_int has_spoken;
    atomic_int activity, first, last;
    _Atomic int64_t step, n_ready;
    atomic_uint bell;
} cdp_door;

/* When a count was last seen to move. The main thread counts and the watchdog's thread reads the clock: the
 * whole job may be suspended between any two instructions, and a time read before it would come in as new. */
typedef struct cdp_seen {
    uint64_t n;
    int64_t at_ns;
} cdp_seen;

/* Another rank, as the watchdog knows it. */
typedef struct cdp_peer {
    char host[64];
    int pid;
    int host_leader;
    int pidfd;      /* -1: on another host, out of sight, or dead */
    cdp_door *door; /* NULL: out of sight */
    bool is_dead;
    char death[CDP_DEATH_TEXT]; /* how; "": the kernel does not tell */
} cdp_peer;

struct cdp_watchdog {
    cdp_world *world;
    int64_t limit_ns, beat_ns;
    void (*leave)(int exit_code);
    void (*on_own_fault)(void);
    pthread_t thread;
    int wake_fd;
    atomic_bool is_ending;

    cdp_door *door;
    int door_fd;

    _Atomic uint64_t n_done;     /* own work by cdp_watchdog_progress */
    _Atomic uint64_t n_turns;    /* of the main loop */
    _Atomic uint64_t n_heard;    /* beats of the previous rank */
    _Atomic int64_t awaits;      /* the step whose message is asked for, -1: none */
    atomic_int awaits_from;      /* and the rank it comes from */
    atomic_bool may_peers_leave; /* all ranks have agreed to leave: an end is no death */

    pthread_mutex_t lock;           /* for the rest, down to the beats */
    uint64_t (*progress)(void *of); /* called under the lock, so nobody calls it after it is changed */
    void *progress_of;
    cdp_peer *peers; /* (size) NULL until they are known */
    cdp_label heard; /* the previous rank's last label */

    /* Main thread only. */
    MPI_Request beat_in, beat_out;
    cdp_label label_in, label_out;
    int64_t next_beat_ns;

    /* Watchdog thread only. */
    int64_t missed, missed_ns; /* a step that is awaited although it is on its way (-1: none), since when */
    cdp_seen turns, beats;     /* of n_turns and n_heard */
    cdp_seen work;             /* of n_done and the device's count; at_ns also: not at work then */
    int64_t leave_ns;          /* leave by then because of a peer's end; 0: no reason */
    uint64_t n_oom_kills;      /* of this host, as last read */
    int64_t oom_read_ns;       /* when */
    int64_t oom_ns;            /* one was seen to be new; 0: never */
    cdp_queueing queueing; /* read when half the limit had gone by without progress; at_ns 0: it has not */
};

/* Make this rank's door; the descriptor stays open for the peers. */
cdp_status cdp_door_open(cdp_door **out, int *fd_out);
/* A peer's door, read only; NULL when it is out of sight (another pid namespace, no /proc). */
cdp_door *cdp_door_of(int pid, int fd, uint64_t key);
void cdp_door_close(cdp_door *door, int fd);
void cdp_door_write(cdp_door *door, const cdp_label *label);
cdp_label cdp_door_read(const cdp_door *door);

/* Post the receive of beats; one turn of beats; take the receive back. */
cdp_status cdp_beat_open(cdp_watchdog *watchdog);
cdp_status cdp_beat_turn(cdp_watchdog *watchdog);
cdp_status cdp_beat_close(cdp_watchdog *watchdog);

/* Who is who, by a gather; then watch those of this host. Collective. */
cdp_status cdp_peers_open(cdp_watchdog *watchdog);
void cdp_peers_close(cdp_watchdog *watchdog);

/* What the watchdog thread does. */
void *cdp_watch_main(void *watchdog);
