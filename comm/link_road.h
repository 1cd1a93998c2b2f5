/* comm/link_road.h - what a road fills in. link.c keeps the places and the order on the device's queue; a
 * road only moves bytes between two buffers.
 *
 *     cdp_link_send -> WAITING -- device reached `after` --> start_send -> MOVING -- poll --> FREE
 *     cdp_link_recv ---------------------------------------> start_recv -> MOVING -- poll --> FREE
 */
#pragma once

#include "comm/inside.h"
#include "comm/link.h"

typedef enum cdp_parcel_state { CDP_PARCEL_FREE, CDP_PARCEL_WAITING, CDP_PARCEL_MOVING } cdp_parcel_state;

/* One message of one place in one direction. A road sets state to FREE when it has arrived or gone. */
typedef struct cdp_parcel {
    cdp_parcel_state state;
    void *buffer; /* of a send it is only read */
    size_t n_bytes;
    cdp_event after; /* sends only */
} cdp_parcel;

typedef struct cdp_road {
    const char *name;
    /* Can this road carry such a ring? Roads are asked in the order of the table. */
    bool (*fits)(const cdp_link_options *options);
    /* Set link->of_road; close takes what open left, also half of it. */
    cdp_status (*open)(cdp_link *link);
    void (*close)(cdp_link *link);
    /* The parcel of this place in link->sends (recvs) is MOVING from here on. */
    cdp_status (*start_send)(cdp_link *link, int place);
    cdp_status (*start_recv)(cdp_link *link, int place);
    /* Free what has arrived or gone. Never blocks. */
    cdp_status (*poll)(cdp_link *link);
    /* As in link.h. */
    cdp_status (*send_header)(cdp_link *link, const void *bytes, size_t n_bytes);
    cdp_status (*take_header)(cdp_link *link, const void **bytes_out, size_t *n_bytes_out);
} cdp_road;

struct cdp_link {
    const cdp_road *road;
    void *of_road;
    cdp_world *world;
    cdp_device *device;
    int n_places;
    size_t max_header_bytes;
    int previous, next;        /* world ranks of the neighbours; this rank itself when it is alone */
    bool is_first, is_last;    /* in the ring */
    cdp_parcel *sends, *recvs; /* (n_places) */
    uint64_t n_sent, n_received;
};

extern const cdp_road cdp_road_local, cdp_road_mpi;
