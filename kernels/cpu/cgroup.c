#include "kernels/cpu/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The files of one version. Version 2 throttles above `high` until hardly anything moves: that is a limit,
 * too. */
typedef struct version {
    const char *mount, *limit, *high, *used;
} version;
static const version versions[] = {
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", NULL, "memory.usage_in_bytes"},
    {"/sys/fs/cgroup", "memory.max", "memory.high", "memory.current"},
};

static FILE *open_in(const char *folder, const char *name) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return NULL;
    return fopen(path, "re");
}

/* The number in a file, or `otherwise` when it is missing or says "max". */
static uint64_t number_in(const char *folder, const char *name, uint64_t otherwise) {
    FILE *file = open_in(folder, name);
    if (file == NULL)
        return otherwise;
    unsigned long long value;
    const int n = fscanf(file, "%llu", &value);
    fclose(file);
    return n == 1 ? (uint64_t)value : otherwise;
}

/* Of the group and of those in it: version 1 has that sum under a name of its own, further down. */
static uint64_t idle_cache(const char *folder) {
    FILE *file = open_in(folder, "memory.stat");
    if (file == NULL)
        return 0;
    char line[256];
    unsigned long long value, bytes = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "inactive_file %llu", &value) == 1 ||
            sscanf(line, "total_inactive_file %llu", &value) == 1)
            bytes = value;
    fclose(file);
    return bytes;
}

static uint64_t left_in(const version *v, const char *folder) {
    uint64_t limit = number_in(folder, v->limit, UINT64_MAX);
    const uint64_t high = v->high != NULL ? number_in(folder, v->high, UINT64_MAX) : UINT64_MAX;
    limit = high < limit ? high : limit;
    if (limit >= INT64_MAX / 2) /* version 1 says "none" by a huge number */
        return UINT64_MAX;
    const uint64_t used = number_in(folder, v->used, 0), cache = idle_cache(folder);
    return limit + cache > used ? limit + cache - used : 0;
}

/* The group and all above it. A path with ".." leads out of what this process can see. */
static uint64_t left_up_from(const version *v, const char *root, const char *group) {
    char folder[PATH_MAX];
    const bool is_outside = strstr(group, "/..") != NULL;
    const size_t n_mount = strlen(root) + strlen(v->mount);
    if (snprintf(folder, sizeof folder, "%s%s%s", root, v->mount, is_outside ? "" : group) >=
        (int)sizeof folder)
        return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    for (char *end = folder + strlen(folder); end != NULL && end >= folder + n_mount;
         end = strrchr(folder, '/')) {
        *end = '\0';
        const uint64_t left = left_in(v, folder);
        least = left < least ? left : least;
    }
    return least;
}

/* "4:cpu,memory:PATH": the version whose memory it rules, and PATH; NULL for a line of another controller. */
static const version *version_of(char *line, const char **group_out) {
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL)
        return NULL;
    *group++ = '\0';
    *group_out = group;
    if (controllers[1] == '\0')
        return &versions[1];
    for (const char *at = strtok(controllers + 1, ","); at != NULL; at = strtok(NULL, ","))
        if (strcmp(at, "memory") == 0)
            return &versions[0];
    return NULL;
}

uint64_t cdp_cgroup_left(const char *root) {
    char line[PATH_MAX];
    uint64_t least = UINT64_MAX;
    FILE *file = open_in(root, "proc/self/cgroup");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *group = "";
        const version *v = version_of(line, &group);
        const uint64_t left = v != NULL ? left_up_from(v, root, group) : UINT64_MAX;
        least = left < least ? left : least;
    }
    if (file != NULL)
        fclose(file);
    return least;
}
