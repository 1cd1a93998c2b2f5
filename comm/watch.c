/* What the watchdog thread does: judge, say one line, leave. It calls neither MPI nor the device. */
#include "comm/watch.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t second = 1000000000;

/* The line --------------------------------------------------------------------------------------------- */

static const char *describe(char out[96], const cdp_label *label) {
    char layers[40] = "", step[40] = "";
    if (label->last >= label->first)
        snprintf(layers, sizeof layers, " layers %d-%d", label->first, label->last);
    if (label->step >= 0)
        snprintf(step, sizeof step, " step %lld", (long long)label->step);
    switch ((cdp_activity)label->activity) {
    case CDP_STARTING:
        snprintf(out, 96, "starting");
        break;
    case CDP_LOADING:
        snprintf(out, 96, "loading%s", layers);
        break;
    case CDP_COMPUTING:
        snprintf(out, 96, "computing%s%s%s", layers, step[0] != '\0' ? " of" : "", step);
        break;
    case CDP_WAITING:
        snprintf(out, 96, "waiting%s%s", step[0] != '\0' ? " for" : "", step);
        break;
    case CDP_LEAVING:
        snprintf(out, 96, "leaving");
        break;
    }
    return out;
}

static const char *name_rank(char out[128], const cdp_watchdog *w, int rank) {
    if (w->peers != NULL)
        snprintf(out, 128, "rank %d (%s, pid %d)", rank, w->peers[rank].host, w->peers[rank].pid);
    else if (rank == w->world->rank)
        snprintf(out, 128, "rank %d (%s, pid %d)", rank, w->world->host, (int)getpid());
    else
        snprintf(out, 128, "rank %d", rank);
    return out;
}

/* Say the line by one write, tell the peers of this host that it is said, and leave. */
static void speak_and_leave(cdp_watchdog *w, const char *text) {
    char line[512];
    snprintf(line, sizeof line, "cdpipe: error: %s: leaving with %d\n", text, CDP_INTERNAL);
    atomic_store(&w->door->has_spoken, 1);
    const ssize_t n = write(STDERR_FILENO, line, strlen(line));
    (void)n; /* whether or not anybody can read it, this rank leaves */
    w->leave(CDP_INTERNAL);
}

/* Where a thread stood in line for a core for most of the time, the machine is to blame and not this rank. */
static bool is_starved(const cdp_watchdog *w, char *out, size_t out_size, int64_t now) {
    static cdp_queueing after; /* the watchdog thread's alone */
    cdp_queueing_read(&after, now);
    const double share = cdp_queueing_share(&w->queueing, &after);
    out[0] = '\0';
    if (share > 0.5)
        snprintf(out, out_size, " (%.0f %% of it waiting for a core: this machine is overloaded)",
                 share * 100);
    return share > 0.5;
}

static void name_myself(cdp_watchdog *w, const char *who, int64_t since_ns, int64_t now) {
    char name[128], doing[96], starved[80], text[400];
    const cdp_label label = cdp_door_read(w->door);
    const bool is_own = !is_starved(w, starved, sizeof starved, now);
    snprintf(text, sizeof text, "%s: %s for %.1f s while %s%s", name_rank(name, w, w->world->rank), who,
             (double)(now - since_ns) * 1e-9, describe(doing, &label), starved);
    if (is_own && w->on_own_fault != NULL)
        w->on_own_fault();
    speak_and_leave(w, text);
}

static void name_silent(cdp_watchdog *w, int rank, int64_t silent_ns) {
    char name[128], doing[96], text[400];
    const cdp_door *door = w->peers == NULL ? NULL : w->peers[rank].door;
    const cdp_label label = door != NULL ? cdp_door_read(door) : w->heard;
    snprintf(text, sizeof text, "%s has been silent for %.1f s while %s, seen by rank %d",
             name_rank(name, w, rank), (double)silent_ns * 1e-9, describe(doing, &label), w->world->rank);
    speak_and_leave(w, text);
}

static void name_lost(cdp_watchdog *w, int from, int64_t step, int64_t lost_ns) {
    char mine[128], its[128], text[400];
    snprintf(text, sizeof text, "%s: step %lld of %s is on its way for %.1f s and does not arrive",
             name_rank(mine, w, w->world->rank), (long long)step, name_rank(its, w, from),
             (double)lost_ns * 1e-9);
    speak_and_leave(w, text);
}

