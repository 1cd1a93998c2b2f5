#include "kernels/cuda/preload.h"

static cdp_kernel_entry *first;

bool cdp_kernel_list(cdp_kernel_entry *entry) {
    entry->next = first;
    first = entry;
    return true;
}

cdp_status cdp_kernels_load(void) {
    struct cudaFuncAttributes facts; /* asked for, because a kernel has to be there to tell them */
    for (const cdp_kernel_entry *e = first; e != NULL; e = e->next)
        CDP_TRY(cdp_from_cuda(cudaFuncGetAttributes(&facts, e->kernel), "loading the kernels"));
    return CDP_OK;
}
