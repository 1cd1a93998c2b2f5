#include "kernels/cores.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cgroup.h"

/* What the kernel says ------------------------------------------------------------------------------------
 */

/* The first line of a file, without its end; false when there is none. */
static bool first_line(char *out, size_t out_size, const char *path) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const bool is_read = fgets(out, (int)out_size, file) != NULL;
    fclose(file);
    out[is_read ? strcspn(out, "\n") : 0] = '\0';
    return is_read;
}

/* Cores that a quota pays for in one group: "QUOTA PERIOD" or "max PERIOD" in cpu.max, or version 1's two
 * files, where no limit is -1. 0: no limit. */
static double quota_in(const char *folder, int version) {
    char path[4200], text[64];
    double quota = 0, period = 0;
    snprintf(path, sizeof path, "%s/%s", folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (!first_line(text, sizeof text, path))
        return 0;
    if (version == 2)
        return sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : 0;
    sscanf(text, "%lf", &quota);
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!first_line(text, sizeof text, path) || sscanf(text, "%lf", &period) != 1)
        return 0;
    return quota > 0 && period > 0 ? quota / period : 0;
}

static uint64_t hash_of(const char *text) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* The tightest quota on the way up holds. */
static void look_at_quota(void *of, const char *folder, int version) {
    cdp_cores *cores = of;
    const double quota = quota_in(folder, version);
    const int32_t whole = quota >= 1 ? (int32_t)quota : 1;
    if (quota > 0 && (cores->quota == 0 || whole < cores->quota)) {
        cores->quota = whole;
        cores->quota_of = hash_of(folder);
    }
}

void cdp_cores_read(cdp_cores *out, const char *root) {
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(0, sizeof out->mask, &out->mask) != 0)
        CPU_SET(0, &out->mask);
    cdp_cgroup_walk(root, "cpu", look_at_quota, out);
}

void cdp_cores_topology(int *core_of, const cpu_set_t *cpus, const char *root) {
    char path[4200], text[64];
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        int first;
        core_of[cpu] = cpu;
        if (!CPU_ISSET((size_t)cpu, cpus))
            continue;
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", root,
                 cpu);
        if (first_line(text, sizeof text, path) && sscanf(text, "%d", &first) == 1 && first >= 0 &&
            first < CPU_SETSIZE)
            core_of[cpu] = first;
    }
}

/* The last level of cpu's caches: "32768K" or "32M", and the lowest processor that has it too. */
static uint64_t last_cache(int *first_out, int cpu, const char *root) {
    char path[4200], text[64];
    uint64_t n_bytes = 0;
    for (int level = 0;; level++) {
        unsigned long long size;
        char unit = ' ';
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/cache/index%d/size", root, cpu, level);
        if (!first_line(text, sizeof text, path) || sscanf(text, "%llu%c", &size, &unit) < 1)
            return n_bytes;
        n_bytes = (uint64_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", root,
                 cpu, level);
        if (!first_line(text, sizeof text, path) || sscanf(text, "%d", first_out) != 1 || *first_out < 0 ||
            *first_out >= CPU_SETSIZE)
            *first_out = cpu;
    }
}

uint64_t cdp_cores_cache_bytes(const cpu_set_t *cpus, const char *root) {
    uint64_t sum = 0;
    cpu_set_t seen;
    CPU_ZERO(&seen);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        int first = cpu;
        if (!CPU_ISSET((size_t)cpu, cpus))
            continue;
        const uint64_t n_bytes = last_cache(&first, cpu, root);
        if (!CPU_ISSET((size_t)first, &seen))
            sum += n_bytes;
        CPU_SET((size_t)first, &seen);
    }
    return sum;
}

/* Shared out ----------------------------------------------------------------------------------------------
 */

typedef struct deal {
    const cdp_cores *ranks;
    int n_ranks;
    const int *core_of;
    int n_of[CPU_SETSIZE];     /* by rank: cores so far */
    int owner[CPU_SETSIZE];    /* by core: its rank, or -1 */
    int n_wanted[CPU_SETSIZE]; /* by core: ranks that may have it */
} deal;

/* The first hardware thread of the core that the rank may use, or -1. */
static int thread_of(const deal *d, int rank, int core) {
    for (int cpu = core; cpu < CPU_SETSIZE; cpu++)
        if (d->core_of[cpu] == core && CPU_ISSET((size_t)cpu, &d->ranks[rank].mask))
            return cpu;
    return -1;
}

