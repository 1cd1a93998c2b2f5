/* The road of one active rank: the ring closes on itself. A send meets the receive of the same seat; the
 * bytes are home rows only, so the copy is short enough for the main thread, and it must not stand in the
 * device's queue behind the steps that were queued meanwhile. (On a GPU the host cannot reach them, and rank
 * 0's pipeline sends and receives them in one place, so that nothing is copied.) */
#include "comm/link_road.h"

#include <string.h>

static const char *unfit(const cdp_link_options *options) {
    return options->n_active == 1 ? NULL : "it is for one active rank";
}

static cdp_status open_local(cdp_link *link, int64_t deadline_ns) {
    (void)link, (void)deadline_ns;
    return CDP_OK;
}

static void close_local(cdp_link *link) {
    (void)link;
}

/* Both sides come here; whoever is second does the work. */
static cdp_status meet(cdp_link *link, int seat) {
    cdp_parcel *from = &link->sends[seat], *to = &link->recvs[seat];
    if (from->state != CDP_PARCEL_MOVING || to->state != CDP_PARCEL_MOVING)
        return CDP_OK;
    if (from->n_bytes != to->n_bytes)
        return cdp_fail(CDP_INTERNAL, "seat %d: rank %d sent %zu bytes to itself, expected %zu", seat,
                        link->next, from->n_bytes, to->n_bytes);
    if (!cdp_device_is_host(link->device))
        CDP_TRY(cdp_device_copy(link->device, to->buffer, from->buffer, from->n_bytes));
    else if (from->buffer != to->buffer && from->n_bytes > 0)
        memmove(to->buffer, from->buffer, from->n_bytes);
    cdp_link_gone(link, seat);
    return cdp_link_arrived(link, seat);
}

static cdp_status poll_local(cdp_link *link) {
    (void)link;
    return CDP_OK;
}

const cdp_road cdp_road_local = {
    .name = "local",
    .unfit = unfit,
    .open = open_local,
    .close = close_local,
    .start_send = meet,
    .start_recv = meet,
    .poll = poll_local,
};
