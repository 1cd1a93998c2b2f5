/* kernels/gpu.h - facts about the GPUs that this process sees, asked without making a context on any of them.
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

typedef struct cdp_gpu {
    int index;        /* in the visible list */
    char name[64];    /* "NVIDIA H100 80GB HBM3" */
    char uuid[48];    /* "GPU-...", "MIG-..." */
    char bus[16];     /* "0000:3b:00.0" */
    int major, minor; /* compute capability */
    int n_sms;        /* multiprocessors */
    uint64_t total_bytes;
} cdp_gpu;

/* CUDA_VISIBLE_DEVICES is honoured by CUDA itself. *n_out is 0 where there is no GPU, and then `why` tells
 * the reason in one sentence (no driver, driver too old, none visible, a build without CUDA): that alone is
 * no fault. */
void cdp_gpu_count(int *n_out, char *why, size_t why_size);

/* GPU `index` of those. CDP_UNAVAILABLE when it cannot be asked, and, with all of *out filled in, when its
 * compute capability is too low for the kernels. */
cdp_status cdp_gpu_read(cdp_gpu *out, int index);

/* Total and free bytes of a GPU now; makes a context on it (some 0.2 s, some hundred MiB until the process
 * ends). */
cdp_status cdp_gpu_free_bytes(uint64_t *out, int index);

/* Versions as 13000 for 13.0: what the build has, what runs, what the driver can; 0 where there is none. */
typedef struct cdp_cuda_versions {
    int build, runtime, driver;
} cdp_cuda_versions;
cdp_cuda_versions cdp_cuda_versions_of(void);
