/* kernels/cuda/preload.h - every kernel is on the GPU before the work begins.
 *
 *     CDP_LAUNCH(norm_kernel, ...)  -- before main() -->  the list of kernels  -- first buffer -->  loaded
 *
 * CUDA would load a kernel when it is first launched, and to do so it may wait until nothing runs on the GPU.
 * A receive of NCCL that is posted ahead does run: until the ring has gone round, to which this rank's own
 * rows may still be missing. And a kernel takes device memory, which the plan counts before the slab.
 * (CUDA_MODULE_LOADING=EAGER would load all of cuBLASLt and NCCL, too: seconds, and hundreds of MB.)
 */
#pragma once

#include "kernels/cuda/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cdp_kernel_entry {
    const void *kernel;
    struct cdp_kernel_entry *next;
} cdp_kernel_entry;

/* Put a kernel on the list; the entry is static. Returns true. */
bool cdp_kernel_list(cdp_kernel_entry *entry);

/* Load all kernels of the list to the current GPU. CDP_UNAVAILABLE where the build has none for it. */
cdp_status cdp_kernels_load(void);

#ifdef __cplusplus
}

/* The kernel itself; who calls it has put it on the list. */
template <auto kernel> struct cdp_kernel_of {
    static inline cdp_kernel_entry entry = {reinterpret_cast<const void *>(kernel), nullptr};
    static inline const bool is_listed = cdp_kernel_list(&entry);
};
template <auto kernel> static inline auto cdp_listed() {
    (void)&cdp_kernel_of<kernel>::is_listed;
    return kernel;
}
#endif
