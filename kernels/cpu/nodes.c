#include "kernels/cpu/nodes.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MAX_NODES = 1024,
    WORD_BITS = 8 * sizeof(unsigned long),
    PREFERRED = 1, /* MPOL_PREFERRED of linux/mempolicy.h */
};

/* The file's list "0-3,8" : value goes to those places of out (room). */
static void read_list(int *out, int room, int value, const char *root, const char *name) {
    char path[4200];
    snprintf(path, sizeof path, "%s/sys/devices/system/node/%s", root, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    for (int low, high, mark = ','; mark == ',' && fscanf(file, "%d", &low) == 1;) {
        high = low;
        mark = fgetc(file);
        if (mark == '-' && fscanf(file, "%d", &high) == 1)
            mark = fgetc(file);
        for (int i = low; i >= 0 && i <= high && i < room; i++)
            out[i] = value;
    }
    fclose(file);
}

bool cdp_nodes_read(int *node_of, int n_workers, const cpu_set_t *cpus, const char *root) {
    int node_of_cpu[CPU_SETSIZE] = {0}, is_online[MAX_NODES] = {0}, n = 0;
    bool differ = false;
    char name[64];
    read_list(is_online, MAX_NODES, 1, root, "online");
    for (int node = 0; node < MAX_NODES; node++) {
        snprintf(name, sizeof name, "node%d/cpulist", node);
        if (is_online[node])
            read_list(node_of_cpu, CPU_SETSIZE, node, root, name);
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && n < n_workers; cpu++)
        if (CPU_ISSET((size_t)cpu, cpus)) {
            node_of[n] = node_of_cpu[cpu];
            differ = differ || node_of[n] != node_of[0];
            n++;
        }
    return differ && n == n_workers;
}

void cdp_node_prefer(void *begin, size_t n_bytes, int node) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)begin + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)begin + n_bytes) / page * page;
    unsigned long mask[MAX_NODES / WORD_BITS] = {0};
    mask[(unsigned)node / WORD_BITS] = 1ul << ((unsigned)node % WORD_BITS);
    if (end > first)
        syscall(SYS_mbind, first, end - first, PREFERRED, mask, (unsigned long)MAX_NODES + 1, 0ul);
}

void cdp_nodes_place(void *memory, size_t n_bytes, const int *node_of, int n_workers,
                     cdp_node_preferer prefer) {
    for (int first = 0, end; first < n_workers; first = end) {
        for (end = first + 1; end < n_workers && node_of[end] == node_of[first];)
            end++;
        const size_t begin = n_bytes * (size_t)first / (size_t)n_workers;
        prefer((char *)memory + begin, n_bytes * (size_t)end / (size_t)n_workers - begin, node_of[first]);
    }
}
