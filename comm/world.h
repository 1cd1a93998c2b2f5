/* comm/world.h - the processes of one run: start, who is who, agreement, stop.
 *
 * Without a launcher's variables (mpirun, srun with pmix) a process is a world of one and never touches MPI.
 * `rank` and `size` are the two MPI numbers. Everything here runs on the main thread (MPI_THREAD_FUNNELED,
 * MPI_ERRORS_RETURN), and every wait is a test loop with a short spin and then a sleep, which also keeps the
 * beats going that tell the next rank that this one lives (watchdog.h).
 */
#pragma once

#include "kernels/clock.h"
#include "kernels/status.h"
#include <stdint.h>

typedef struct cdp_world cdp_world;

/* True when this process was started by a launcher that forms a world (OMPI_COMM_WORLD_SIZE or PMIX_RANK). */
bool cdp_world_has_launcher(void);

/* This process's number as mpirun or srun with pmix wrote it into the environment, before there is a world;
 * NULL without either. */
const char *cdp_world_launch_rank(void);

/* Join the world. A Slurm step of several tasks that each see only themselves (srun without pmix):
 * CDP_USAGE with the advice. The caller closes *out. Collective. */
cdp_status cdp_world_open(cdp_world **out);

/* Leave: MPI_Finalize on all ranks together. Only after an agreement, or on the good end; a fault that one
 * rank alone knows of leaves by _exit instead. NULL is fine. Collective. */
void cdp_world_close(cdp_world *world);

/* True when a communicator was given up and may still wait for its peer: then the process ends by _exit, for
 * the destructors of its library would meet that wait. Asked before the close. */
bool cdp_world_must_exit_at_once(const cdp_world *world);

int cdp_world_rank(const cdp_world *world);
int cdp_world_size(const cdp_world *world);
int cdp_world_local_rank(const cdp_world *world); /* among the ranks of this host */
int cdp_world_local_size(const cdp_world *world);
int cdp_world_host_leader(const cdp_world *world); /* the lowest rank of this host: tells hosts apart */
const char *cdp_world_host(const cdp_world *world);

/* A plain mpirun of one or two ranks ties each to one core: give this thread, and those it starts from here
 * on, all processors of the launcher. True when that was so and was undone, with the processors there now;
 * false when the binding is the user's choice or there is none. Before the device opens. Not collective. */
bool cdp_world_unbind(const cdp_world *world, int *n_cpus_out);

/* End of a phase: every rank brings its status (with its message in cdp_error_message). Returns the same
 * status on every rank: CDP_OK when all are, else that of the lowest rank that failed; its message, with
 * "rank N: " before it in worlds of several, is then in every rank's cdp_error_message, and stays so in
 * a further agreement. Collective. */
cdp_status cdp_world_agree(cdp_world *world, cdp_status mine);

/* Rank 0's n bytes on every rank. Collective; n is equal everywhere. */
cdp_status cdp_world_broadcast(cdp_world *world, void *bytes, size_t n);

/* n bytes of every rank, in rank order, on every rank: all holds size * n. Collective. */
cdp_status cdp_world_gather(cdp_world *world, void *all, const void *mine, size_t n);

/* The same in two parts, for ranks that go on with their work until all have come: `all` and `mine` belong to
 * the gather until the test says that it is done, and nothing else collective begins before. The start is
 * collective; the test never blocks, and the caller keeps cdp_world_poll going. */
cdp_status cdp_world_gather_start(cdp_world *world, void *all, const void *mine, size_t n);
cdp_status cdp_world_gather_test(cdp_world *world, bool *is_done_out);

/* Smallest of one number over all ranks. Collective. */
cdp_status cdp_world_min(cdp_world *world, int64_t *value);

/* Wait until every rank is here. Collective. */
cdp_status cdp_world_barrier(cdp_world *world);

/* What to add to this rank's cdp_now_ns() to have rank 0's: hosts start their clocks at different moments.
 * 0 on rank 0's own host, elsewhere good to half of the quickest of a few messages there and back.
 * Collective. */
cdp_status cdp_world_clock(cdp_world *world, int64_t *offset_ns_out);

/* One turn of any test loop: keep the beats going, note stop signals. Never blocks. Not collective. */
cdp_status cdp_world_poll(cdp_world *world);

/* Pause between two turns of a test loop: nothing for the first 100 us since the last success, then 50 us
 * sleeps, 200 us after 5 ms, 1 ms after 0.1 s. Where the success is expected after a certain time
 * (expected_ns, 0: nobody knows), it sleeps longer before and looks every 20 us around it. Start with *waiter
 * = {0}, reset since_ns so after each success. */
typedef struct cdp_waiter {
    int64_t since_ns; /* 0: the first pause sets it */
    int64_t expected_ns;
} cdp_waiter;
void cdp_wait_pause(cdp_waiter *waiter);

/* SIGTERM, SIGINT and SIGUSR1 ask for a stop; a second SIGINT, or SIGUSR2, leaves at once with 75. SIGPIPE
 * is ignored: the write says what is wrong. */
cdp_status cdp_stop_install(void);
bool cdp_stop_wanted(void);
