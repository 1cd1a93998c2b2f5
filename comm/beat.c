/* Beats: each rank tells its next one that its main loop turns, and what it does. */
#include "comm/watch.h"

static int next_rank(const cdp_world *world) {
    return (world->rank + 1) % world->size;
}
static int previous_rank(const cdp_world *world) {
    return (world->rank + world->size - 1) % world->size;
}

cdp_status cdp_beat_open(cdp_watchdog *w) {
    cdp_world *world = w->world;
    w->beat_in = w->beat_out = MPI_REQUEST_NULL;
    if (world->size == 1)
        return CDP_OK;
    CDP_TRY(cdp_from_mpi(MPI_Recv_init(&w->label_in, (int)sizeof w->label_in, MPI_BYTE, previous_rank(world),
                                       /*tag=*/0, world->beats, &w->beat_in),
                         "receiving beats"));
    return cdp_from_mpi(MPI_Start(&w->beat_in), "receiving beats");
}

static cdp_status take_beats(cdp_watchdog *w) {
    for (;;) {
        int is_done = 0;
        CDP_TRY(cdp_from_mpi(MPI_Test(&w->beat_in, &is_done, MPI_STATUS_IGNORE), "receiving beats"));
        if (!is_done)
            return CDP_OK;
        atomic_fetch_add(&w->n_heard, 1);
        pthread_mutex_lock(&w->lock);
        w->heard = w->label_in;
        pthread_mutex_unlock(&w->lock);
        CDP_TRY(cdp_from_mpi(MPI_Start(&w->beat_in), "receiving beats"));
    }
}

/* A rank without layers is no part of the ring of messages, but stands in that of beats: it passes on what it
 * heard, and the next rank that has layers hears of the one it receives from. */
static cdp_label label_to_send(const cdp_watchdog *w) {
    cdp_label label = cdp_door_read(w->door);
    label.sender = w->world->rank;
    if (label.n_ready < 0) {
        label.sender = w->heard.sender;
        label.n_ready = w->heard.n_ready;
    }
    return label;
}

/* A beat that has not left yet is enough: a rank that takes none would only pile them up. */
static cdp_status send_beat(cdp_watchdog *w, int64_t now_ns) {
    int is_done = 0;
    CDP_TRY(cdp_from_mpi(MPI_Test(&w->beat_out, &is_done, MPI_STATUS_IGNORE), "sending a beat"));
    if (!is_done)
        return CDP_OK;
    w->label_out = label_to_send(w);
    w->next_beat_ns = now_ns + w->beat_ns;
    return cdp_from_mpi(MPI_Isend(&w->label_out, (int)sizeof w->label_out, MPI_BYTE, next_rank(w->world),
                                  /*tag=*/0, w->world->beats, &w->beat_out),
                        "sending a beat");
}

cdp_status cdp_beat_turn(cdp_watchdog *w) {
    if (w->world->size == 1)
        return CDP_OK;
    CDP_TRY(take_beats(w));
    const int64_t now_ns = cdp_now_ns();
    return now_ns < w->next_beat_ns ? CDP_OK : send_beat(w, now_ns);
}

cdp_status cdp_beat_close(cdp_watchdog *w) {
    /* A few bytes: they are with the next rank's MPI long before it leaves. The wait takes beats itself, so
     * the receive goes behind it. */
    const cdp_status st =
        w->beat_out == MPI_REQUEST_NULL ? CDP_OK : cdp_mpi_wait(w->world, &w->beat_out, "the last beat");
    if (w->beat_in != MPI_REQUEST_NULL) {
        MPI_Cancel(&w->beat_in);
        MPI_Wait(&w->beat_in, MPI_STATUS_IGNORE);
        MPI_Request_free(&w->beat_in);
    }
    return st;
}
