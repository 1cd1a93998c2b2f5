/* Step headers on their way by MPI, whatever road the data take.
 *
 *     in   a ring of n posted receives, taken in the order they were posted
 *     out  a list; the first n are on the way
 */
#include "comm/link_road.h"

#include <stdlib.h>
#include <string.h>

struct cdp_header_out {
    cdp_header_out *next;
    MPI_Request request;
    bool is_moving;
    size_t n_bytes;
    unsigned char bytes[];
};

/* What a rank says about its neighbour: the caller learns which of them to look at. */
cdp_status cdp_fail_peer(const char *what, int peer, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return cdp_fail(CDP_INTERNAL, "%s rank %d: %s", what, peer, text);
}

/* In -------------------------------------------------------------------------------------------------- */

static unsigned char *header_room(const cdp_link *link, int i) {
    const cdp_headers *h = &link->headers;
    return h->bytes + (size_t)i * link->max_header_bytes;
}

static cdp_status ask_header(cdp_link *link, int i) {
    cdp_headers *h = &link->headers;
    const int rc = MPI_Irecv(header_room(link, i), (int)link->max_header_bytes, MPI_BYTE, link->previous,
                             /*tag=*/0, link->world->headers, &h->in[i]);
    return rc == MPI_SUCCESS ? CDP_OK : cdp_fail_peer("asking for a header of", link->previous, rc);
}

cdp_status cdp_headers_take(cdp_link *link, const void **bytes_out, size_t *n_bytes_out) {
    cdp_headers *h = &link->headers;
    if (h->lent >= 0) {
        const int lent = h->lent;
        h->lent = -1;
        CDP_TRY(ask_header(link, lent));
    }
    int is_done = 0, n_bytes = 0;
    MPI_Status status;
    const int rc = MPI_Test(&h->in[h->next_in], &is_done, &status);
    if (rc != MPI_SUCCESS)
        return cdp_fail_peer("a header of", link->previous, rc);
    if (!is_done)
        return CDP_OK;
    MPI_Get_count(&status, MPI_BYTE, &n_bytes);
    *bytes_out = header_room(link, h->next_in);
    *n_bytes_out = (size_t)n_bytes;
    h->lent = h->next_in;
    h->next_in = (h->next_in + 1) % link->n_seats;
    return CDP_OK;
}

/* Out ------------------------------------------------------------------------------------------------- */

/* Headers go by plain sends and not by synchronous ones: the last one says stop, and its sender leaves right
 * after it. The data's synchronous sends already hold back a rank that runs ahead. */
cdp_status cdp_headers_poll(cdp_link *link) {
    cdp_headers *h = &link->headers;
    while (h->first_out != NULL && h->first_out->is_moving) {
        cdp_header_out *first = h->first_out;
        int is_done = 0;
        const int rc = MPI_Test(&first->request, &is_done, MPI_STATUS_IGNORE);
        if (rc != MPI_SUCCESS)
            return cdp_fail_peer("a header to", link->next, rc);
        if (!is_done)
            break;
        h->first_out = first->next;
        h->n_out_moving--;
        free(first);
    }
    if (h->first_out == NULL)
        h->end_out = &h->first_out;
    for (cdp_header_out *out = h->first_out; out != NULL && h->n_out_moving < link->n_seats;
         out = out->next) {
        if (out->is_moving)
            continue;
        const int rc = MPI_Isend(out->bytes, (int)out->n_bytes, MPI_BYTE, link->next, /*tag=*/0,
                                 link->world->headers, &out->request);
        if (rc != MPI_SUCCESS)
            return cdp_fail_peer("a header to", link->next, rc);
        out->is_moving = true;
        h->n_out_moving++;
        cdp_bell_ring(link->world);
    }
    return CDP_OK;
}

cdp_status cdp_headers_send(cdp_link *link, const void *bytes, size_t n_bytes) {
    cdp_headers *h = &link->headers;
    cdp_header_out *header = malloc(sizeof *header + n_bytes);
    if (header == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a step header of %zu bytes", n_bytes);
    *header = (cdp_header_out){.request = MPI_REQUEST_NULL, .n_bytes = n_bytes};
    memcpy(header->bytes, bytes, n_bytes);
    *h->end_out = header;
    h->end_out = &header->next;
    return cdp_headers_poll(link);
}

/* Open, close ------------------------------------------------------------------------------------------ */

cdp_status cdp_headers_open(cdp_link *link) {
    cdp_headers *h = &link->headers;
    const size_t n = (size_t)link->n_seats;
    h->end_out = &h->first_out;
    h->lent = -1;
    if (link->is_first)
        return CDP_OK;
    h->in = calloc(n, sizeof(MPI_Request));
    h->bytes = calloc(n, link->max_header_bytes);
    for (size_t i = 0; h->in != NULL && i < n; i++)
        h->in[i] = MPI_REQUEST_NULL;
    if (h->in == NULL || h->bytes == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d step headers", link->n_seats);
    for (int i = 0; i < link->n_seats; i++)
        CDP_TRY(ask_header(link, i));
    return CDP_OK;
}

void cdp_headers_close(cdp_link *link) {
    cdp_headers *h = &link->headers;
    for (int i = 0; h->in != NULL && i < link->n_seats; i++)
        cdp_drop_request(&h->in[i], /*is_recv=*/true);
    while (h->first_out != NULL) {
        cdp_header_out *first = h->first_out;
        int is_done = 1;
        h->first_out = first->next;
        if (first->is_moving)
            MPI_Test(&first->request, &is_done, MPI_STATUS_IGNORE);
        if (is_done)
            free(first);
        else
            cdp_drop_request(&first->request, /*is_recv=*/false); /* MPI still reads the bytes: left to it */
    }
    free(h->in);
    free(h->bytes);
}
