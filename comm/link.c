#include "comm/link_road.h"

#include <limits.h>
#include <stdlib.h>

static const cdp_road *const roads[] = {&cdp_road_local, &cdp_road_mpi};

/* The first road that fits; all active ranks have equal options and so choose the same. */
static const cdp_road *choose_road(const cdp_link_options *options) {
    for (size_t i = 0; i < sizeof roads / sizeof *roads; i++)
        if (roads[i]->fits(options))
            return roads[i];
    return NULL;
}

static cdp_status find_neighbours(cdp_link *link, const cdp_link_options *options) {
    const int n = options->n_active;
    for (int i = 0; i < n; i++) {
        if (options->active[i] != link->world->rank)
            continue;
        link->previous = options->active[(i + n - 1) % n];
        link->next = options->active[(i + 1) % n];
        link->is_first = i == 0;
        link->is_last = i == n - 1;
        return CDP_OK;
    }
    return cdp_fail(CDP_INTERNAL, "rank %d opens a link of %d active ranks and is none of them",
                    link->world->rank, n);
}

cdp_status cdp_link_open(cdp_link **out, cdp_world *world, const cdp_link_options *options) {
    *out = NULL;
    cdp_status st = CDP_OK;
    cdp_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the link");
    link->world = world;
    link->device = options->device;
    link->n_places = options->n_places;
    link->max_header_bytes = options->max_header_bytes;
    CDP_TRY_GOTO(find_neighbours(link, options), st, failed);
    link->sends = calloc((size_t)link->n_places, sizeof *link->sends);
    link->recvs = calloc((size_t)link->n_places, sizeof *link->recvs);
    if (link->sends == NULL || link->recvs == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory for %d places of the link", link->n_places);
        goto failed;
    }
    link->road = choose_road(options);
    if (link->road == NULL) {
        st = cdp_fail(CDP_UNAVAILABLE, "no road connects %d ranks", options->n_active);
        goto failed;
    }
    CDP_TRY_GOTO(link->road->open(link), st, failed);
    *out = link;
    return CDP_OK;
failed:
    cdp_link_close(link);
    return st;
}

void cdp_link_close(cdp_link *link) {
    if (link == NULL)
        return;
    if (link->road != NULL)
        link->road->close(link);
    free(link->sends);
    free(link->recvs);
    free(link);
}

const char *cdp_link_road(const cdp_link *link) {
    return link->road->name;
}

cdp_status cdp_link_send_header(cdp_link *link, const void *bytes, size_t n_bytes) {
    if (n_bytes > link->max_header_bytes)
        return cdp_fail(CDP_INTERNAL, "a step header of %zu bytes, room for %zu", n_bytes,
                        link->max_header_bytes);
    return link->is_last ? CDP_OK : link->road->send_header(link, bytes, n_bytes);
}

cdp_status cdp_link_take_header(cdp_link *link, const void **bytes_out, size_t *n_bytes_out) {
    *bytes_out = NULL;
    *n_bytes_out = 0;
    return link->is_first ? CDP_OK : link->road->take_header(link, bytes_out, n_bytes_out);
}

/* The free parcel of a place, ready for n_bytes. */
static cdp_status claim(const cdp_link *link, cdp_parcel *parcels, int place, const char *verb,
                        size_t n_bytes) {
    if (place < 0 || place >= link->n_places)
        return cdp_fail(CDP_INTERNAL, "%s of place %d, the link has %d", verb, place, link->n_places);
    if (parcels[place].state != CDP_PARCEL_FREE)
        return cdp_fail(CDP_INTERNAL, "a second %s of place %d while one is on the way", verb, place);
    if (n_bytes > INT_MAX) /* MPI counts in int; a step of 2 GiB is no step */
        return cdp_fail(CDP_INTERNAL, "%s of %zu bytes, at most %d are possible", verb, n_bytes, INT_MAX);
    return CDP_OK;
}

cdp_status cdp_link_recv(cdp_link *link, int place, void *buffer, size_t n_bytes) {
    CDP_TRY(claim(link, link->recvs, place, "receive", n_bytes));
    link->recvs[place] = (cdp_parcel){CDP_PARCEL_MOVING, buffer, n_bytes, 0};
    return link->road->start_recv(link, place);
}

static cdp_status start_if_reached(cdp_link *link, int place) {
    cdp_parcel *parcel = &link->sends[place];
    if (parcel->state != CDP_PARCEL_WAITING || !cdp_device_reached(link->device, parcel->after))
        return CDP_OK;
    parcel->state = CDP_PARCEL_MOVING;
    return link->road->start_send(link, place);
}

cdp_status cdp_link_send(cdp_link *link, int place, const void *buffer, size_t n_bytes, cdp_event after) {
    CDP_TRY(claim(link, link->sends, place, "send", n_bytes));
    /* MPI's older calls and this struct take pointers to plain bytes; nobody writes through this one. */
    link->sends[place] = (cdp_parcel){CDP_PARCEL_WAITING, (void *)(uintptr_t)buffer, n_bytes, after};
    return start_if_reached(link, place);
}

bool cdp_link_received(const cdp_link *link, int place) {
    return link->recvs[place].state == CDP_PARCEL_FREE;
}

bool cdp_link_sent(const cdp_link *link, int place) {
    return link->sends[place].state == CDP_PARCEL_FREE;
}

cdp_status cdp_link_poll(cdp_link *link) {
    CDP_TRY(cdp_world_poll(link->world));
    for (int place = 0; place < link->n_places; place++)
        CDP_TRY(start_if_reached(link, place));
    return link->road->poll(link);
}

void cdp_link_traffic(const cdp_link *link, uint64_t *n_sent_out, uint64_t *n_received_out) {
    *n_sent_out = link->n_sent;
    *n_received_out = link->n_received;
}
