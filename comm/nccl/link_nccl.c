/* The road between GPUs. Every edge of the ring has a communicator of two ranks and a stream of its own:
 *
 *     previous -- edge in: my rank 1 --> | this rank | -- edge out: my rank 0 --> next
 *
 *     queue    [ layers ][event n]              compute goes on
 *     out                  wait n [send][event of the seat]
 *     in       [recv, posted ahead      ][event of the seat]
 *
 * In one communicator a receive that waits would hold back the send behind it; with two, and the device
 * ordering them by events, nothing waits for the host. NCCL runs without blocking: every call may say "in
 * progress", and its end is asked for in poll. NCCL knows no time limit, so all waits here have one.
 *
 * Newer NCCL starts a thread for every call of a communicator that does not block, which costs a message some
 * ten microseconds. One that blocks would save them, but the call that makes it gives no handle before the
 * peer has come: where that one is absent, nothing could be aborted on the way to the next road.
 *
 * A communicator that failed is given up, not ended in good order: ending it may wait for the peer for ever.
 * A thread of its own tells it to abort, and after two seconds nobody looks for the answer any more.
 */
#include "comm/nccl/edge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/network.h"
#include "kernels/gpu.h"
#include "kernels/log.h"

static const char INTERFACE[] = "NCCL_SOCKET_IFNAME"; /* "=NAME": no other that begins so */

typedef struct nccl_road {
    nccl_edge in, out;
    char log_path[512]; /* where NCCL writes its warnings; "" when the user has said where */
    bool was_good;      /* to the end: the log is of no use */
} nccl_road;

static const char *unfit(const cdp_link_options *options) {
    return options->on_gpu && options->n_active > 1 ? NULL : "it connects GPUs";
}

/* Environment ------------------------------------------------------------------------------------------- */

static void set_if_unset(const char *name, const char *value) {
    if (getenv(name) == NULL && setenv(name, value, 0) == 0)
        cdp_note("set %s=%s for NCCL", name, value);
}

/* By which interface hosts meet NCCL would choose on each host for itself, by names. */
static cdp_status choose_interface(cdp_world *world) {
    cdp_interfaces mine = {.host = world->host_leader};
    cdp_interfaces *all = calloc((size_t)world->size, sizeof *all);
    cdp_status st = all == NULL ? cdp_fail(CDP_SYSTEM, "no memory for the hosts' interfaces") : CDP_OK;
    if (st == CDP_OK)
        st = cdp_interfaces_read(&mine, getenv("OMPI_MCA_btl_tcp_if_include"));
    CDP_TRY_GOTO(cdp_world_agree(world, st), st, done);
    CDP_TRY_GOTO(cdp_world_gather(world, all, &mine, sizeof mine), st, done);
    const int at = cdp_interface_choose(all, world->size, world->rank);
    const char *set = getenv(INTERFACE);
    char name[CDP_INTERFACE_NAME + 1];
    if (set != NULL) {
        cdp_note("NCCL meets the other hosts by %s=%s, as it was set", INTERFACE, set);
    } else if (at >= 0) {
        snprintf(name, sizeof name, "=%s", mine.at[at].name);
        set_if_unset(INTERFACE, name);
    } else {
        cdp_note(
            "NCCL chooses its network interface: no network has an address on every host; %s=NAME chooses",
            INTERFACE);
    }
done:
    free(all);
    return st;
}

/* Ranks of one host have nobody to meet elsewhere. */
static cdp_status meet(cdp_world *world) {
    if (world->local_size < world->size) {
        set_if_unset("NCCL_ALLOC_P2P_NET_LL_BUFFERS", "1"); /* small messages, as a token's, go quickest so */
        return choose_interface(world);
    }
    set_if_unset(INTERFACE, "=lo");
    return CDP_OK;
}

/* NCCL can have the kernels of all communicators begin in the order of the calls, or end in it before CUDA
 * 12.3. Then a send waits for the receive that was called before it to begin, which waits for the one before
 * it on its stream to end, and with three steps on the way the ring waits for itself. No order is needed:
 * there is always room for the blocks of two communicators. Said, because a file of NCCL's may ask for it. */
static void forbid_launch_order(void) {
    const char *set = getenv("NCCL_LAUNCH_ORDER_IMPLICIT");
    if (set != NULL && strcmp(set, "0") != 0)
        cdp_note("NCCL_LAUNCH_ORDER_IMPLICIT=%s would have the ring wait for itself: it is 0 now", set);
    setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "0", 1);
}

/* To 2.21 NCCL that is asked for warnings tells its version, on stdout whichever file is the log. */
static bool keeps_off_stdout(void) {
    int version = 0;
    return ncclGetVersion(&version) == ncclSuccess && version >= 22200;
}

