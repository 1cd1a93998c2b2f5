/* comm/link.h - the road between neighbours in the ring of active ranks.
 *
 *     rank 0 --- hidden ---> rank 1 --- hidden ---> ... ---> last active rank
 *       ^                                                        |
 *       +-------- hidden, only the rows that want logits --------+
 *
 * A link moves bytes. It knows ranks and buffers; layers, dtypes and tokens belong to stage/. The roads are
 * "nccl" (GPU to GPU), "mpi" (through host memory) and "local" (one active rank: the ring closes on itself);
 * the whole ring takes one of them. Nothing blocks: a send waits in the link until its event on the device's
 * queue is reached, a receive is asked for ahead of time, cdp_link_poll moves things on.
 *
 * A step in flight sits in one seat (0 .. n_seats-1) on every rank, its id modulo n_seats; a seat has at most
 * one send and one receive on the way. So a fast rank cannot run away from a slow one, though a small send
 * may end before its receiver has taken it.
 */
#pragma once

#include "comm/world.h"
#include "kernels/device.h"

typedef struct cdp_link cdp_link;

typedef struct cdp_link_options {
    cdp_device *device;      /* whose events order the sends; not owned; NULL on a rank that is not active */
    int n_active;            /* ranks in the ring */
    const int *active;       /* (n_active) their world ranks, ascending; active[0] is 0 */
    int n_seats;             /* steps in flight at most */
    size_t max_header_bytes; /* of a step header */
    size_t max_data_bytes;   /* of a send or receive */
    bool on_gpu;             /* the ring's devices are GPUs */
    const char *road;        /* "auto", or the only road that will do: "nccl", "mpi" */
    double timeout_s;        /* for making connections and for the test of each road */
} cdp_link_options;

/* Find the road and open it: nccl where GPUs and build allow it, else mpi. Every connection is made and
 * tested with checksums (link_test.c) before all ranks agree on the road; one that fails anywhere is given up
 * by all, with a sentence, for the next one. Collective over the world, idle ranks too, with equal options
 * (but for the device); an idle rank gets *out NULL. CDP_UNAVAILABLE on every rank when no road works. The
 * caller closes *out. Takes some device memory for the test and gives it back: it is opened before the slab.
 */
cdp_status cdp_link_open(cdp_link **out, cdp_world *world, const cdp_link_options *options);

/* Drop what is on the way. A send that has begun cannot be called back, so after a failure the process is to
 * leave without giving its buffer to anything else; at a good end there is none. NULL is fine. Not
 * collective. */
void cdp_link_close(cdp_link *link);

const char *cdp_link_road(const cdp_link *link); /* "nccl", "mpi" or "local" */

/* What the test of the edge from the previous rank measured, 0 on the local road: seconds until the smallest
 * message was there, bytes per second of the largest. */
typedef struct cdp_link_figures {
    double latency_s, bytes_per_s;
    int previous; /* world rank the edge comes from */
} cdp_link_figures;
cdp_link_figures cdp_link_figures_of(const cdp_link *link);

/* Hand a step header to the next rank (not round to rank 0: on the last rank this does nothing). Copies the
 * bytes; at most n_seats headers are on the way, more are kept in order. */
cdp_status cdp_link_send_header(cdp_link *link, const void *bytes, size_t n_bytes);

/* The next header of the previous rank: *bytes_out NULL when none is here yet, else valid until the next
 * call. */
cdp_status cdp_link_take_header(cdp_link *link, const void **bytes_out, size_t *n_bytes_out);

/* Ask for exactly n_bytes of seat `seat` from the previous rank into `buffer`, device memory, which stays
 * the caller's. */
cdp_status cdp_link_recv(cdp_link *link, int seat, void *buffer, size_t n_bytes);

/* Send n_bytes of `buffer`, device memory, to the next rank once `after` is reached on the device's queue. */
cdp_status cdp_link_send(cdp_link *link, int seat, const void *buffer, size_t n_bytes, cdp_event after);

/* True when no receive (send) of this seat is on the way any more: work queued from here on may read what
 * came (write over what went). */
bool cdp_link_received(const cdp_link *link, int seat);
bool cdp_link_sent(const cdp_link *link, int seat);

/* Move everything on; also one cdp_world_poll. A size that does not match or a broken peer: an error that
 * names the rank. */
cdp_status cdp_link_poll(cdp_link *link);

/* Sleep until the previous rank has sent something since the last poll, at most timeout_ns. False when it
 * cannot be heard (it is on another host, or sends from GPU to GPU): there was no sleep. */
bool cdp_link_sleep(const cdp_link *link, int64_t timeout_ns);

/* Bytes sent and received so far, headers and the test not counted. */
void cdp_link_traffic(const cdp_link *link, uint64_t *n_sent_out, uint64_t *n_received_out);

/* NCCL as 22809 for 2.28.9: what the build has and what runs; 0 and 0 in a build without it. */
void cdp_nccl_versions(int *build_out, int *run_out);
