/* kernels/cuda/inside.h - the CUDA device's own memory, shared by device.c, upload.c and measure.c only. */
#pragma once

#include "kernels/clock.h"
#include "kernels/cuda/device.h"
#include "kernels/device_table.h"
#include "kernels/gpu.h"
#include <stdatomic.h>
#include <time.h>

/* A buffer that is not in the slab: cudaFree does not say how large it was. */
typedef struct cuda_block {
    void *memory;
    uint64_t n_bytes;
} cuda_block;

typedef struct cuda_device {
    cdp_device base;
    cdp_gpu gpu;
    cdp_cuda_limits limits;

    cudaStream_t stream; /* the queue */
    cudaEvent_t events[CDP_CUDA_EVENTS];
    cdp_event recorded, done;          /* the last number given out; the last that was reached */
    bool is_dirty;                     /* something was queued after the last event */
    _Atomic uint64_t n_queued, n_done; /* for the watchdog's thread */
    int64_t busy_since_ns, busy_ns;

    bool has_failed;
    char failure[512];

    cublasLtHandle_t blas;
    void *blas_workspace, *scratch;
    void *ops_state;
    void (*close_ops_state)(void *state);

    cuda_block *blocks;
    int n_blocks, blocks_room;

    cudaStream_t lanes[CDP_UPLOAD_LANES]; /* each made and used by one reader thread */
} cuda_device;

/* Slots of the table that have files of their own. */
cdp_status cdp_cuda_upload(cdp_device *device, int lane, void *to, const void *from_host, uint64_t n_bytes);
cdp_status cdp_cuda_uploaded(cdp_device *device, int lane);
void cdp_cuda_end_uploads(cdp_device *device);
cdp_status cdp_cuda_measure(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                            double *flop_per_s_out);

/* Between two looks at an event, where the caller has to block. */
static inline void cdp_cuda_nap(void) {
    nanosleep(&(struct timespec){0, 20000}, NULL);
}
