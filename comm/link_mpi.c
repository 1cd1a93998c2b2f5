/* The road through MPI and host memory. Data and headers have a communicator each; the tag of data is its
 * place.
 *
 *     requests    [ recv 0 .. n-1 | send 0 .. n-1 ]      one MPI_Testsome moves them all
 *     headers in  a ring of n posted receives, taken in the order they were posted
 *     headers out a list; the first n are on the way
 */
#include "comm/link_road.h"

#include <stdlib.h>
#include <string.h>

typedef struct header_out {
    struct header_out *next;
    MPI_Request request;
    bool is_moving;
    size_t n_bytes;
    unsigned char bytes[];
} header_out;

typedef struct mpi_road {
    MPI_Request *requests; /* (2 * n_places) recvs, then sends */
    int *done;             /* (2 * n_places) what MPI_Testsome fills */
    MPI_Status *statuses;  /* (2 * n_places) */

    MPI_Request *headers_in; /* (n_places) NULL on the first rank */
    unsigned char *header_bytes;
    int next_in; /* the receive that the next header comes into */
    int lent;    /* the receive whose bytes the caller reads, or -1 */

    header_out *first_out, **end_out;
    int n_out_moving;
} mpi_road;

static bool fits(const cdp_link_options *options) {
    return options->n_active > 1;
}

/* What a rank says about its neighbour: the caller learns which of them to look at. */
static cdp_status fail_message(const char *what, int peer, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return cdp_fail(CDP_INTERNAL, "%s rank %d: %s", what, peer, text);
}

/* Headers in ------------------------------------------------------------------------------------------- */

static unsigned char *header_room(const cdp_link *link, int i) {
    const mpi_road *road = link->of_road;
    return road->header_bytes + (size_t)i * link->max_header_bytes;
}

static cdp_status ask_header(cdp_link *link, int i) {
    mpi_road *road = link->of_road;
    const int rc = MPI_Irecv(header_room(link, i), (int)link->max_header_bytes, MPI_BYTE, link->previous,
                             /*tag=*/0, link->world->headers, &road->headers_in[i]);
    return rc == MPI_SUCCESS ? CDP_OK : fail_message("asking for a header of", link->previous, rc);
}

static cdp_status take_header(cdp_link *link, const void **bytes_out, size_t *n_bytes_out) {
    mpi_road *road = link->of_road;
    if (road->lent >= 0) {
        const int lent = road->lent;
        road->lent = -1;
        CDP_TRY(ask_header(link, lent));
    }
    int is_done = 0, n_bytes = 0;
    MPI_Status status;
    const int rc = MPI_Test(&road->headers_in[road->next_in], &is_done, &status);
    if (rc != MPI_SUCCESS)
        return fail_message("a header of", link->previous, rc);
    if (!is_done)
        return CDP_OK;
    MPI_Get_count(&status, MPI_BYTE, &n_bytes);
    *bytes_out = header_room(link, road->next_in);
    *n_bytes_out = (size_t)n_bytes;
    road->lent = road->next_in;
    road->next_in = (road->next_in + 1) % link->n_places;
    return CDP_OK;
}

/* Headers out ------------------------------------------------------------------------------------------ */

/* Headers go by plain sends and not by synchronous ones: the last one says stop, and its sender leaves right
 * after it. The data's synchronous sends already hold back a rank that runs ahead. */
static cdp_status move_headers(cdp_link *link) {
    mpi_road *road = link->of_road;
    while (road->first_out != NULL && road->first_out->is_moving) {
        header_out *first = road->first_out;
        int is_done = 0;
        const int rc = MPI_Test(&first->request, &is_done, MPI_STATUS_IGNORE);
        if (rc != MPI_SUCCESS)
            return fail_message("a header to", link->next, rc);
        if (!is_done)
            break;
        road->first_out = first->next;
        road->n_out_moving--;
        free(first);
    }
    if (road->first_out == NULL)
        road->end_out = &road->first_out;
    for (header_out *h = road->first_out; h != NULL && road->n_out_moving < link->n_places; h = h->next) {
        if (h->is_moving)
            continue;
        const int rc = MPI_Isend(h->bytes, (int)h->n_bytes, MPI_BYTE, link->next, /*tag=*/0,
                                 link->world->headers, &h->request);
        if (rc != MPI_SUCCESS)
            return fail_message("a header to", link->next, rc);
        h->is_moving = true;
        road->n_out_moving++;
    }
    return CDP_OK;
}

