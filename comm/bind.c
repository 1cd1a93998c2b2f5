/* Undo a binding that nobody asked for. A plain `mpirun -np 1` or `-np 2` ties each rank to one core, and a
 * device with worker threads, or a reader thread, would share it. */
#include "comm/inside.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* mpirun hands its own options on as variables: with one of these the binding is the user's choice. */
static bool is_chosen(void) {
    static const char *const names[] = {"OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_hwloc_base_cpu_list",
                                        "OMPI_MCA_hwloc_base_cpu_set", "OMPI_MCA_orte_rankfile",
                                        "OMPI_MCA_rmaps_rank_file_path"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]) != NULL)
            return true;
    const char *mapping = getenv("OMPI_MCA_rmaps_base_mapping_policy");
    return mapping != NULL && strcasestr(mapping, "pe=") != NULL;
}

/* Hardware threads of the core that holds the first processor of the mask; 1 when the system does not say. */
static int threads_of_core(const cpu_set_t *mask) {
    int first = 0;
    while (first < CPU_SETSIZE && !CPU_ISSET((size_t)first, mask))
        first++;
    char path[96], text[128] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", first);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 1;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = '\0';
    fclose(file);
    int n = 0, low, high, used;
    for (const char *at = text; sscanf(at, "%d%n", &low, &used) == 1;) {
        at += used;
        high = low;
        if (sscanf(at, "-%d%n", &high, &used) == 1)
            at += used;
        n += high - low + 1;
        if (*at++ != ',')
            break;
    }
    return n < 1 ? 1 : n;
}

/* Name and parent of a process, from /proc/PID/stat: "17 (mpirun) S 4 ..." */
static bool read_process(int pid, char name[32], int *parent) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const bool is_read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    const char *open = strchr(text, '('), *shut = strrchr(text, ')');
    if (!is_read || open == NULL || shut == NULL || sscanf(shut + 1, " %*c %d", parent) != 1)
        return false;
    snprintf(name, 32, "%.*s", (int)(shut - open - 1), open + 1);
    return true;
}

/* The launcher itself is not bound: its mask is what the user, a cgroup or taskset left to the whole run. */
static bool launcher_mask(cpu_set_t *out) {
    static const char *const launchers[] = {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted"};
    int pid = getppid();
    for (int hop = 0; hop < 8 && pid > 1; hop++) {
        char name[32];
        int parent = 0;
        if (!read_process(pid, name, &parent))
            return false;
        for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
            if (strcmp(name, launchers[i]) == 0)
                return sched_getaffinity(pid, sizeof *out, out) == 0;
        pid = parent;
    }
    return false;
}

bool cdp_world_unbind(const cdp_world *world, int *n_cpus_out) {
    cpu_set_t mine, all;
    if (!world->has_mpi || getenv("OMPI_COMM_WORLD_SIZE") == NULL || is_chosen())
        return false;
    if (sched_getaffinity(0, sizeof mine, &mine) != 0 || CPU_COUNT(&mine) > threads_of_core(&mine))
        return false;
    if (!launcher_mask(&all) || CPU_COUNT(&all) <= CPU_COUNT(&mine))
        return false;
    if (sched_setaffinity(0, sizeof all, &all) != 0 || sched_getaffinity(0, sizeof mine, &mine) != 0)
        return false;
    *n_cpus_out = CPU_COUNT(&mine);
    return true;
}
