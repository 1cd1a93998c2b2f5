/* Undo a binding that nobody asked for. A plain `mpirun -np 1` or `-np 2` ties each rank to one core, and a
 * device with worker threads, or a reader thread, would share it. */
#include "comm/inside.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* With one of these the binding is the user's choice. Up to Open MPI 4 mpirun hands its own options on so. */
static bool is_chosen(void) {
    static const char *const names[] = {
        "OMPI_MCA_hwloc_base_binding_policy", "OMPI_MCA_hwloc_base_cpu_list",
        "OMPI_MCA_hwloc_base_cpu_set",        "OMPI_MCA_orte_rankfile",
        "OMPI_MCA_rmaps_rank_file_path",      "PRTE_MCA_hwloc_default_binding_policy"};
    static const char *const mappings[] = {"OMPI_MCA_rmaps_base_mapping_policy",
                                           "PRTE_MCA_rmaps_default_mapping_policy"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]) != NULL)
            return true;
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++)
        if (getenv(mappings[i]) != NULL && strcasestr(getenv(mappings[i]), "pe=") != NULL)
            return true;
    return false;
}

static bool is_binding(const char *option, const char *value) {
    static const char *const names[] = {"bind-to", "cpu-set", "cpu-list", "rankfile", "rf"};
    const size_t n_dashes = strspn(option, "-");
    for (size_t i = 0; i < sizeof names / sizeof *names && n_dashes > 0; i++)
        if (strcmp(option + n_dashes, names[i]) == 0)
            return true;
    return (n_dashes > 0 && strcmp(option + n_dashes, "map-by") == 0 && strcasestr(value, "pe=") != NULL) ||
           strcmp(option, "hwloc_base_binding_policy") == 0 ||
           strcmp(option, "hwloc_default_binding_policy") == 0;
}

/* Open MPI 5 hands none of its options on: they are where the user wrote them, among the launcher's words. */
static bool is_chosen_by_words(int pid) {
    char path[64], words[8192];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const size_t n = fread(words, 1, sizeof words - 2, file); /* its own options are the first */
    fclose(file);
    words[n] = words[n + 1] = '\0';
    for (const char *word = words; word < words + n; word += strlen(word) + 1)
        if (is_binding(word, word + strlen(word) + 1))
            return true;
    return false;
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

/* The launcher itself is not bound: its mask is what the user, a cgroup or taskset left to the whole run.
 * False where the user chose; so, too, under prted, Open MPI 5's daemon on another host, untold of it. */
static bool launcher_mask(cpu_set_t *out) {
    static const char *const launchers[] = {"mpirun", "mpiexec", "orterun", "orted", "prterun"};
    int pid = getppid();
    for (int hop = 0; hop < 8 && pid > 1; hop++) {
        char name[32];
        int parent = 0;
        if (!read_process(pid, name, &parent))
            return false;
        for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
            if (strcmp(name, launchers[i]) == 0)
                return !is_chosen_by_words(pid) && sched_getaffinity(pid, sizeof *out, out) == 0;
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
