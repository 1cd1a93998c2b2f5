#include "comm/link_road.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"

static const cdp_road *const roads[] = {&cdp_road_local, &cdp_road_nccl, &cdp_road_mpi};
enum { N_ROADS = sizeof roads / sizeof *roads };

static cdp_status find_neighbours(cdp_link *link, const cdp_link_options *options) {
    const int n = options->n_active;
    for (int i = 0; i < n; i++) {
        if (options->active[i] != link->world->rank)
            continue;
        link->previous = options->active[(i + n - 1) % n];
        link->next = options->active[(i + 1) % n];
        link->is_first = i == 0;
        link->is_last = i == n - 1;
        link->position = i;
        link->n_active = n;
        return CDP_OK;
    }
    return cdp_fail(CDP_INTERNAL, "rank %d opens a link of %d active ranks and is none of them",
                    link->world->rank, n);
}

static bool is_active(const cdp_world *world, const cdp_link_options *options) {
    for (int i = 0; i < options->n_active; i++)
        if (options->active[i] == world->rank)
            return true;
    return false;
}

/* Giving up a road ------------------------------------------------------------------------------------- */

/* A rank whose road has failed tells all others, who else would wait for it until the deadline. Every road
 * has a tag of its own, so a message that nobody took disturbs no later one. */
enum { TELL_TAG = 31000 };
static const char told_byte = 1; /* stays where it is, for a send that nobody waits for */