/* How it died, as far as the kernel tells. What it kills for lack of memory it kills by signal 9; to give
 * back a hundred GiB the dead process then takes a while. */
static const char *describe_death(char out[160], const cdp_watchdog *w, const char *death, int64_t now) {
    const bool is_oom = w->oom_ns != 0 && now - w->oom_ns < 30 * second &&
                        (death[0] == '\0' || strncmp(death, "signal 9:", 9) == 0);
    out[0] = '\0';
    if (is_oom)
        snprintf(out, 160,
                 " (signal 9: Killed, likely for lack of memory: the kernel has just done that here)");
    else if (death[0] != '\0')
        snprintf(out, 160, " (%s)", death);
    return out;
}

static void name_dead(cdp_watchdog *w, int rank, int64_t now) {
    char name[128], doing[96], how[160], text[450];
    const cdp_label label = cdp_door_read(w->peers[rank].door);
    snprintf(text, sizeof text, "%s died while %s%s, seen by rank %d", name_rank(name, w, rank),
             describe(doing, &label), describe_death(how, w, w->peers[rank].death, now), w->world->rank);
    speak_and_leave(w, text);
}

/* Peers of this host ----------------------------------------------------------------------------------- */

static bool has_anybody_spoken(const cdp_watchdog *w) {
    for (int i = 0; i < w->world->size; i++)
        if (w->peers[i].door != NULL && atomic_load(&w->peers[i].door->has_spoken))
            return true;
    return false;
}

static int find_dead(const cdp_watchdog *w) {
    for (int i = 0; w->peers != NULL && i < w->world->size; i++)
        if (w->peers[i].is_dead)
            return i;
    return -1;
}

/* The rank that names the dead one: the first behind it in the ring of those on this host that still live. */
static int find_speaker(const cdp_watchdog *w, int dead) {
    for (int hop = 1; hop < w->world->size; hop++) {
        const int rank = (dead + hop) % w->world->size;
        const cdp_peer *peer = &w->peers[rank];
        if (rank == w->world->rank || (peer->host_leader == w->world->host_leader && !peer->is_dead))
            return rank;
    }
    return w->world->rank;
}

/* Once a second, and when somebody has died. */
static void look_at_oom_kills(cdp_watchdog *w, int64_t now) {
    if (now - w->oom_read_ns < second && find_dead(w) < 0)
        return;
    const uint64_t n = cdp_death_oom_kills();
    if (n > w->n_oom_kills)
        w->oom_ns = now;
    w->n_oom_kills = n;
    w->oom_read_ns = now;
}

/* One rank speaks. The others give it, and the launcher that ends them, a second; then they leave too. */
static void judge_dead(cdp_watchdog *w, int64_t now) {
    const int dead = find_dead(w);
    if (dead < 0)
        return;
    if (w->leave_ns == 0)
        w->leave_ns = now + second;
    const bool is_late = now >= w->leave_ns;
    if (!has_anybody_spoken(w) && (is_late || find_speaker(w, dead) == w->world->rank))
        name_dead(w, dead, now);
    else if (is_late)
        w->leave(CDP_INTERNAL);
}

/* Sleep until the next look or until a peer ends. */
static void sleep_until_end(cdp_watchdog *w, struct pollfd *fds, int tick_ms) {
    nfds_t n = 0;
    fds[n++] = (struct pollfd){w->wake_fd, POLLIN, 0};
    const bool is_watching = !atomic_load(&w->may_peers_leave);
    pthread_mutex_lock(&w->lock);
    for (int i = 0; is_watching && w->peers != NULL && i < w->world->size; i++)
        fds[n++] = (struct pollfd){w->peers[i].pidfd, POLLIN, 0}; /* -1 is passed over */
    pthread_mutex_unlock(&w->lock);
    /* The flag is read again: a peer ends for good only after every rank has set it. */
    if (poll(fds, n, tick_ms) <= 0 || atomic_load(&w->may_peers_leave))
        return;
    pthread_mutex_lock(&w->lock);
    for (nfds_t i = 1; i < n; i++) {
        cdp_peer *peer = &w->peers[i - 1];
        if ((fds[i].revents & POLLIN) == 0)
            continue;
        peer->is_dead = true;
        cdp_death_read(peer->death, peer->pid, peer->pidfd);
        close(peer->pidfd);
        peer->pidfd = -1;
    }
    pthread_mutex_unlock(&w->lock);
}

/* Myself and the previous rank ------------------------------------------------------------------------- */