static cdp_status send_header(cdp_link *link, const void *bytes, size_t n_bytes) {
    mpi_road *road = link->of_road;
    header_out *header = malloc(sizeof *header + n_bytes);
    if (header == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a step header of %zu bytes", n_bytes);
    *header = (header_out){.request = MPI_REQUEST_NULL, .n_bytes = n_bytes};
    memcpy(header->bytes, bytes, n_bytes);
    *road->end_out = header;
    road->end_out = &header->next;
    return move_headers(link);
}

/* Data ------------------------------------------------------------------------------------------------- */

static cdp_status start_recv(cdp_link *link, int place) {
    mpi_road *road = link->of_road;
    const cdp_parcel *parcel = &link->recvs[place];
    const int rc = MPI_Irecv(parcel->buffer, (int)parcel->n_bytes, MPI_BYTE, link->previous, /*tag=*/place,
                             link->world->data, &road->requests[place]);
    return rc == MPI_SUCCESS ? CDP_OK : fail_message("asking for data of", link->previous, rc);
}

static cdp_status start_send(cdp_link *link, int place) {
    mpi_road *road = link->of_road;
    const cdp_parcel *parcel = &link->sends[place];
    const int rc = MPI_Issend(parcel->buffer, (int)parcel->n_bytes, MPI_BYTE, link->next, /*tag=*/place,
                              link->world->data, &road->requests[link->n_places + place]);
    return rc == MPI_SUCCESS ? CDP_OK : fail_message("sending data to", link->next, rc);
}

static cdp_status end_recv(cdp_link *link, int place, const MPI_Status *status, int code) {
    cdp_parcel *parcel = &link->recvs[place];
    int n_bytes = 0, error_class = 0;
    MPI_Error_class(code, &error_class);
    if (error_class == MPI_ERR_TRUNCATE)
        return cdp_fail(CDP_INTERNAL, "place %d: rank %d sent more than the expected %zu bytes", place,
                        link->previous, parcel->n_bytes);
    if (code != MPI_SUCCESS)
        return fail_message("data of", link->previous, code);
    MPI_Get_count(status, MPI_BYTE, &n_bytes);
    if ((size_t)n_bytes != parcel->n_bytes)
        return cdp_fail(CDP_INTERNAL, "place %d: rank %d sent %d bytes, expected %zu", place, link->previous,
                        n_bytes, parcel->n_bytes);
    link->n_received += parcel->n_bytes;
    parcel->state = CDP_PARCEL_FREE;
    return CDP_OK;
}

static cdp_status end_send(cdp_link *link, int place, int code) {
    cdp_parcel *parcel = &link->sends[place];
    if (code != MPI_SUCCESS)
        return fail_message("data to", link->next, code);
    link->n_sent += parcel->n_bytes;
    parcel->state = CDP_PARCEL_FREE;
    return CDP_OK;
}

static cdp_status poll_mpi(cdp_link *link) {
    mpi_road *road = link->of_road;
    CDP_TRY(move_headers(link));
    int n_done = 0;
    const int rc = MPI_Testsome(2 * link->n_places, road->requests, &n_done, road->done, road->statuses);
    if (rc != MPI_SUCCESS && rc != MPI_ERR_IN_STATUS)
        return cdp_from_mpi(rc, "MPI_Testsome");
    if (n_done == MPI_UNDEFINED) /* nothing is on the way */
        return CDP_OK;
    for (int i = 0; i < n_done; i++) {
        /* The statuses hold codes of their own only when the call says so. */
        const int code = rc == MPI_ERR_IN_STATUS ? road->statuses[i].MPI_ERROR : MPI_SUCCESS;
        const int place = road->done[i] % link->n_places;
        if (road->done[i] < link->n_places)
            CDP_TRY(end_recv(link, place, &road->statuses[i], code));
        else
            CDP_TRY(end_send(link, place, code));
    }
    return CDP_OK;
}

/* Open, close ------------------------------------------------------------------------------------------ */

static cdp_status open_mpi(cdp_link *link) {
    const size_t n = (size_t)link->n_places;
    mpi_road *road = calloc(1, sizeof *road);
    link->of_road = road;
    if (road == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the link");
    road->end_out = &road->first_out;
    road->lent = -1;
    road->requests = calloc(2 * n, sizeof(MPI_Request));
    road->done = calloc(2 * n, sizeof *road->done);
    road->statuses = calloc(2 * n, sizeof *road->statuses);
    for (size_t i = 0; road->requests != NULL && i < 2 * n; i++)
        road->requests[i] = MPI_REQUEST_NULL;
    if (!link->is_first) {
        road->headers_in = calloc(n, sizeof(MPI_Request));
        road->header_bytes = calloc(n, link->max_header_bytes);
        for (size_t i = 0; road->headers_in != NULL && i < n; i++)
            road->headers_in[i] = MPI_REQUEST_NULL;
        if (road->headers_in == NULL || road->header_bytes == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for %d step headers", link->n_places);
    }
    if (road->requests == NULL || road->done == NULL || road->statuses == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d places of the link", link->n_places);
    for (int i = 0; !link->is_first && i < link->n_places; i++)
        CDP_TRY(ask_header(link, i));
    return CDP_OK;
}

/* A posted receive must be taken back before its buffer goes. A send cannot be: MPI is only told that nobody
 * will ask for its end. */
static void drop(MPI_Request *request, bool is_recv) {
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
    for (int i = 0; road->requests != NULL && i < 2 * link->n_places; i++)
        drop(&road->requests[i], /*is_recv=*/i < link->n_places);
    for (int i = 0; road->headers_in != NULL && i < link->n_places; i++)
        drop(&road->headers_in[i], /*is_recv=*/true);
    while (road->first_out != NULL) {
        header_out *first = road->first_out;
        int is_done = 1;
        road->first_out = first->next;
        if (first->is_moving)
            MPI_Test(&first->request, &is_done, MPI_STATUS_IGNORE);
        if (is_done)
            free(first);
        else
            drop(&first->request, /*is_recv=*/false); /* MPI still reads the bytes: they are left to it */
    }
    free(road->requests);
    free(road->done);
    free(road->statuses);
    free(road->headers_in);
    free(road->header_bytes);
    free(road);
}

const cdp_road cdp_road_mpi = {
    .name = "mpi",
    .fits = fits,
    .open = open_mpi,
    .close = close_mpi,
    .start_send = start_send,
    .start_recv = start_recv,
    .poll = poll_mpi,
    .send_header = send_header,
    .take_header = take_header,
};
