/* The road through MPI and host memory. The tag of data is its seat.
 *
 *     requests    [ recv 0 .. n-1 | send 0 .. n-1 ]      one MPI_Testsome moves them all
 */
#include "comm/link_road.h"

#include <stdlib.h>

typedef struct mpi_road {
    MPI_Request *requests; /* (2 * n_seats) recvs, then sends */
    int *done;             /* (2 * n_seats) what MPI_Testsome fills */
    MPI_Status *statuses;  /* (2 * n_seats) */
} mpi_road;

static const char *unfit(const cdp_link_options *options) {
    return options->n_active > 1 ? NULL : "it connects several ranks";
}

/* Data ------------------------------------------------------------------------------------------------- */

static cdp_status start_recv(cdp_link *link, int seat) {
    mpi_road *road = link->of_road;
    const cdp_parcel *parcel = &link->recvs[seat];
    const int rc = MPI_Irecv(parcel->buffer, (int)parcel->n_bytes, MPI_BYTE, link->previous, /*tag=*/seat,
                             link->world->data, &road->requests[seat]);
    return rc == MPI_SUCCESS ? CDP_OK : cdp_fail_peer("asking for data of", link->previous, rc);
}

static cdp_status start_send(cdp_link *link, int seat) {
    mpi_road *road = link->of_road;
    const cdp_parcel *parcel = &link->sends[seat];
    const int rc = MPI_Issend(parcel->buffer, (int)parcel->n_bytes, MPI_BYTE, link->next, /*tag=*/seat,
                              link->world->data, &road->requests[link->n_seats + seat]);
    if (rc != MPI_SUCCESS)
        return cdp_fail_peer("sending data to", link->next, rc);
    cdp_bell_ring(link->world);
    return CDP_OK;
}

static cdp_status end_recv(cdp_link *link, int seat, const MPI_Status *status, int code) {
    const cdp_parcel *parcel = &link->recvs[seat];
    int n_bytes = 0, error_class = 0;
    MPI_Error_class(code, &error_class);
    if (error_class == MPI_ERR_TRUNCATE)
        return cdp_fail(CDP_INTERNAL, "seat %d: rank %d sent more than the expected %zu bytes", seat,
                        link->previous, parcel->n_bytes);
    if (code != MPI_SUCCESS)
        return cdp_fail_peer("data of", link->previous, code);
    MPI_Get_count(status, MPI_BYTE, &n_bytes);
    if ((size_t)n_bytes != parcel->n_bytes)
        return cdp_fail(CDP_INTERNAL, "seat %d: rank %d sent %d bytes, expected %zu", seat, link->previous,
                        n_bytes, parcel->n_bytes);
    return cdp_link_arrived(link, seat);
}

static cdp_status end_send(cdp_link *link, int seat, int code) {
    if (code != MPI_SUCCESS)
        return cdp_fail_peer("data to", link->next, code);
    cdp_link_gone(link, seat);
    return CDP_OK;
}

static cdp_status poll_mpi(cdp_link *link) {
    mpi_road *road = link->of_road;
    int n_done = 0;
    const int rc = MPI_Testsome(2 * link->n_seats, road->requests, &n_done, road->done, road->statuses);
    if (rc != MPI_SUCCESS && rc != MPI_ERR_IN_STATUS)
        return cdp_from_mpi(rc, "MPI_Testsome");
    if (n_done == MPI_UNDEFINED) /* nothing is on the way */
        return CDP_OK;
    for (int i = 0; i < n_done; i++) {
        /* The statuses hold codes of their own only when the call says so. */
        const int code = rc == MPI_ERR_IN_STATUS ? road->statuses[i].MPI_ERROR : MPI_SUCCESS;
        const int seat = road->done[i] % link->n_seats;
        if (road->done[i] < link->n_seats)
            CDP_TRY(end_recv(link, seat, &road->statuses[i], code));
        else
            CDP_TRY(end_send(link, seat, code));
    }
    return CDP_OK;
}

/* Open, close ------------------------------------------------------------------------------------------ */

static cdp_status open_mpi(cdp_link *link, int64_t deadline_ns) {
    (void)deadline_ns; /* MPI connects by itself, with the first message */
    const size_t n = (size_t)link->n_seats;
    mpi_road *road = calloc(1, sizeof *road);
    link->of_road = road;
    if (road == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the link");
    road->requests = calloc(2 * n, sizeof(MPI_Request));
    road->done = calloc(2 * n, sizeof *road->done);
    road->statuses = calloc(2 * n, sizeof *road->statuses);
    for (size_t i = 0; road->requests != NULL && i < 2 * n; i++)
        road->requests[i] = MPI_REQUEST_NULL;
    if (road->requests == NULL || road->done == NULL || road->statuses == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d seats of the link", link->n_seats);
    return CDP_OK;
}

/* A posted receive must be taken back before its buffer goes. A send cannot be: MPI is only told that nobody
 * will ask for its end. */
void cdp_drop_request(MPI_Request *request, bool is_recv) {
    if (*request == MPI_REQUEST_NULL)
        return;
    if (!is_recv) {
        MPI_Request_free(request);
        return;
    }
    MPI_Cancel(request);
    MPI_Wait(request, MPI_STATUS_IGNORE);
}

static void close_mpi(cdp_link *link) {
    mpi_road *road = link->of_road;
    if (road == NULL)
        return;
    for (int i = 0; road->requests != NULL && i < 2 * link->n_seats; i++)
        cdp_drop_request(&road->requests[i], /*is_recv=*/i < link->n_seats);
    free(road->requests);
    free(road->done);
    free(road->statuses);
    free(road);
}

const cdp_road cdp_road_mpi = {
    .name = "mpi",
    .unfit = unfit,
    .open = open_mpi,
    .close = close_mpi,
    .start_send = start_send,
    .start_recv = start_recv,
    .poll = poll_mpi,
};
