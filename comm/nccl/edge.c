#include "comm/nccl/edge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    ID_TAG = 30000,        /* among the data's tags, which are seats */
    LEAST_VERSION = 21900, /* before, an abort by another thread than the one that makes the communicator
                              frees what still comes up: say_farewell() */
    LEAVE_MS = 2000,       /* a communicator that is given up has so long to say goodbye */
};

/* The edge whose call of NCCL is still in progress. One at a time: to NCCL 2.26 the calls of one thread are
 * one group, whatever their communicators, and a second one joins the first, on which a thread of NCCL is at
 * work. */
static const nccl_edge *calling;

/* A GPU that has died is the cause of whatever NCCL says. */
static cdp_status ask_gpu(const nccl_edge *e) {
    const cudaError_t code = cudaStreamQuery(e->stream);
    return code == cudaErrorNotReady ? CDP_OK : cdp_cuda_keep(e->link->device, code, "a message of NCCL");
}

/* NCCL's codes say little (a dead peer comes as an internal error): its own sentence is what a person needs.
 */
static cdp_status fail_edge(const nccl_edge *e, ncclResult_t code, const char *what) {
    CDP_TRY(ask_gpu(e));
    const int from = e->is_out ? e->link->world->rank : e->peer,
              to = e->is_out ? e->peer : e->link->world->rank;
    const char *text = ncclGetLastError(e->comm);
    return cdp_fail(CDP_UNAVAILABLE, "NCCL, %s from rank %d to rank %d: %s: %s%s%s", e->name, from, to, what,
                    ncclGetErrorString(code), text != NULL && text[0] != '\0' ? ": " : "",
                    text != NULL ? text : "");
}

static cdp_status fail_late(const nccl_edge *e, const char *what) {
    const char *interface = getenv("NCCL_SOCKET_IFNAME");
    const int from = e->is_out ? e->link->world->rank : e->peer,
              to = e->is_out ? e->peer : e->link->world->rank;
    return cdp_fail(CDP_UNAVAILABLE, "NCCL, %s from rank %d to rank %d: %s in time (host %s, interface %s)",
                    e->name, from, to, what, e->link->world->host,
                    interface != NULL ? interface : "as NCCL chose");
}

/* A call that was in progress has succeeded. To NCCL 2.19 to 2.25 it is over when its communicator is used
 * again, and no sooner: a call of another one in between finds what is left of it, and dies there. Asking for
 * the number of ranks is a use. */
static cdp_status end_call(const nccl_edge *e) {
    int n_ranks = 0;
    const ncclResult_t code = ncclCommCount(e->comm, &n_ranks);
    return code == ncclSuccess ? CDP_OK : fail_edge(e, code, "the end of a call");
}

/* Opening ----------------------------------------------------------------------------------------------- */

/* What the sender tells the receiver, by MPI. */
typedef struct edge_id {
    int version;
    ncclUniqueId id;
} edge_id;

static cdp_status wait_request(const nccl_edge *e, MPI_Request *request, int64_t deadline_ns) {
    cdp_waiter waiter = {0};
    cdp_status st;
    for (int is_done = 0;;) {
        CDP_TRY(cdp_from_mpi(MPI_Test(request, &is_done, MPI_STATUS_IGNORE), "the id of an NCCL edge"));
        if (is_done)
            return CDP_OK;
        if (cdp_link_gives_up(e->link, deadline_ns, &st)) {
            cdp_drop_request(request, /*is_recv=*/!e->is_out);
            return st != CDP_OK ? st
                                : fail_late(e, e->is_out ? "its id was not taken" : "its id did not come");
        }
        cdp_wait_pause(&waiter);
    }
}

/* Different versions do not understand each other, and say so less clearly. */
static cdp_status share_id(const nccl_edge *e, ncclUniqueId *out, int64_t deadline_ns) {
    static edge_id told; /* MPI may read it when this rank has long given up a send that nobody takes */
    edge_id message = {0};
    int mine = 0;
    MPI_Request request;
    ncclResult_t code = ncclGetVersion(&mine);
    if (code != ncclSuccess)
        return fail_edge(e, code, "ncclGetVersion");
    if (mine < LEAST_VERSION)
        return cdp_fail(CDP_UNAVAILABLE, "NCCL %d.%d.%d is here, and cdpipe needs 2.19 or newer",
                        mine / 10000, mine / 100 % 100, mine % 100);
    message.version = mine;
    if (e->is_out) {
        code = ncclGetUniqueId(&message.id);
        if (code != ncclSuccess)
            return fail_edge(e, code, "ncclGetUniqueId");
        told = message;
        CDP_TRY(cdp_from_mpi(
            MPI_Isend(&told, sizeof told, MPI_BYTE, e->peer, ID_TAG, e->link->world->data, &request),
            "the id of an NCCL edge"));
    } else {
        CDP_TRY(cdp_from_mpi(
            MPI_Irecv(&message, sizeof message, MPI_BYTE, e->peer, ID_TAG, e->link->world->data, &request),
            "the id of an NCCL edge"));
    }
    CDP_TRY(wait_request(e, &request, deadline_ns));
    if (message.version != mine)
        return cdp_fail(CDP_UNAVAILABLE, "rank %d runs NCCL %d.%d.%d, rank %d runs %d.%d.%d", e->peer,
                        message.version / 10000, message.version / 100 % 100, message.version % 100,
                        e->link->world->rank, mine / 10000, mine / 100 % 100, mine % 100);
    *out = message.id;
    return CDP_OK;
}

