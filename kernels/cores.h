/* kernels/cores.h - which cores of a host each of its ranks computes on.
 *
 *     affinity masks    rank 0 {0-7}   rank 1 {0-7}      (mpirun's binding, taskset, a cgroup's cpuset)
 *     shared out        rank 0 {0-3}   rank 1 {4-7}      no core twice
 *     quota of 6 cores  rank 0  3      rank 1  3         (a cgroup's cpu.max: how many, not which)
 *
 * Whole cores: of hardware threads that share one, the first is used; the others only where more threads are
 * asked for than there are cores. Where there are more ranks than cores a rank may come away with none: it
 * then computes with one thread, and nobody is pinned.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* What one rank may use. */
typedef struct cdp_cores {
    cpu_set_t mask;
    int32_t quota;     /* whole cores that the quota of its cgroup pays for, at least 1; 0: no limit */
    uint64_t quota_of; /* the cgroup: equal for ranks that share the quota */
} cdp_cores;

/* What it is to use. */
typedef struct cdp_core_share {
    int n;          /* cores, at least 1 */
    bool is_own;    /* nobody else computes on them: worker threads may be pinned there, one each */
    cpu_set_t cpus; /* n of them where is_own, else the mask */
    cpu_set_t more; /* where is_own: the other hardware threads of these cores that the rank may use */
} cdp_core_share;

/* Read this process's mask and quota. `root` is "" but in tests: a folder that stands for "/". */
void cdp_cores_read(cdp_cores *out, const char *root);

/* core_of[cpu], for CPU_SETSIZE processors: the lowest hardware thread of its core. Only those in `cpus` are
 * looked up. */
void cdp_cores_topology(int *core_of, const cpu_set_t *cpus, const char *root);

/* Bytes of the last-level caches of these processors, each cache once; 0 where nothing is said. */
uint64_t cdp_cores_cache_bytes(const cpu_set_t *cpus, const char *root);

/* The share of rank `mine` among n_ranks of one host. Every rank computes the same shares for all. Ranks of
 * equal masks get neighbouring cores; no share is larger than another by more than one core, unless a mask or
 * a quota keeps it so. */
void cdp_cores_share(cdp_core_share *out, const cdp_cores *ranks, int n_ranks, int mine, const int *core_of);

/* Make it a share for n_threads: fewer of its cores, or hardware threads of them beside the first ones. More
 * than that are not its own; they run anywhere in the rank's mask. */
void cdp_cores_ask(cdp_core_share *share, int n_threads, const cpu_set_t *mask);
