#include "comm/death.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

/* linux/pidfd.h: struct pidfd_info as it was first, PIDFD_GET_INFO, PIDFD_INFO_EXIT. */
typedef struct pidfd_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t status;
} pidfd_info;
#define GET_INFO _IOWR(0xFF, 11, pidfd_info)
enum { INFO_EXIT = 1 << 3 };

static bool ask_pidfd(int pidfd, int *status_out) {
    pidfd_info info = {.mask = INFO_EXIT};
    if (ioctl(pidfd, GET_INFO, &info) != 0 || (info.mask & INFO_EXIT) == 0)
        return false;
    *status_out = info.status;
    return true;
}

/* A zombie's line ends in its status. The name in it may hold anything, also spaces and brackets. */
static bool ask_zombie(int pid, int *status_out) {
    char path[64], line[1024] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const bool is_read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    const char *name_end = strrchr(line, ')'), *last = strrchr(line, ' ');
    return is_read && name_end != NULL && strncmp(name_end, ") Z ", 4) == 0 &&
           sscanf(last, " %d", status_out) == 1;
}

void cdp_death_read(char out[CDP_DEATH_TEXT], int pid, int pidfd) {
    int status = 0;
    out[0] = '\0';
    /* Asked once more, because it may be reaped between the two questions. */
    if (!ask_pidfd(pidfd, &status) && !ask_zombie(pid, &status) && !ask_pidfd(pidfd, &status))
        return;
    if (WIFSIGNALED(status))
        snprintf(out, CDP_DEATH_TEXT, "signal %d: %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, CDP_DEATH_TEXT, "exit code %d", WEXITSTATUS(status));
}

uint64_t cdp_death_oom_kills(void) {
    char line[128];
    unsigned long long n = 0;
    FILE *file = fopen("/proc/vmstat", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "oom_kill %llu", &n) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return n;
}
