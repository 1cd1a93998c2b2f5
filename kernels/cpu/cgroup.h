/* kernels/cpu/cgroup.h - the control groups around this process, and the memory that they leave it.
 *
 *     /proc/self/cgroup     0::/slurm/job_7/step_0             version 2, below /sys/fs/cgroup
 *                           4:memory:/slurm/uid_0/job_7        version 1, below /sys/fs/cgroup/memory
 *
 * A limit of any group on the way up to the mount's root holds; the one that leaves least counts. In a
 * container the path may be the host's, which the mount does not show: then the mount's root is the group
 * itself.
 */
#pragma once

#include <stdint.h>

/* Bytes until the kernel would kill or throttle; page cache that can go counts as free. UINT64_MAX without a
 * limit. `root` stands before every path: "" but in tests. */
uint64_t cdp_cgroup_left(const char *root);

/* Look at the folder of the group that rules `controller` for this process ("memory", "cpu"), and at all
 * above it; `version` is 1 or 2. */
typedef void (*cdp_cgroup_look)(void *of, const char *folder, int version);
void cdp_cgroup_walk(const char *root, const char *controller, cdp_cgroup_look look, void *of);
