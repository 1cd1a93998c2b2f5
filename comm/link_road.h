/* comm/link_road.h - what a road fills in. link.c keeps the seats, the order on the device's queue and the
 * way through host memory; a road only moves bytes between two buffers. Step headers go by MPI on every road.
 *
 *     cdp_link_send -> WAITING -- device reached `after` --> start_send -> MOVING -- poll --> FREE
 *     cdp_link_recv -> WAITING -- staging is free ---------> start_recv -> MOVING -- poll --> FREE
 *
 * Between a GPU and a road of the host every seat has a pinned buffer a direction: a send is first copied
 * out on the queue, what came is copied in, and the next receive of the seat waits for that copy.
 */
#pragma once

#include "comm/inside.h"
#include "comm/link.h"

typedef enum cdp_parcel_state { CDP_PARCEL_FREE, CDP_PARCEL_WAITING, CDP_PARCEL_MOVING } cdp_parcel_state;

/* One message of one seat in one direction. A road calls cdp_link_arrived (gone) when it is there. */
typedef struct cdp_parcel {
    cdp_parcel_state state;
    void *buffer;    /* of a send it is only read; what the road reads or fills */
    void *on_device; /* where it comes from or goes to */
    size_t n_bytes;
    cdp_event after;
} cdp_parcel;

typedef struct cdp_road {
    const char *name;
    bool is_on_device; /* moves device memory, and waits for `after` on the device by itself */
    /* NULL when this road can carry such a ring, else why not. Roads are asked in the order of the table. */
    const char *(*unfit)(const cdp_link_options *options);
    /* What all ranks of the world, idle ones too, settle together before the ring opens the road; may be
     * NULL. Collective, the same status everywhere. */
    cdp_status (*meet)(cdp_world *world);
    /* Set link->of_road; waits at most until deadline_ns. close takes what open left, also half of it,
     * without waiting for a peer. */
    cdp_status (*open)(cdp_link *link, int64_t deadline_ns);
    void (*close)(cdp_link *link);
    /* The parcel of this seat in link->sends (recvs) is MOVING from here on. */
    cdp_status (*start_send)(cdp_link *link, int seat);
    cdp_status (*start_recv)(cdp_link *link, int seat);
    /* Free what has arrived or gone. Never blocks. */
    cdp_status (*poll)(cdp_link *link);
} cdp_road;

/* Step headers, link_headers.c. */
typedef struct cdp_header_out cdp_header_out;
typedef struct cdp_headers {
    MPI_Request *in; /* (n_seats) NULL on the first rank */
    unsigned char *bytes;
    int next_in; /* the receive that the next header comes into */
    int lent;    /* the receive whose bytes the caller reads, or -1 */
    cdp_header_out *first_out, **end_out;
    int n_out_moving;
} cdp_headers;

struct cdp_link {
    const cdp_road *road;
    void *of_road;
    cdp_world *world;
    cdp_device *device;
    int n_seats;
    size_t max_header_bytes, max_data_bytes;
    int previous, next;        /* world ranks of the neighbours; this rank itself when it is alone */
    bool is_first, is_last;    /* in the ring */
    int position, n_active;    /* of this rank in the ring */
    cdp_parcel *sends, *recvs; /* (n_seats) */
    unsigned char *staging;    /* pinned, (2 * n_seats, max_data_bytes): receives, sends; NULL: not needed */
    const int *active;         /* while a road is being opened: the ring's world ranks */
    int trial;                 /* roads tried so far: the tag under which this one's failure is told */
    bool is_told;              /* another rank has given up the road that is being opened */
    bool is_stuck; /* a road that was given up still holds the device: nothing more can run on it */
    cdp_headers headers;
    cdp_link_figures figures;
    const atomic_uint *bell; /* the previous rank's, NULL: not of this host, or its data comes without MPI */
    unsigned bell_heard;     /* what it read before the last poll */
    uint64_t n_sent, n_received;
};

extern const cdp_road cdp_road_local, cdp_road_mpi, cdp_road_nccl;

/* The parcel is there, or has gone: for roads. */
cdp_status cdp_link_arrived(cdp_link *link, int seat);
void cdp_link_gone(cdp_link *link, int seat);

/* For the loops that open and test a road: true when waiting is over, because the deadline has passed or
 * because another rank has given the road up; *status_out says which (the failure of link->is_told is the
 * other rank's to tell). Else the world has been polled. */
bool cdp_link_gives_up(cdp_link *link, int64_t deadline_ns, cdp_status *status_out);

/* link_test.c: send patterns to the next rank and check those of the previous one, byte by byte; fills
 * link->figures. CDP_UNAVAILABLE with the first wrong byte, or when nothing came until deadline_ns. */
cdp_status cdp_link_test(cdp_link *link, int64_t deadline_ns);

/* link_headers.c */
cdp_status cdp_headers_open(cdp_link *link);
void cdp_headers_close(cdp_link *link);
cdp_status cdp_headers_send(cdp_link *link, const void *bytes, size_t n_bytes);
cdp_status cdp_headers_take(cdp_link *link, const void **bytes_out, size_t *n_bytes_out);
cdp_status cdp_headers_poll(cdp_link *link);

/* "WHAT rank PEER: MPI's text". */
cdp_status cdp_fail_peer(const char *what, int peer, int code);

/* Take back a posted receive, or tell MPI that nobody will ask for the end of a send. */
void cdp_drop_request(MPI_Request *request, bool is_recv);
