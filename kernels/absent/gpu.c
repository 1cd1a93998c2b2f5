/* A build without CUDA: no GPU, and a sentence that says why. */
#include "kernels/gpu.h"
#include "kernels/device.h"

#include <stdio.h>

static const char no_cuda[] = "this build has no CUDA and computes on the CPU only";

cdp_status cdp_device_open_cuda(cdp_device **out, const cdp_cuda_options *options) {
    *out = NULL;
    return cdp_fail(CDP_UNAVAILABLE, "GPU %d: %s", options->index, no_cuda);
}

void cdp_gpu_count(int *n_out, char *why, size_t why_size) {
    *n_out = 0;
    snprintf(why, why_size, "%s", no_cuda);
}

cdp_status cdp_gpu_read(cdp_gpu *out, int index) {
    *out = (cdp_gpu){.index = index};
    return cdp_fail(CDP_UNAVAILABLE, "GPU %d: %s", index, no_cuda);
}

cdp_status cdp_gpu_free_bytes(uint64_t *out, int index) {
    *out = 0;
    return cdp_fail(CDP_UNAVAILABLE, "GPU %d: %s", index, no_cuda);
}

cdp_cuda_versions cdp_cuda_versions_of(void) {
    return (cdp_cuda_versions){0};
}
