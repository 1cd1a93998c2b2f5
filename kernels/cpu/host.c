/* Facts about this host: processor, cores, memory. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/cgroup.h"
#include "kernels/device.h"

#if defined(__x86_64__)
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM; the state component of tiles */

/* A process that uses tiles needs the kernel's word for it (Linux 5.16 and later), once, before its threads
 * start; without that the first tile instruction is a SIGILL. */
static bool may_use_tiles(void) {
    static int answer = -1; /* the kernel's word does not change */
    if (answer < 0)
        answer = cdp_cpu_has_amx() && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return answer == 1;
}
#endif

cdp_cpu_tier cdp_cpu_best_tier(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return may_use_tiles() ? CDP_TIER_AMX : CDP_TIER_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        return CDP_TIER_AVX2;
#endif
    return CDP_TIER_PLAIN;
}

const char *cdp_cpu_tier_name(cdp_cpu_tier tier) {
    static const char *const names[CDP_N_TIERS] = {"plain", "avx2", "avx512", "amx"};
    return names[tier];
}

/* The rest of the line of /proc/cpuinfo that starts with `key`, "" when there is none. */
static void cpuinfo_line(char *out, size_t out_size, const char *key) {
    out[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL)
        return;
    char line[4096];
    while (out[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon == NULL || strncmp(line, key, strlen(key)) != 0)
            continue;
        snprintf(out, out_size, "%s", colon + 1 + strspn(colon + 1, " \t"));
        out[strcspn(out, "\n")] = '\0';
    }
    fclose(file);
}

const char *cdp_cpu_model_name(void) {
    static char name[128]; /* a fact of the machine, read once */
    if (name[0] == '\0')
        cpuinfo_line(name, sizeof name, "model name");
    if (name[0] == '\0')
        snprintf(name, sizeof name, "unknown processor");
    return name;
}

bool cdp_cpu_has_amx(void) {
    char flags[4096];
    cpuinfo_line(flags, sizeof flags, "flags");
    return strstr(flags, " amx_bf16") != NULL;
}

int cdp_cpu_usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n;
}

static uint64_t mem_available(void) {
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL)
        return UINT64_MAX;
    char line[256];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    fclose(file);
    return kib == 0 ? UINT64_MAX : (uint64_t)kib * 1024;
}

uint64_t cdp_cpu_free_bytes(void) {
    const uint64_t machine = mem_available(), group = cdp_cgroup_left("");
    return machine < group ? machine : group;
}

/* VmHWM, not getrusage: the latter also remembers what this process was before exec. */
uint64_t cdp_process_peak_bytes(void) {
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return 0;
    char line[256];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
            break;
    fclose(file);
    return (uint64_t)kib * 1024;
}