/* Two blocks are plenty for a hidden state, and leave the multiprocessors to the layers. */
static ncclResult_t begin_comm(nccl_edge *e, ncclUniqueId id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.maxCTAs = 2;
    config.cgaClusterSize = 0;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
    config.commName = e->name; /* for its log; older headers have no such member */
#endif
    return ncclCommInitRankConfig(&e->comm, 2, id, e->is_out ? 0 : 1, &config);
}

static cdp_status make_comm(nccl_edge *e, int64_t deadline_ns) {
    ncclUniqueId id;
    ncclResult_t state = ncclInProgress;
    cdp_waiter waiter = {0};
    cdp_status st;
    CDP_TRY(share_id(e, &id, deadline_ns));
    const ncclResult_t code = begin_comm(e, id);
    if (code != ncclSuccess && code != ncclInProgress)
        return fail_edge(e, code, "making the communicator");
    for (;;) {
        const ncclResult_t asked = ncclCommGetAsyncError(e->comm, &state);
        if (asked != ncclSuccess || (state != ncclSuccess && state != ncclInProgress))
            return fail_edge(e, asked != ncclSuccess ? asked : state, "making the communicator");
        if (state == ncclSuccess)
            break;
        if (cdp_link_gives_up(e->link, deadline_ns, &st))
            return st != CDP_OK ? st : fail_late(e, "the communicator did not come up");
        cdp_wait_pause(&waiter);
    }
    e->is_open = true;
    return CDP_OK;
}

/* Of the highest priority: a kernel that moves a hidden state takes the next block's place that comes
 * free, and does not queue behind the thousands of a layer's grid. */
static cdp_status open_stream(nccl_edge *e) {
    int least = 0, greatest = 0;
    CDP_TRY(cdp_cuda_keep(e->link->device, cudaDeviceGetStreamPriorityRange(&least, &greatest),
                          "priorities of streams"));
    return cdp_cuda_keep(e->link->device,
                         cudaStreamCreateWithPriority(&e->stream, cudaStreamNonBlocking, greatest),
                         "a stream");
}

/* NCCL connects at the first message, with allocations that may wait for every kernel of the GPU: so that one
 * passes before another edge has a receive that waits. */
static cdp_status pass_byte(nccl_edge *e, int64_t deadline_ns) {
    cdp_waiter waiter = {0};
    cdp_status st;
    CDP_TRY(cdp_device_alloc(e->link->device, &e->byte, 1));
    e->parcels[0] =
        (cdp_parcel){.state = CDP_PARCEL_MOVING, .buffer = e->byte, .on_device = e->byte, .n_bytes = 1};
    for (st = nccl_edge_start(e, 0); st == CDP_OK && e->ops[0].state != NCCL_OP_NONE;
         st = nccl_edge_poll(e)) {
        if (cdp_link_gives_up(e->link, deadline_ns, &st))
            return st != CDP_OK ? st : fail_late(e, "the first byte did not get through");
        cdp_wait_pause(&waiter);
    }
    if (st == CDP_OK) {
        cdp_device_free(e->link->device, e->byte);
        e->byte = NULL;
    }
    return st;
}

