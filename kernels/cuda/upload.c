/* Weights on their way in: a stream a reader thread, so that file, bus and conversion overlap. */
#include "kernels/cuda/inside.h"

/* The device's own record of failures belongs to the main thread; a reader's error comes back by its status.
 */
static cdp_status use_lane(cuda_device *d, int lane, cudaStream_t *out) {
    *out = NULL;
    CDP_TRY(cdp_from_cuda(cudaSetDevice(d->gpu.index), "a reader's context")); /* a thread's own setting */
    if (d->lanes[lane] == NULL)
        CDP_TRY(cdp_from_cuda(cudaStreamCreateWithFlags(&d->lanes[lane], cudaStreamNonBlocking),
                              "a reader's stream"));
    *out = d->lanes[lane];
    return CDP_OK;
}

cdp_status cdp_cuda_upload(cdp_device *device, int lane, void *to, const void *from_host, uint64_t n_bytes) {
    cudaStream_t stream;
    CDP_TRY(use_lane((cuda_device *)device, lane, &stream));
    return cdp_from_cuda(cudaMemcpyAsync(to, from_host, n_bytes, cudaMemcpyHostToDevice, stream),
                         "copying weights to the GPU");
}

void cdp_cuda_end_uploads(cdp_device *device) {
    cuda_device *d = (cuda_device *)device;
    for (int i = 0; i < CDP_UPLOAD_LANES && !d->has_failed; i++) {
        if (d->lanes[i] != NULL)
            cudaStreamDestroy(d->lanes[i]);
        d->lanes[i] = NULL;
    }
}

cdp_status cdp_cuda_uploaded(cdp_device *device, int lane) {
    cudaStream_t stream;
    CDP_TRY(use_lane((cuda_device *)device, lane, &stream));
    return cdp_from_cuda(cudaStreamSynchronize(stream), "copying weights to the GPU");
}
