/* Doors and peers: which processes of this host are ranks, and what they last did. */
#include "comm/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The page has no name in any folder and is gone with its last process. */
cdp_status cdp_door_open(cdp_door **out, int *fd_out) {
    *out = NULL;
    *fd_out = -1;
    const int fd = memfd_create("cdpipe", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof(cdp_door)) != 0) {
        if (fd >= 0)
            close(fd);
        return cdp_fail(CDP_SYSTEM, "no shared page for the watchdog: %s", strerror(errno));
    }
    cdp_door *door = mmap(NULL, sizeof *door, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (door == MAP_FAILED) {
        close(fd);
        return cdp_fail(CDP_SYSTEM, "no shared page for the watchdog: %s", strerror(errno));
    }
    atomic_store(&door->n_ready, -1);
    door->key = (uint64_t)cdp_now_ns() ^ (uint64_t)getpid() << 40;
    *out = door;
    *fd_out = fd;
    return CDP_OK;
}

/* Another host or pid namespace may have a process of the same number: the key tells. */
cdp_door *cdp_door_of(int pid, int fd, uint64_t key) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    const int theirs = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (theirs < 0)
        return NULL;
    cdp_door *door = MAP_FAILED;
    /* Reading a page beyond a file's end would be a SIGBUS. */
    if (lseek(theirs, 0, SEEK_END) == (off_t)sizeof *door)
        door = mmap(NULL, sizeof *door, PROT_READ, MAP_SHARED, theirs, 0);
    close(theirs);
    if (door == MAP_FAILED)
        return NULL;
    if (door->key == key)
        return door;
    munmap(door, sizeof *door);
    return NULL;
}

void cdp_door_close(cdp_door *door, int fd) {
    if (door != NULL)
        munmap(door, sizeof *door);
    if (fd >= 0)
        close(fd);
}

void cdp_door_write(cdp_door *door, const cdp_label *label) {
    atomic_store(&door->activity, label->activity);
    atomic_store(&door->first, label->first);
    atomic_store(&door->last, label->last);
    atomic_store(&door->step, label->step);
}

cdp_label cdp_door_read(const cdp_door *door) {
    return (cdp_label){.activity = atomic_load(&door->activity),
                       .first = atomic_load(&door->first),
                       .last = atomic_load(&door->last),
                       .step = atomic_load(&door->step),
                       .n_ready = atomic_load(&door->n_ready)};
}

/* Bells ------------------------------------------------------------------------------------------------ */

const atomic_uint *cdp_bell_of(const cdp_world *world, int rank) {
    const cdp_watchdog *w = world->watchdog;
    return w != NULL && w->peers != NULL && w->peers[rank].door != NULL ? &w->peers[rank].door->bell : NULL;
}

void cdp_bell_ring(cdp_world *world) {
    if (world->watchdog == NULL)
        return;
    atomic_uint *bell = &world->watchdog->door->bell;
    atomic_fetch_add(bell, 1);
    syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void cdp_bell_sleep(const atomic_uint *bell, unsigned seen, int64_t timeout_ns) {
    const struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    syscall(SYS_futex, bell, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

/* Peers ------------------------------------------------------------------------------------------------ */

/* What a rank tells all others about itself. */
typedef struct rank_card {
    uint64_t key;
    int32_t pid, door_fd, host_leader;
    char host[64];
} rank_card;

static void fill_peer(cdp_peer *peer, const rank_card *card, const cdp_world *world, bool is_me) {
    *peer = (cdp_peer){.pid = card->pid, .host_leader = card->host_leader, .pidfd = -1};
    memcpy(peer->host, card->host, sizeof peer->host);
    if (is_me || card->host_leader != world->host_leader)
        return;
    /* First the descriptor, then the door: if the door is right, so is the process. */
    const int pidfd = (int)syscall(SYS_pidfd_open, card->pid, 0);
    peer->door = cdp_door_of(card->pid, card->door_fd, card->key);
    if (peer->door != NULL)
        peer->pidfd = pidfd;
    else if (pidfd >= 0)
        close(pidfd);
}

cdp_status cdp_peers_open(cdp_watchdog *w) {
    cdp_world *world = w->world;
    const size_t n = (size_t)world->size;
    rank_card mine = {w->door->key, getpid(), w->door_fd, world->host_leader, ""};
    memcpy(mine.host, world->host, sizeof mine.host);
    cdp_status st = CDP_OK;
    rank_card *cards = calloc(n, sizeof *cards);
    cdp_peer *peers = calloc(n, sizeof *peers);
    if (cards == NULL || peers == NULL)
        st = cdp_fail(CDP_SYSTEM, "no memory to watch %d ranks", world->size);
    CDP_TRY_GOTO(cdp_world_agree(world, st), st, done); /* all gather, or none */
    CDP_TRY_GOTO(cdp_world_gather(world, cards, &mine, sizeof mine), st, done);
    for (size_t i = 0; i < n; i++)
        fill_peer(&peers[i], &cards[i], world, /*is_me=*/(int)i == world->rank);
    pthread_mutex_lock(&w->lock);
    w->peers = peers;
    pthread_mutex_unlock(&w->lock);
    peers = NULL;
done:
    free(cards);
    free(peers);
    return st;
}

void cdp_peers_close(cdp_watchdog *w) {
    for (int i = 0; w->peers != NULL && i < w->world->size; i++) {
        if (w->peers[i].pidfd >= 0)
            close(w->peers[i].pidfd);
        cdp_door_close(w->peers[i].door, -1);
    }
    free(w->peers);
}