/* Before NCCL's first call that reads it. NCCL's own output would go to stdout, which is for text. */
static cdp_status set_environment(nccl_road *road, const cdp_world *world) {
    if (getenv("NCCL_COMM_ID") != NULL)
        return cdp_fail(CDP_USAGE,
                        "NCCL_COMM_ID is set, but cdpipe makes its ids itself, one an edge: unset it");
    set_if_unset("NCCL_RAS_ENABLE", "0");
    forbid_launch_order();
    if (getenv("NCCL_DEBUG") == NULL && getenv("NCCL_DEBUG_FILE") == NULL && keeps_off_stdout()) {
        const char *folder = getenv("TMPDIR");
        snprintf(road->log_path, sizeof road->log_path, "%s/cdpipe-nccl-%d-%ld.log",
                 folder != NULL ? folder : "/tmp", world->rank, (long)getpid());
        setenv("NCCL_DEBUG_FILE", road->log_path, 0);
        setenv("NCCL_DEBUG", "WARN", 0);
    }
    return CDP_OK;
}

/* Opening ----------------------------------------------------------------------------------------------- */

/* Edges that share a rank are made one after the other, each with its first message, others at the same
 * time: even ones, odd ones, and in a ring of an odd number the last one, which has an even neighbour on both
 * sides. Equal on both ends. */
enum { N_COLOURS = 3 };
static int colour_of(int edge, int n_edges) {
    return n_edges % 2 == 1 && edge == n_edges - 1 ? 2 : edge % 2;
}

static cdp_status open_edges(cdp_link *link, nccl_road *road, int64_t deadline_ns) {
    nccl_edge *edges[] = {&road->in, &road->out};
    for (int colour = 0; colour < N_COLOURS; colour++)
        for (int i = 0; i < 2; i++)
            if (colour_of(edges[i]->number, link->n_active) == colour)
                CDP_TRY(nccl_edge_open(edges[i], deadline_ns));
    return CDP_OK;
}

static cdp_status open_nccl(cdp_link *link, int64_t deadline_ns) {
    nccl_road *road = calloc(1, sizeof *road);
    link->of_road = road;
    if (road == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the link");
    const int n = link->n_active;
    road->in = (nccl_edge){.link = link,
                           .is_out = false,
                           .number = (link->position + n - 1) % n,
                           .peer = link->previous,
                           .parcels = link->recvs};
    road->out = (nccl_edge){
        .link = link, .is_out = true, .number = link->position, .peer = link->next, .parcels = link->sends};
    CDP_TRY(set_environment(road, link->world));
    CDP_TRY(open_edges(link, road, deadline_ns));
    road->was_good = true;
    return CDP_OK;
}

/* What NCCL wrote stays where there is something to read. */
static void leave_log(const nccl_road *road) {
    struct stat file;
    if (road->log_path[0] == '\0' || stat(road->log_path, &file) != 0)
        return;
    if (road->was_good || file.st_size == 0)
        unlink(road->log_path);
    else
        cdp_note("what NCCL said: %s", road->log_path);
}

static void close_nccl(cdp_link *link) {
    nccl_road *road = link->of_road;
    if (road == NULL)
        return;
    const bool in_is_free = nccl_edge_close(&road->in), out_is_free = nccl_edge_close(&road->out);
    link->is_stuck = !in_is_free || !out_is_free;
    leave_log(road);
    if (!link->is_stuck) /* a communicator that hangs still has its name in there */
        free(road);
}

/* Moving ------------------------------------------------------------------------------------------------ */

static cdp_status keep(nccl_road *road, cdp_status st) {
    road->was_good = road->was_good && st == CDP_OK;
    return st;
}

static cdp_status start_send(cdp_link *link, int seat) {
    nccl_road *road = link->of_road;
    return keep(road, nccl_edge_start(&road->out, seat));
}

static cdp_status start_recv(cdp_link *link, int seat) {
    nccl_road *road = link->of_road;
    return keep(road, nccl_edge_start(&road->in, seat));
}

static cdp_status poll_nccl(cdp_link *link) {
    nccl_road *road = link->of_road;
    CDP_TRY(keep(road, nccl_edge_poll(&road->in)));
    return keep(road, nccl_edge_poll(&road->out));
}

const cdp_road cdp_road_nccl = {
    .name = "nccl",
    .is_on_device = true,
    .unfit = unfit,
    .meet = meet,
    .open = open_nccl,
    .close = close_nccl,
    .start_send = start_send,
    .start_recv = start_recv,
    .poll = poll_nccl,
};

void cdp_nccl_versions(int *build_out, int *run_out) {
    *build_out = NCCL_VERSION_CODE;
    if (ncclGetVersion(run_out) != ncclSuccess)
        *run_out = 0;
}
