/* The road of one active rank: the ring closes on itself. A send meets the receive of the same place; the
 * bytes are home rows only, so the copy is short enough for the main thread, and it must not stand in the
 * device's queue behind the steps that were queued meanwhile. */
#include "comm/link_road.h"

#include <string.h>

static bool fits(const cdp_link_options *options) {
    return options->n_active == 1;
}

static cdp_status open_local(cdp_link *link) {
    (void)link;
    return CDP_OK;
}

static void close_local(cdp_link *link) {
    (void)link;
}

/* Both sides come here; whoever is second does the work. */
static cdp_status meet(cdp_link *link, int place) {
    cdp_parcel *from = &link->sends[place], *to = &link->recvs[place];
    if (from->state != CDP_PARCEL_MOVING || to->state != CDP_PARCEL_MOVING)
        return CDP_OK;
    if (from->n_bytes != to->n_bytes)
        return cdp_fail(CDP_INTERNAL, "place %d: rank %d sent %zu bytes to itself, expected %zu", place,
                        link->next, from->n_bytes, to->n_bytes);
    if (from->buffer != to->buffer && from->n_bytes > 0)
        memmove(to->buffer, from->buffer, from->n_bytes);
    link->n_sent += from->n_bytes;
    link->n_received += to->n_bytes;
    from->state = to->state = CDP_PARCEL_FREE;
    return CDP_OK;
}

static cdp_status poll_local(cdp_link *link) {
    (void)link;
    return CDP_OK;
}

/* A rank that is first and last has nobody to send a header to; link.c never comes here. */
static cdp_status send_header(cdp_link *link, const void *bytes, size_t n_bytes) {
    (void)link, (void)bytes, (void)n_bytes;
    return CDP_OK;
}

static cdp_status take_header(cdp_link *link, const void **bytes_out, size_t *n_bytes_out) {
    (void)link, (void)bytes_out, (void)n_bytes_out;
    return CDP_OK;
}

const cdp_road cdp_road_local = {
    .name = "local",
    .fits = fits,
    .open = open_local,
    .close = close_local,
    .start_send = meet,
    .start_recv = meet,
    .poll = poll_local,
    .send_header = send_header,
    .take_header = take_header,
};
