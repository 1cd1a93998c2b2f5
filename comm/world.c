/* Joining and leaving the world: who is who. */
#include "comm/inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

bool cdp_world_has_launcher(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
}

const char *cdp_world_launch_rank(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return rank != NULL ? rank : getenv("PMIX_RANK");
}

cdp_status cdp_from_mpi(int code, const char *what) {
    if (code == MPI_SUCCESS)
        return CDP_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (MPI_Error_string(code, text, &n) != MPI_SUCCESS)
        snprintf(text, sizeof text, "MPI error %d", code);
    return cdp_fail(CDP_INTERNAL, "%s: %s", what, text);
}

/* Under srun without pmix every task believes to be alone, and all would do the same work on the same files.
 * SLURM_STEP_NUM_TASKS speaks of this very step; SLURM_NTASKS is also set in a batch shell, where a world of
 * one is right. With mpirun inside a Slurm job the variable speaks of mpirun's helpers: OMPI's comes first.
 */
static cdp_status check_slurm(int size) {
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    if (size > 1 || tasks == NULL || getenv("OMPI_COMM_WORLD_SIZE") != NULL)
        return CDP_OK;
    const long n_tasks = strtol(tasks, NULL, 10);
    if (n_tasks <= 1)
        return CDP_OK;
    return cdp_fail(CDP_USAGE, "%ld tasks but each sees only itself: start with srun --mpi=pmix or mpirun",
                    n_tasks);
}

/* MPI_Init is where all ranks come together, so the blocking collectives here wait for nobody for long. */
static cdp_status find_neighbours(cdp_world *world) {
    MPI_Comm local = MPI_COMM_NULL;
    CDP_TRY(cdp_from_mpi(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &local),
        "grouping the ranks of one host"));
    int rc = MPI_Comm_rank(local, &world->local_rank);
    if (rc == MPI_SUCCESS)
        rc = MPI_Comm_size(local, &world->local_size);
    world->host_leader = world->rank;
    if (rc == MPI_SUCCESS)
        rc = MPI_Bcast(&world->host_leader, 1, MPI_INT, 0, local);
    MPI_Comm_free(&local);
    return cdp_from_mpi(rc, "grouping the ranks of one host");
}

static cdp_status start_mpi(cdp_world *world) {
    int provided = 0;
    CDP_TRY(cdp_from_mpi(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"));
    world->has_mpi = true;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_FUNNELED)
        return cdp_fail(CDP_UNAVAILABLE, "this MPI library does not allow threads beside the main one");
    CDP_TRY(cdp_from_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &world->rank), "MPI_Comm_rank"));
    CDP_TRY(cdp_from_mpi(MPI_Comm_size(MPI_COMM_WORLD, &world->size), "MPI_Comm_size"));
    if (world->size == 1)
        return CDP_OK;
    MPI_Comm *all[] = {&world->agreements, &world->beats, &world->headers, &world->data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        CDP_TRY(cdp_from_mpi(MPI_Comm_dup(MPI_COMM_WORLD, all[i]), "MPI_Comm_dup"));
    return find_neighbours(world);
}

cdp_status cdp_world_open(cdp_world **out) {
    *out = NULL;
    cdp_world *world = calloc(1, sizeof *world);
    if (world == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the world");
    /* A sleep of 20 us would else end 50 us late. */
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    world->size = world->local_size = 1;
    world->agreements = world->beats = world->headers = world->data = MPI_COMM_NULL;
    if (gethostname(world->host, sizeof world->host - 1) != 0)
        snprintf(world->host, sizeof world->host, "unknown host");

    cdp_status st = CDP_OK;
    if (cdp_world_has_launcher())
        CDP_TRY_GOTO(start_mpi(world), st, done);
    CDP_TRY_GOTO(check_slurm(world->size), st, done);
done:
    if (st == CDP_OK)
        *out = world;
    else if (world->size == 1)
        cdp_world_close(world);
    else
        free(world); /* no MPI_Finalize: it would wait for ranks that know of no failure */
    return st;
}

void cdp_world_close(cdp_world *world) {
    if (world == NULL)
        return;
    if (world->watchdog != NULL)
        cdp_watchdog_stop(world); /* trouble here has nobody left to be told */
    MPI_Comm *all[] = {&world->agreements, &world->beats, &world->headers, &world->data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (*all[i] != MPI_COMM_NULL)
            MPI_Comm_free(all[i]);
    if (world->has_mpi)
        MPI_Finalize();
    free(world);
}

int cdp_world_rank(const cdp_world *world) {
    return world->rank;
}
int cdp_world_size(const cdp_world *world) {
    return world->size;
}
int cdp_world_local_rank(const cdp_world *world) {
    return world->local_rank;
}
bool cdp_world_must_exit_at_once(const cdp_world *world) {
    return world->must_exit_at_once;
}
int cdp_world_host_leader(const cdp_world *world) {
    return world->host_leader;
}
int cdp_world_local_size(const cdp_world *world) {
    return world->local_size;
}
const char *cdp_world_host(const cdp_world *world) {
    return world->host;
}

cdp_status cdp_world_poll(cdp_world *world) {
    return world->watchdog == NULL ? CDP_OK : cdp_watchdog_turn(world->watchdog);
}
