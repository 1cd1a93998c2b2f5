/* comm/inside.h - what the files of this folder share and nobody else sees. */
#pragma once

#include "comm/watchdog.h"
#include "comm/world.h"
#include <mpi.h>
#include <stdatomic.h>

typedef struct cdp_watchdog cdp_watchdog;

struct cdp_world {
    int rank, size;
    int local_rank, local_size;
    int host_leader; /* world rank of local rank 0: equal on all ranks of one host */
    bool has_mpi;
    char host[64];
    /* One communicator a purpose, so that tags and orders never mix. */
    MPI_Comm agreements, beats, headers, data;
    MPI_Request gather; /* started and not done yet */
    cdp_watchdog *watchdog;
    char verdict[1024];     /* what was agreed to be wrong, with its rank */
    bool must_exit_at_once; /* a thread and a kernel of a library wait for a peer, perhaps for ever */
};

/* An MPI return code as one of ours; `what` names the call for the message. */
cdp_status cdp_from_mpi(int code, const char *what);

/* Turn the test loop until the request is done. */
cdp_status cdp_mpi_wait(cdp_world *world, MPI_Request *request, const char *what);

/* The bell of a rank of this host: a word that changes when the rank has sent something; NULL when its door
 * is out of sight. Valid until the watchdog ends. */
const atomic_uint *cdp_bell_of(const cdp_world *world, int rank);
/* Ring this rank's own. */
void cdp_bell_ring(cdp_world *world);
/* Sleep until the bell reads something else than `seen`, at most timeout_ns. */
void cdp_bell_sleep(const atomic_uint *bell, unsigned seen, int64_t timeout_ns);

/* One turn of the watchdog's main-thread half: note that the loop came round, send and take beats. */
cdp_status cdp_watchdog_turn(cdp_watchdog *watchdog);