static void tell_failure(const cdp_link *link) {
    for (int i = 0; i < link->n_active; i++) {
        MPI_Request request;
        if (link->active[i] != link->world->rank &&
            MPI_Isend(&told_byte, 1, MPI_BYTE, link->active[i], TELL_TAG + link->trial, link->world->data,
                      &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
}

bool cdp_link_gives_up(cdp_link *link, int64_t deadline_ns, cdp_status *status_out) {
    int is_here = 0;
    *status_out = cdp_world_poll(link->world);
    if (*status_out != CDP_OK)
        return true;
    if (MPI_Iprobe(MPI_ANY_SOURCE, TELL_TAG + link->trial, link->world->data, &is_here, MPI_STATUS_IGNORE) ==
            MPI_SUCCESS &&
        is_here) {
        link->is_told = true;
        *status_out = cdp_fail(CDP_UNAVAILABLE, "another rank has given this road up");
        return true;
    }
    return cdp_now_ns() > deadline_ns;
}

/* Opening ---------------------------------------------------------------------------------------------- */

/* What all roads need. */
static cdp_status make_link(cdp_link **out, cdp_world *world, const cdp_link_options *options) {
    *out = NULL;
    cdp_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the link");
    *out = link;
    link->world = world;
    link->device = options->device;
    link->n_seats = options->n_seats;
    link->max_header_bytes = options->max_header_bytes;
    link->max_data_bytes = options->max_data_bytes;
    link->active = options->active;
    CDP_TRY(find_neighbours(link, options));
    link->sends = calloc((size_t)link->n_seats, sizeof *link->sends);
    link->recvs = calloc((size_t)link->n_seats, sizeof *link->recvs);
    if (link->sends == NULL || link->recvs == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d seats of the link", link->n_seats);
    return link->n_active > 1 ? cdp_headers_open(link) : CDP_OK;
}

static void close_road(cdp_link *link) {
    if (link->road != NULL)
        link->road->close(link);
    link->road = NULL;
    link->of_road = NULL;
    if (link->device != NULL && link->is_stuck)
        cdp_device_give_up(link->device, "a message waits for a peer that does not answer");
    if (link->device != NULL)
        cdp_device_host_free(link->device, link->staging);
    link->staging = NULL;
    for (int i = 0; link->sends != NULL && link->recvs != NULL && i < link->n_seats; i++)
        link->sends[i] = link->recvs[i] = (cdp_parcel){0};
}

static cdp_status open_road(cdp_link *link, const cdp_road *road, double timeout_s) {
    const int64_t deadline_ns = cdp_now_ns() + (int64_t)(timeout_s * 1e9);
    link->road = road;
    if (!road->is_on_device && !cdp_device_is_host(link->device) && link->n_active > 1)
        CDP_TRY(cdp_device_host_alloc(link->device, (void **)&link->staging,
                                      2 * (uint64_t)link->n_seats * link->max_data_bytes));
    CDP_TRY(road->open(link, deadline_ns));
    if (link->n_active > 1)
        CDP_TRY(cdp_link_test(link, deadline_ns));
    link->n_sent = link->n_received = 0;
    link->bell = link->n_active > 1 && !road->is_on_device ? cdp_bell_of(link->world, link->previous) : NULL;
    return CDP_OK;
}

/* All ranks together. CDP_OK everywhere, or the same failure everywhere and nothing left of the road. A rank
 * that was told of another's failure has none of its own. */
static cdp_status try_road(cdp_world *world, cdp_link *link, const cdp_road *road, double timeout_s) {
    if (road->meet != NULL)
        CDP_TRY(road->meet(world));
    if (link == NULL)
        return cdp_world_agree(world, CDP_OK);
    link->trial++;
    link->is_told = false;
    cdp_status st = open_road(link, road, timeout_s);
    if (st != CDP_OK && link->is_told) {
        cdp_error_clear();
        st = CDP_OK;
    } else if (st != CDP_OK) {
        tell_failure(link);
    }
    st = cdp_world_agree(world, st);
    if (st != CDP_OK)
        close_road(link);
    return st;
}

/* A device that a given-up road still works on can do nothing else: then there is no next road. */
static cdp_status agree_free(cdp_world *world, const cdp_link *link, const char *why) {
    return cdp_world_agree(world,
                           link == NULL || !link->is_stuck
                               ? CDP_OK
                               : cdp_fail(CDP_UNAVAILABLE,
                                          "%s; the GPU still waits for the peer, so no other road can be "
                                          "taken: --road mpi avoids this one",
                                          why));
}

/* Whether a road fits this ring. The builds of several hosts may differ in NCCL, so that is agreed. */
static cdp_status agree_fit(cdp_world *world, const cdp_road *road, const cdp_link_options *o) {
    const char *unfit = road->unfit(o);
    const cdp_status st = unfit == NULL ? CDP_OK : cdp_fail(CDP_UNAVAILABLE, "%s", unfit);
    return road == &cdp_road_nccl && o->on_gpu && o->n_active > 1 ? cdp_world_agree(world, st) : st;
}

/* The roads in order; the first one that all ranks can open and that passes its test. */
static cdp_status choose_road(cdp_world *world, cdp_link *link, const cdp_link_options *o) {
    char why[1024] = "";
    for (int i = 0; i < N_ROADS; i++) {
        const cdp_road *road = roads[i];
        const bool is_asked = strcmp(o->road, road->name) == 0;
        if (o->n_active > 1 && strcmp(o->road, "auto") != 0 && !is_asked)
            continue;
        cdp_status st = agree_fit(world, road, o);
        if (st != CDP_OK) {
            snprintf(why, sizeof why, "%s", cdp_error_message());
            cdp_error_clear();
            if (st != CDP_UNAVAILABLE || (is_asked && o->n_active > 1))
                return cdp_fail(st, "--road %s: %s", road->name, why);
            if (o->on_gpu && road == &cdp_road_nccl && o->n_active > 1)
                cdp_note("road nccl: %s; hidden states go through host memory by MPI", why);
            continue;
        }
        st = try_road(world, link, road, o->timeout_s);
        if (st == CDP_OK)
            return CDP_OK;
        if (is_asked || road == roads[N_ROADS - 1] || st != CDP_UNAVAILABLE)
            return st;
        snprintf(why, sizeof why, "%s", cdp_error_message());
        cdp_error_clear();
        CDP_TRY(agree_free(world, link, why));
        cdp_note("road %s failed: %s; all ranks take the next one", road->name, why);
    }
    return cdp_fail(CDP_UNAVAILABLE, "no road connects %d ranks", o->n_active);
}

cdp_status cdp_link_open(cdp_link **out, cdp_world *world, const cdp_link_options *options) {
    *out = NULL;
    cdp_link *link = NULL;
    cdp_status st = CDP_OK;
    if (is_active(world, options))
        st = make_link(&link, world, options);
    CDP_TRY_GOTO(cdp_world_agree(world, st), st, failed);
    CDP_TRY_GOTO(choose_road(world, link, options), st, failed);
    if (link != NULL)
        link->active = NULL; /* it is the caller's */
    *out = link;
    return CDP_OK;
failed:
    cdp_link_close(link);
    return st;
}

void cdp_link_close(cdp_link *link) {
    if (link == NULL)
        return;
    close_road(link);
    cdp_headers_close(link);
    free(link->sends);
    free(link->recvs);
    free(link);
}

const char *cdp_link_road(const cdp_link *link) {
    return link->road->name;
}

cdp_link_figures cdp_link_figures_of(const cdp_link *link) {
    return link->figures;
}

cdp_status cdp_link_send_header(cdp_link *link, const void *bytes, size_t n_bytes) {
    if (n_bytes > link->max_header_bytes)
        return cdp_fail(CDP_INTERNAL, "a step header of %zu bytes, room for %zu", n_bytes,
                        link->max_header_bytes);
    return link->is_last ? CDP_OK : cdp_headers_send(link, bytes, n_bytes);
}

cdp_status cdp_link_take_header(cdp_link *link, const void **bytes_out, size_t *n_bytes_out) {
    *bytes_out = NULL;
    *n_bytes_out = 0;
    return link->is_first ? CDP_OK : cdp_headers_take(link, bytes_out, n_bytes_out);
}

/* Parcels ---------------------------------------------------------------------------------------------- */

/* The free parcel of a seat, ready for n_bytes. */
static cdp_status claim(const cdp_link *link, cdp_parcel *parcels, int seat, const char *verb,
                        size_t n_bytes) {
    if (seat < 0 || seat >= link->n_seats)
        return cdp_fail(CDP_INTERNAL, "%s of seat %d, the link has %d", verb, seat, link->n_seats);
    if (parcels[seat].state != CDP_PARCEL_FREE)
        return cdp_fail(CDP_INTERNAL, "a second %s of seat %d while one is on the way", verb, seat);
    if (n_bytes > INT_MAX || n_bytes > link->max_data_bytes) /* MPI counts in int */
        return cdp_fail(CDP_INTERNAL, "%s of %zu bytes, at most %zu are possible", verb, n_bytes,
                        link->max_data_bytes < INT_MAX ? link->max_data_bytes : INT_MAX);
    return CDP_OK;
}

/* The pinned buffer of a seat, number n_seats and up for sends; NULL where none is needed. */
static void *staging_of(const cdp_link *link, int number) {
    return link->staging != NULL ? link->staging + (size_t)number * link->max_data_bytes : NULL;
}

static cdp_status start_recv_if_free(cdp_link *link, int seat) {
    cdp_parcel *parcel = &link->recvs[seat];
    if (parcel->state != CDP_PARCEL_WAITING || !cdp_device_reached(link->device, parcel->after))
        return CDP_OK;
    parcel->state = CDP_PARCEL_MOVING;
    return link->road->start_recv(link, seat);
}

cdp_status cdp_link_recv(cdp_link *link, int seat, void *buffer, size_t n_bytes) {
    CDP_TRY(claim(link, link->recvs, seat, "receive", n_bytes));
    void *staged = staging_of(link, seat);
    link->recvs[seat] = (cdp_parcel){.state = CDP_PARCEL_WAITING,
                                     .buffer = staged != NULL ? staged : buffer,
                                     .on_device = buffer,
                                     .n_bytes = n_bytes,
                                     .after = link->recvs[seat].after};
    return start_recv_if_free(link, seat);
}

cdp_status cdp_link_arrived(cdp_link *link, int seat) {
    cdp_parcel *parcel = &link->recvs[seat];
    if (parcel->buffer != parcel->on_device) {
        CDP_TRY(cdp_device_copy_in(link->device, parcel->on_device, parcel->buffer, parcel->n_bytes));
        parcel->after = cdp_device_record(link->device);
    }
    link->n_received += parcel->n_bytes;
    parcel->state = CDP_PARCEL_FREE;
    return CDP_OK;
}

static cdp_status start_send_if_reached(cdp_link *link, int seat) {
    cdp_parcel *parcel = &link->sends[seat];
    if (parcel->state != CDP_PARCEL_WAITING)
        return CDP_OK;
    if (!link->road->is_on_device && !cdp_device_reached(link->device, parcel->after))
        return CDP_OK;
    parcel->state = CDP_PARCEL_MOVING;
    return link->road->start_send(link, seat);
}

cdp_status cdp_link_send(cdp_link *link, int seat, const void *buffer, size_t n_bytes, cdp_event after) {
    CDP_TRY(claim(link, link->sends, seat, "send", n_bytes));
    void *staged = staging_of(link, link->n_seats + seat);
    /* MPI's older calls and this struct take pointers to plain bytes; nobody writes through this one. */
    void *plain = (void *)(uintptr_t)buffer;
    if (staged != NULL) { /* the copy stands in the queue behind what `after` stands for */
        CDP_TRY(cdp_device_copy_out(link->device, staged, buffer, n_bytes));
        after = cdp_device_record(link->device);
    }
    link->sends[seat] = (cdp_parcel){.state = CDP_PARCEL_WAITING,
                                     .buffer = staged != NULL ? staged : plain,
                                     .on_device = plain,
                                     .n_bytes = n_bytes,
                                     .after = after};
    return start_send_if_reached(link, seat);
}

void cdp_link_gone(cdp_link *link, int seat) {
    link->n_sent += link->sends[seat].n_bytes;
    link->sends[seat].state = CDP_PARCEL_FREE;
}

bool cdp_link_received(const cdp_link *link, int seat) {
    return link->recvs[seat].state == CDP_PARCEL_FREE;
}

bool cdp_link_sent(const cdp_link *link, int seat) {
    return link->sends[seat].state == CDP_PARCEL_FREE;
}

cdp_status cdp_link_poll(cdp_link *link) {
    if (link->bell != NULL)
        link->bell_heard = atomic_load(link->bell);
    CDP_TRY(cdp_world_poll(link->world));
    if (link->n_active > 1)
        CDP_TRY(cdp_headers_poll(link));
    for (int seat = 0; seat < link->n_seats; seat++) {
        CDP_TRY(start_recv_if_free(link, seat));
        CDP_TRY(start_send_if_reached(link, seat));
    }
    return link->road->poll(link);
}

bool cdp_link_sleep(const cdp_link *link, int64_t timeout_ns) {
    if (link->bell != NULL)
        cdp_bell_sleep(link->bell, link->bell_heard, timeout_ns);
    return link->bell != NULL;
}

void cdp_link_traffic(const cdp_link *link, uint64_t *n_sent_out, uint64_t *n_received_out) {
    *n_sent_out = link->n_sent;
    *n_received_out = link->n_received;
}