/* A free core for the rank: of those that the fewest ranks may have, the lowest. -1: none. */
static int free_core(const deal *d, int rank) {
    int best = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        const int core = d->core_of[cpu];
        if (CPU_ISSET((size_t)cpu, &d->ranks[rank].mask) && d->owner[core] < 0 &&
            (best < 0 || d->n_wanted[core] < d->n_wanted[best]))
            best = core;
    }
    return best;
}

static bool has_quota_left(const deal *d, int rank) {
    const cdp_cores *mine = &d->ranks[rank];
    int used = 0;
    for (int i = 0; i < d->n_ranks; i++)
        if (d->ranks[i].quota > 0 && d->ranks[i].quota_of == mine->quota_of)
            used += d->n_of[i];
    return mine->quota == 0 || used < mine->quota;
}

/* One core at a time to the rank with the fewest. */
static void deal_cores(deal *d) {
    for (;;) {
        int next = -1, core = -1;
        for (int i = 0; i < d->n_ranks; i++) {
            if (next >= 0 && d->n_of[i] >= d->n_of[next])
                continue;
            const int found = has_quota_left(d, i) ? free_core(d, i) : -1;
            if (found >= 0) {
                next = i;
                core = found;
            }
        }
        if (next < 0)
            return;
        d->owner[core] = next;
        d->n_of[next]++;
    }
}

/* Cores that ranks of one mask got between them are dealt to them again, in order: neighbours share caches
 * and memory. */
static void join_neighbours(deal *d) {
    int class_of[CPU_SETSIZE], turn[CPU_SETSIZE], n_given[CPU_SETSIZE] = {0};
    for (int i = 0; i < d->n_ranks; i++) { /* a class has the number of its first rank */
        for (class_of[i] = 0; !CPU_EQUAL(&d->ranks[class_of[i]].mask, &d->ranks[i].mask);)
            class_of[i]++;
        turn[i] = i;
    }
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (d->owner[core] < 0)
            continue;
        const int class = class_of[d->owner[core]];
        while (n_given[class] == d->n_of[turn[class]] || class_of[turn[class]] != class) {
            turn[class]++;
            n_given[class] = 0;
        }
        d->owner[core] = turn[class];
        n_given[class]++;
    }
}

static void count_wishes(deal *d) {
    for (int core = 0; core < CPU_SETSIZE; core++) {
        d->owner[core] = -1;
        for (int i = 0; d->core_of[core] == core && i < d->n_ranks; i++)
            d->n_wanted[core] += thread_of(d, i, core) >= 0 ? 1 : 0;
    }
}

void cdp_cores_share(cdp_core_share *out, const cdp_cores *ranks, int n_ranks, int mine, const int *core_of) {
    deal d = {.ranks = ranks, .n_ranks = n_ranks, .core_of = core_of};
    *out = (cdp_core_share){.n = 1, .cpus = ranks[mine].mask};
    if (n_ranks > CPU_SETSIZE)
        return;
    count_wishes(&d);
    deal_cores(&d);
    join_neighbours(&d);
    out->n = d.n_of[mine] > 0 ? d.n_of[mine] : 1;
    out->is_own = true;
    for (int i = 0; i < n_ranks; i++)
        out->is_own = out->is_own && d.n_of[i] > 0 && ranks[i].quota == 0;
    if (!out->is_own)
        return;
    CPU_ZERO(&out->cpus);
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (d.owner[core] == mine)
            CPU_SET((size_t)thread_of(&d, mine, core), &out->cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (d.owner[core_of[cpu]] == mine && CPU_ISSET((size_t)cpu, &ranks[mine].mask) &&
            !CPU_ISSET((size_t)cpu, &out->cpus))
            CPU_SET((size_t)cpu, &out->more);
}

void cdp_cores_ask(cdp_core_share *share, int n_threads, const cpu_set_t *mask) {
    const int n_more = n_threads - share->n;
    if (n_more == 0)
        return;
    if (!share->is_own || n_more > CPU_COUNT(&share->more)) {
        *share = (cdp_core_share){.n = n_threads, .cpus = *mask};
        return;
    }
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && share->n > n_threads; cpu--)
        if (CPU_ISSET((size_t)cpu, &share->cpus)) { /* the lowest stay: neighbours share caches and memory */
            CPU_CLR((size_t)cpu, &share->cpus);
            share->n--;
        }
    for (int cpu = 0; cpu < CPU_SETSIZE && share->n < n_threads; cpu++)
        if (CPU_ISSET((size_t)cpu, &share->more)) {
            CPU_SET((size_t)cpu, &share->cpus);
            CPU_CLR((size_t)cpu, &share->more);
            share->n++;
        }
}
