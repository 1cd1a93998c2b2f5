/* comm/nccl/edge.h - one edge of the ring under NCCL: a communicator of two ranks, its stream, and the
 * operations of each seat in the order they were asked for. The sender is rank 0 of it, the receiver rank 1.
 */
#pragma once

#include "comm/link_road.h"
#include "kernels/cuda/device.h"
#include <nccl.h>

typedef enum nccl_op_state { NCCL_OP_NONE, NCCL_OP_QUEUED, NCCL_OP_ISSUED } nccl_op_state;

/* A seat's operation, and the event behind it on the stream. */
typedef struct nccl_op {
    nccl_op_state state;
    cudaEvent_t event;
} nccl_op;

typedef struct nccl_edge {
    /* Set by the road. */
    cdp_link *link;
    bool is_out;
    int number;          /* the edge leaves active rank number `number` */
    int peer;            /* world rank at the other end */
    cdp_parcel *parcels; /* link->sends or link->recvs */

    /* The edge's own. */
    char name[32]; /* "edge 0", for NCCL */
    ncclComm_t comm;
    bool is_open, was_used;
    cudaStream_t stream;
    void *byte;   /* device: the first message */
    nccl_op *ops; /* (n_seats) */
    int *order;   /* (n_seats) seats whose operations wait to be issued, from first on, n_waiting of them */
    int first, n_waiting;
} nccl_edge;

/* Make the communicator with the rank at the other end, which does the same, and pass the first message,
 * until deadline_ns. CDP_UNAVAILABLE with NCCL's whole text. */
cdp_status nccl_edge_open(nccl_edge *edge, int64_t deadline_ns);

/* Give it up without waiting for the peer; at most two seconds. False when the GPU may still work on it: then
 * its stream is left as it is, and the device cannot be waited for. */
bool nccl_edge_close(nccl_edge *edge);

/* Put the operation of this seat, whose parcel is filled, behind those already there. */
cdp_status nccl_edge_start(nccl_edge *edge, int seat);

/* Move on: issue what waits, free what has ended, ask for errors. Never blocks. */
cdp_status nccl_edge_poll(nccl_edge *edge);
