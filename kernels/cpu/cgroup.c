#include "kernels/cpu/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The files of one version. Version 2 throttles above `high` until hardly anything moves: that is a limit,
 * too. */
typedef struct version {
    const char *limit, *high, *used;
} version;
static const version versions[] = {
    {"memory.limit_in_bytes", NULL, "memory.usage_in_bytes"},
    {"memory.max", "memory.high", "memory.current"},
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

static void look_at_memory(void *of, const char *folder, int number) {
    const uint64_t left = left_in(&versions[number - 1], folder);
    uint64_t *least = of;
    *least = left < *least ? left : *least;
}

uint64_t cdp_cgroup_left(const char *root) {
    uint64_t least = UINT64_MAX;
    cdp_cgroup_walk(root, "memory", look_at_memory, &least);
    return least;
}

/* The way up ----------------------------------------------------------------------------------------------
 */

/* The group and all above it. A path with ".." leads out of what this process can see. */
static void walk_up(const char *mount, const char *group, int number, cdp_cgroup_look look, void *of) {
    char folder[PATH_MAX];
    const bool is_outside = strstr(group, "/..") != NULL;
    const size_t n_mount = strlen(mount);
    if (snprintf(folder, sizeof folder, "%s%s", mount, is_outside ? "" : group) >= (int)sizeof folder)
        return;
    for (char *end = folder + strlen(folder); end != NULL && end >= folder + n_mount;
         end = strrchr(folder, '/')) {
        *end = '\0';
        look(of, folder, number);
    }
}

/* "4:cpu,memory:PATH": the version by which it rules the controller, and PATH; 0 for a line of another one.
 */
static int version_of(char *line, const char *controller, const char **group_out) {
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL)
        return 0;
    *group++ = '\0';
    *group_out = group;
    if (controllers[1] == '\0')
        return 2;
    for (const char *at = strtok(controllers + 1, ","); at != NULL; at = strtok(NULL, ","))
        if (strcmp(at, controller) == 0)
            return 1;
    return 0;
}

void cdp_cgroup_walk(const char *root, const char *controller, cdp_cgroup_look look, void *of) {
    char line[PATH_MAX], mount[PATH_MAX];
    FILE *file = open_in(root, "proc/self/cgroup");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *group = "";
        const int number = version_of(line, controller, &group);
        const int n = number == 1 ? snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controller)
                                  : snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
        if (number > 0 && n < (int)sizeof mount)
            walk_up(mount, group, number, look, of);
    }
    if (file != NULL)
        fclose(file);
}