cdp_status nccl_edge_open(nccl_edge *e, int64_t deadline_ns) {
    const size_t n = (size_t)e->link->n_seats;
    cdp_device *device = e->link->device;
    snprintf(e->name, sizeof e->name, "edge %d", e->number);
    e->ops = calloc(n, sizeof *e->ops);
    e->order = calloc(n, sizeof *e->order);
    if (e->ops == NULL || e->order == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d seats of an NCCL edge", e->link->n_seats);
    CDP_TRY(open_stream(e));
    for (size_t i = 0; i < n; i++)
        CDP_TRY(cdp_cuda_keep(device, cudaEventCreateWithFlags(&e->ops[i].event, cudaEventDisableTiming),
                              "an event"));
    CDP_TRY(make_comm(e, deadline_ns));
    return pass_byte(e, deadline_ns);
}

/* Leaving ----------------------------------------------------------------------------------------------- */

typedef struct farewell {
    ncclComm_t comm;
    int gpu;
    atomic_int n_holders; /* the last one frees */
    atomic_bool is_over;
} farewell;

static void let_go(farewell *f) {
    if (atomic_fetch_sub(&f->n_holders, 1) == 1)
        free(f);
}

/* A new thread stands on GPU 0, another rank's: NCCL would make a context there, of some hundred MiB. */
static void *say_farewell(void *argument) {
    farewell *f = argument;
    cudaSetDevice(f->gpu);
    ncclCommAbort(f->comm);
    atomic_store(&f->is_over, true);
    let_go(f);
    return NULL;
}

/* True when the communicator is gone. */
static bool abort_in_time(ncclComm_t comm, int gpu, cdp_world *world) {
    pthread_t thread;
    farewell *f = malloc(sizeof *f);
    if (f == NULL)
        return false;
    f->comm = comm;
    f->gpu = gpu;
    atomic_init(&f->n_holders, 2);
    atomic_init(&f->is_over, false);
    if (pthread_create(&thread, NULL, say_farewell, f) != 0) {
        free(f);
        return false;
    }
    pthread_detach(thread);
    const int64_t until = cdp_now_ns() + (int64_t)LEAVE_MS * 1000000;
    while (!atomic_load(&f->is_over) && cdp_now_ns() < until && cdp_world_poll(world) == CDP_OK)
        nanosleep(&(struct timespec){0, 200000}, NULL);
    const bool is_over = atomic_load(&f->is_over);
    let_go(f);
    return is_over;
}

bool nccl_edge_close(nccl_edge *e) {
    const bool is_gone =
        e->comm == NULL || abort_in_time(e->comm, cdp_cuda_index(e->link->device), e->link->world);
    const bool is_free = is_gone || !e->was_used;
    calling = calling == e ? NULL : calling;
    e->link->world->must_exit_at_once |= !is_gone;
    for (int i = 0; is_free && e->ops != NULL && i < e->link->n_seats; i++)
        if (e->ops[i].event != NULL)
            cudaEventDestroy(e->ops[i].event);
    if (is_free && e->stream != NULL)
        cudaStreamDestroy(e->stream);
    if (is_free && e->byte != NULL)
        cdp_device_free(e->link->device, e->byte);
    free(e->ops);
    free(e->order);
    *e = (nccl_edge){0};
    return is_free;
}

/* Moving ------------------------------------------------------------------------------------------------ */

/* NCCL has put the first waiting operation on the stream: its event goes behind it. */
static cdp_status note_issued(nccl_edge *e) {
    nccl_op *op = &e->ops[e->order[e->first]];
    CDP_TRY(
        cdp_cuda_keep(e->link->device, cudaEventRecord(op->event, e->stream), "an event of an NCCL edge"));
    op->state = NCCL_OP_ISSUED;
    e->first = (e->first + 1) % e->link->n_seats;
    e->n_waiting--;
    calling = NULL;
    return CDP_OK;
}

/* The stream, not the host, waits for what the layers still compute. */
static cdp_status issue_first(nccl_edge *e) {
    const cdp_parcel *parcel = &e->parcels[e->order[e->first]];
    cudaEvent_t after = e->is_out ? cdp_cuda_event(e->link->device, parcel->after) : NULL;
    if (after != NULL)
        CDP_TRY(cdp_cuda_keep(e->link->device, cudaStreamWaitEvent(e->stream, after, 0), "a wait"));
    e->was_used = true;
    calling = e;
    const ncclResult_t code =
        e->is_out ? ncclSend(parcel->buffer, parcel->n_bytes, ncclUint8, /*peer=*/1, e->comm, e->stream)
                  : ncclRecv(parcel->buffer, parcel->n_bytes, ncclUint8, /*peer=*/0, e->comm, e->stream);
    if (code == ncclInProgress)
        return CDP_OK;
    return code == ncclSuccess ? note_issued(e) : fail_edge(e, code, e->is_out ? "ncclSend" : "ncclRecv");
}

static cdp_status issue_waiting(nccl_edge *e) {
    while (e->n_waiting > 0 && calling == NULL)
        CDP_TRY(issue_first(e));
    return CDP_OK;
}

cdp_status nccl_edge_start(nccl_edge *e, int seat) {
    e->order[(e->first + e->n_waiting) % e->link->n_seats] = seat;
    e->n_waiting++;
    e->ops[seat].state = NCCL_OP_QUEUED;
    return issue_waiting(e);
}

static cdp_status end_op(nccl_edge *e, int seat) {
    e->ops[seat].state = NCCL_OP_NONE;
    if (!e->is_out)
        return cdp_link_arrived(e->link, seat);
    cdp_link_gone(e->link, seat);
    return CDP_OK;
}

cdp_status nccl_edge_poll(nccl_edge *e) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(e->comm, &state);
    if (asked != ncclSuccess || (state != ncclSuccess && state != ncclInProgress)) {
        CDP_TRY(ask_gpu(e));
        cdp_watchdog_await_death(e->link->world, e->peer); /* to NCCL a dead peer is a broken network */
        return fail_edge(e, asked != ncclSuccess ? asked : state, "an error while the ring runs");
    }
    if (calling == e && state == ncclSuccess) {
        CDP_TRY(end_call(e));
        CDP_TRY(note_issued(e));
    }
    CDP_TRY(issue_waiting(e));
    for (int seat = 0; seat < e->link->n_seats; seat++) {
        if (e->ops[seat].state != NCCL_OP_ISSUED)
            continue;
        const cudaError_t code = cudaEventQuery(e->ops[seat].event);
        if (code == cudaErrorNotReady)
            continue;
        CDP_TRY(cdp_cuda_keep(e->link->device, code, "a message of an NCCL edge"));
        CDP_TRY(end_op(e, seat));
    }
    return CDP_OK;
}
