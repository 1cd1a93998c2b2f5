/* Collectives as test loops: what all ranks decide together. */
#include "comm/inside.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

cdp_status cdp_mpi_wait(cdp_world *world, MPI_Request *request, const char *what) {
    cdp_waiter waiter = {0};
    for (;;) {
        int is_done = 0;
        CDP_TRY(cdp_from_mpi(MPI_Test(request, &is_done, MPI_STATUS_IGNORE), what));
        if (is_done)
            return CDP_OK;
        CDP_TRY(cdp_world_poll(world));
        cdp_wait_pause(&waiter);
    }
}

cdp_status cdp_world_min(cdp_world *world, int64_t *value) {
    if (world->size == 1)
        return CDP_OK;
    const int64_t mine = *value;
    MPI_Request request;
    CDP_TRY(cdp_from_mpi(MPI_Iallreduce(&mine, value, 1, MPI_INT64_T, MPI_MIN, world->agreements, &request),
                         "agreement"));
    return cdp_mpi_wait(world, &request, "agreement");
}

static cdp_status broadcast_from(cdp_world *world, int root, void *bytes, size_t n) {
    const size_t most = 1u << 30; /* MPI counts in int */
    for (size_t at = 0; at < n; at += most) {
        const int count = (int)(n - at < most ? n - at : most);
        MPI_Request request;
        CDP_TRY(cdp_from_mpi(
            MPI_Ibcast((char *)bytes + at, count, MPI_BYTE, root, world->agreements, &request), "broadcast"));
        CDP_TRY(cdp_mpi_wait(world, &request, "broadcast"));
    }
    return CDP_OK;
}

cdp_status cdp_world_broadcast(cdp_world *world, void *bytes, size_t n) {
    return world->size == 1 ? CDP_OK : broadcast_from(world, /*root=*/0, bytes, n);
}

cdp_status cdp_world_gather_start(cdp_world *world, void *all, const void *mine, size_t n) {
    if (world->size == 1) {
        memcpy(all, mine, n);
        return CDP_OK;
    }
    if (n > INT_MAX / (size_t)world->size)
        return cdp_fail(CDP_INTERNAL, "a gather of %zu bytes from each of %d ranks is too large", n,
                        world->size);
    return cdp_from_mpi(
        MPI_Iallgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, world->agreements, &world->gather),
        "gather");
}

cdp_status cdp_world_gather_test(cdp_world *world, bool *is_done_out) {
    int is_done = 1;
    if (world->size > 1)
        CDP_TRY(cdp_from_mpi(MPI_Test(&world->gather, &is_done, MPI_STATUS_IGNORE), "gather"));
    *is_done_out = is_done != 0;
    return CDP_OK;
}

cdp_status cdp_world_gather(cdp_world *world, void *all, const void *mine, size_t n) {
    CDP_TRY(cdp_world_gather_start(world, all, mine, n));
    return world->size == 1 ? CDP_OK : cdp_mpi_wait(world, &world->gather, "gather");
}

cdp_status cdp_world_barrier(cdp_world *world) {
    if (world->size == 1)
        return CDP_OK;
    MPI_Request request;
    CDP_TRY(cdp_from_mpi(MPI_Ibarrier(world->agreements, &request), "barrier"));
    return cdp_mpi_wait(world, &request, "barrier");
}

cdp_status cdp_world_agree(cdp_world *world, cdp_status mine) {
    if (world->size == 1)
        return mine;
    int64_t first = mine == CDP_OK ? world->size : world->rank;
    CDP_TRY(cdp_world_min(world, &first));
    if (first == world->size)
        return CDP_OK;

    struct {
        int32_t status;
        char message[1024];
    } verdict = {(int32_t)mine, ""};
    char who[24] = "";
    if (strcmp(world->verdict, cdp_error_message()) != 0) /* else it comes from an agreement and has a name */
        snprintf(who, sizeof who, "rank %d: ", world->rank);
    if (first == world->rank)
        snprintf(verdict.message, sizeof verdict.message, "%s%s", who, cdp_error_message());
    CDP_TRY(broadcast_from(world, (int)first, &verdict, sizeof verdict));
    memcpy(world->verdict, verdict.message, sizeof world->verdict);
    /* Every rank now has the same message; what a later rank found on its own is dropped for it. */
    cdp_error_clear();
    return cdp_fail((cdp_status)verdict.status, "%s", verdict.message);
}