static void look(cdp_seen *seen, uint64_t n, int64_t now) {
    if (n != seen->n)
        *seen = (cdp_seen){n, now};
}

static void judge_myself(cdp_watchdog *w, int64_t now) {
    look(&w->turns, atomic_load(&w->n_turns), now);
    if (now - w->turns.at_ns > w->limit_ns) {
        name_myself(w, "main thread stuck", w->turns.at_ns, now);
        return;
    }
    const int activity = atomic_load(&w->door->activity);
    uint64_t progress = atomic_load(&w->n_done);
    if (w->progress != NULL)
        progress += w->progress(w->progress_of);
    look(&w->work, progress, now);
    if (activity != CDP_LOADING && activity != CDP_COMPUTING)
        w->work.at_ns = now;
    if (now - w->work.at_ns > w->limit_ns)
        name_myself(w, "no progress", w->work.at_ns, now);
    const int64_t moved = w->turns.at_ns < w->work.at_ns ? w->turns.at_ns : w->work.at_ns;
    if (now - moved <= w->limit_ns / 2)
        w->queueing.at_ns = 0;
    else if (w->queueing.at_ns == 0)
        cdp_queueing_read(&w->queueing, now);
}

/* The previous rank has the limit to name itself, and a second more. Its last beat may have come just before
 * it stopped, so its silence counts from when the next one was due. */
static void judge_previous(cdp_watchdog *w, int64_t now) {
    look(&w->beats, atomic_load(&w->n_heard), now);
    const int64_t silent = now - w->beats.at_ns;
    if (w->world->size == 1 || silent <= w->limit_ns + second + w->beat_ns)
        return;
    const int previous = (w->world->rank + w->world->size - 1) % w->world->size;
    name_silent(w, previous, silent);
}

/* What the rank this one receives from last said; of a rank of another host the beats tell it. */
static int64_t ready_of(const cdp_watchdog *w, int rank) {
    if (w->peers != NULL && w->peers[rank].door != NULL)
        return cdp_door_read(w->peers[rank].door).n_ready;
    return w->heard.sender == rank ? w->heard.n_ready : -1;
}

/* A receiver that waits is no fault, nor is a sender whose data nobody has asked for yet; but both at once is
 * one after a while. A second more than for a silent rank, which is the better name for the same thing. */
static void judge_message(cdp_watchdog *w, int64_t now) {
    const int64_t awaits = atomic_load(&w->awaits);
    const int from = atomic_load(&w->awaits_from);
    if (awaits < 0 || ready_of(w, from) <= awaits) {
        w->missed = -1;
    } else if (w->missed != awaits) {
        w->missed = awaits;
        w->missed_ns = now;
    } else if (now - w->missed_ns > w->limit_ns + 2 * second + w->beat_ns) {
        name_lost(w, from, awaits, now - w->missed_ns);
    }
}

/* When this thread itself slept far too long, the whole machine or job was suspended: nobody is accused of
 * what happened meanwhile. */
static void restart_clocks(cdp_watchdog *w, int64_t now) {
    w->turns.at_ns = w->beats.at_ns = w->work.at_ns = now;
    w->missed = -1;
}

void *cdp_watch_main(void *argument) {
    cdp_watchdog *w = argument;
    struct pollfd *fds = calloc((size_t)w->world->size + 1, sizeof *fds);
    int64_t before = cdp_now_ns();
    w->n_oom_kills = cdp_death_oom_kills();
    w->oom_read_ns = before;
    while (fds != NULL && !atomic_load(&w->is_ending)) {
        pthread_mutex_lock(&w->lock);
        const int tick_ms = w->limit_ns / 10 < second / 10 ? (int)(w->limit_ns / 10000000) + 1 : 100;
        pthread_mutex_unlock(&w->lock);
        sleep_until_end(w, fds, tick_ms);
        const int64_t now = cdp_now_ns();
        if (now - before > second / 2 + (int64_t)tick_ms * 1000000)
            restart_clocks(w, now);
        before = now;
        pthread_mutex_lock(&w->lock);
        look_at_oom_kills(w, now);
        if (w->peers != NULL)
            judge_dead(w, now);
        if (w->leave_ns == 0) { /* else this rank is leaving already */
            judge_myself(w, now);
            judge_previous(w, now);
            judge_message(w, now);
        }
        pthread_mutex_unlock(&w->lock);
    }
    free(fds);
    return NULL;
}
