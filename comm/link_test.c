/* The test of a road before weights are loaded: copies between GPUs that change bytes are real, and nothing
 * later would notice them.
 *
 *     message  0      1..3       4..6           all ranks at once: to the next, from the previous one
 *     bytes    1      8192       the most       timed; the pattern is a function of edge, message, byte
 */
#include "comm/link_road.h"

#include <stdlib.h>

enum {
    SMALL_BYTES = 8192,   /* about a row of hidden states */
    MOST_BYTES = 1 << 20, /* enough for every protocol and every channel of a road */
    FIRST_LARGE = 4,
    N_MESSAGES = 7,
};

typedef struct test_room {
    unsigned char *host_out, *host_in; /* pinned */
    void *device_out, *device_in;
    size_t n_bytes;
} test_room;

/* Byte i of message k on the edge that leaves active rank number `edge`. */
static unsigned char byte_of(int edge, int k, size_t i) {
    const uint32_t x = (uint32_t)i * 2654435761u + (uint32_t)edge * 40503u + (uint32_t)k * 9973u + 1u;
    return (unsigned char)((x ^ (x >> 15)) * 2246822519u >> 24);
}

static size_t size_of(const test_room *room, int k) {
    const size_t wanted = k == 0 ? 1 : k < FIRST_LARGE ? SMALL_BYTES : MOST_BYTES;
    return wanted < room->n_bytes ? wanted : room->n_bytes;
}

static cdp_status open_room(test_room *room, cdp_link *link) {
    room->n_bytes = link->max_data_bytes < MOST_BYTES ? link->max_data_bytes : MOST_BYTES;
    CDP_TRY(cdp_device_host_alloc(link->device, (void **)&room->host_out, room->n_bytes));
    CDP_TRY(cdp_device_host_alloc(link->device, (void **)&room->host_in, room->n_bytes));
    CDP_TRY(cdp_device_alloc(link->device, &room->device_out, room->n_bytes));
    return cdp_device_alloc(link->device, &room->device_in, room->n_bytes);
}

static void close_room(test_room *room, cdp_link *link) {
    cdp_device_free(link->device, room->device_in);
    cdp_device_free(link->device, room->device_out);
    cdp_device_host_free(link->device, room->host_in);
    cdp_device_host_free(link->device, room->host_out);
}

static cdp_status turn_until(cdp_link *link, int seat, cdp_event until, int64_t deadline_ns) {
    cdp_waiter waiter = {0};
    cdp_status st;
    for (;;) {
        CDP_TRY(cdp_device_check(link->device));
        CDP_TRY(cdp_link_poll(link));
        if (cdp_link_sent(link, seat) && cdp_link_received(link, seat) &&
            cdp_device_reached(link->device, until))
            return CDP_OK;
        if (cdp_link_gives_up(link, deadline_ns, &st))
            return st != CDP_OK
                       ? st
                       : cdp_fail(CDP_UNAVAILABLE, "the test message %s rank %d did not get through in time",
                                  cdp_link_received(link, seat) ? "to" : "from",
                                  cdp_link_received(link, seat) ? link->next : link->previous);
        cdp_wait_pause(&waiter);
    }
}

/* Turn the loop until `until` is reached and nothing of the seat is on the way. The copies before `until`
 * are this rank's own work: when its device hangs in one, it says so before the next rank misses its message.
 */
static cdp_status wait_for(cdp_link *link, int seat, cdp_event until, int64_t deadline_ns) {
    if (!cdp_device_reached(link->device, until))
        cdp_watchdog_note(link->world, CDP_COMPUTING, /*step=*/-1, /*first=*/0, /*last=*/-1);
    const cdp_status st = turn_until(link, seat, until, deadline_ns);
    cdp_watchdog_progress(link->world);
    cdp_watchdog_note(link->world, CDP_STARTING, /*step=*/-1, /*first=*/0, /*last=*/-1);
    return st;
}

static cdp_status check_bytes(const cdp_link *link, const test_room *room, int k) {
    const int edge = (link->position + link->n_active - 1) % link->n_active;
    for (size_t i = 0; i < size_of(room, k); i++)
        if (room->host_in[i] != byte_of(edge, k, i))
            return cdp_fail(
                CDP_UNAVAILABLE,
                "the link from rank %d to rank %d changes bytes: byte %zu of test message %d (%zu "
                "bytes) came as 0x%02X, sent as 0x%02X",
                link->previous, link->world->rank, i, k, size_of(room, k), room->host_in[i],
                byte_of(edge, k, i));
    return CDP_OK;
}

/* One message out and one in; what came before is wiped, so that it cannot pass for what should come. */
static cdp_status exchange(cdp_link *link, test_room *room, int k, int64_t deadline_ns) {
    const size_t n = size_of(room, k);
    const int seat = k % link->n_seats;
    for (size_t i = 0; i < n; i++) {
        room->host_out[i] = byte_of(link->position, k, i);
        room->host_in[i] =
            (unsigned char)~byte_of((link->position + link->n_active - 1) % link->n_active, k, i);
    }
    CDP_TRY(cdp_device_copy_in(link->device, room->device_in, room->host_in, n));
    CDP_TRY(cdp_device_copy_in(link->device, room->device_out, room->host_out, n));
    const cdp_event ready = cdp_device_record(link->device);
    CDP_TRY(wait_for(link, seat, ready, deadline_ns));
    const int64_t began = cdp_now_ns();
    CDP_TRY(cdp_link_recv(link, seat, room->device_in, n));
    CDP_TRY(cdp_link_send(link, seat, room->device_out, n, ready));
    CDP_TRY(wait_for(link, seat, 0, deadline_ns));
    const double took_s = (double)(cdp_now_ns() - began) * 1e-9;
    if (k == 1 || (k > 1 && took_s < link->figures.latency_s)) /* message 0 makes lazy connections */
        link->figures.latency_s = took_s;
    if (k >= FIRST_LARGE && took_s > 0 && (double)n / took_s > link->figures.bytes_per_s)
        link->figures.bytes_per_s = (double)n / took_s;
    CDP_TRY(cdp_device_copy_out(link->device, room->host_in, room->device_in, n));
    CDP_TRY(wait_for(link, seat, cdp_device_record(link->device), deadline_ns));
    return check_bytes(link, room, k);
}

/* Copies in the queue end by themselves, unless they stand behind a message that never comes. */
static bool is_queue_empty(cdp_link *link) {
    const cdp_event all = cdp_device_record(link->device);
    const int64_t until_ns = cdp_now_ns() + 1000000000;
    for (cdp_waiter waiter = {0}; !cdp_device_reached(link->device, all); cdp_wait_pause(&waiter))
        if (cdp_now_ns() > until_ns || cdp_world_poll(link->world) != CDP_OK)
            return false;
    return true;
}

static bool is_quiet(cdp_link *link) {
    for (int seat = 0; seat < link->n_seats; seat++)
        if (!cdp_link_sent(link, seat) || !cdp_link_received(link, seat))
            return false;
    return is_queue_empty(link);
}

cdp_status cdp_link_test(cdp_link *link, int64_t deadline_ns) {
    test_room room = {0};
    link->figures = (cdp_link_figures){.previous = link->previous};
    cdp_status st = open_room(&room, link);
    for (int k = 0; st == CDP_OK && k < N_MESSAGES; k++)
        st = exchange(link, &room, k, deadline_ns);
    /* After a failure somebody may still write there: then it is left to them. */
    if (is_quiet(link))
        close_room(&room, link);
    return st;
}
