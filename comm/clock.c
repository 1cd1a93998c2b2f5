/* Clocks of two hosts, compared by messages there and back. */
#include "comm/inside.h"

enum { ROUNDS = 16, TAG = 1 };

/* One message to rank 0 and its answer. */
static cdp_status ask_time(cdp_world *world, int64_t *their_ns) {
    int64_t none = 0;
    MPI_Request out, in;
    CDP_TRY(cdp_from_mpi(MPI_Irecv(their_ns, 1, MPI_INT64_T, 0, TAG, world->agreements, &in), "clocks"));
    CDP_TRY(cdp_from_mpi(MPI_Isend(&none, 1, MPI_INT64_T, 0, TAG, world->agreements, &out), "clocks"));
    CDP_TRY(cdp_mpi_wait(world, &out, "clocks"));
    return cdp_mpi_wait(world, &in, "clocks");
}

static cdp_status tell_time(cdp_world *world, int rank) {
    int64_t none, now;
    MPI_Request request;
    CDP_TRY(cdp_from_mpi(MPI_Irecv(&none, 1, MPI_INT64_T, rank, TAG, world->agreements, &request), "clocks"));
    CDP_TRY(cdp_mpi_wait(world, &request, "clocks"));
    now = cdp_now_ns();
    CDP_TRY(cdp_from_mpi(MPI_Isend(&now, 1, MPI_INT64_T, rank, TAG, world->agreements, &request), "clocks"));
    return cdp_mpi_wait(world, &request, "clocks");
}

/* The quickest answer is the one whose middle is known best. On rank 0's host there is one clock for all. */
cdp_status cdp_world_clock(cdp_world *world, int64_t *offset_ns_out) {
    int64_t quickest = INT64_MAX;
    *offset_ns_out = 0;
    for (int rank = 1; rank < world->size; rank++) {
        for (int i = 0; i < ROUNDS && world->rank == 0; i++)
            CDP_TRY(tell_time(world, rank));
        for (int i = 0; i < ROUNDS && world->rank == rank; i++) {
            int64_t theirs = 0;
            const int64_t asked = cdp_now_ns();
            CDP_TRY(ask_time(world, &theirs));
            const int64_t told = cdp_now_ns();
            if (told - asked >= quickest)
                continue;
            quickest = told - asked;
            *offset_ns_out = theirs - (asked + (told - asked) / 2);
        }
    }
    if (world->host_leader == 0)
        *offset_ns_out = 0;
    return CDP_OK;
}
