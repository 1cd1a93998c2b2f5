/* kernels/cuda/device.h - the inside of the CUDA device: what the operations of kernels/cuda and the nccl
 * road need of it. C and C++. One process uses one GPU; everything here belongs to the main thread unless it
 * says otherwise.
 *
 *     cdp_cuda_stream(device)   the queue. Asking for it counts as queueing work: the next cdp_device_record
 *                               sets a new event. So ask once an operation, right before its launches.
 *
 *     event number   1     2     3     4     5 ...      number n is events[n % CDP_CUDA_EVENTS]
 *                    done  done  ^ device->done         reached() asks the oldest open one, then the next
 */
#pragma once

#include "kernels/cuda/error.h"
#include "kernels/device.h"
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CDP_CUDA_EVENTS = 1024, /* open at once; a record beyond that waits for the oldest */

    /* Beside the slab, inside the plan's context constant (planner/memory.c); taken with the first
       allocation. */
    CDP_CUDA_BLAS_BYTES = 32 << 20,    /* cuBLASLt workspace: what Hopper wants, more than enough before it */
    CDP_CUDA_SCRATCH_BYTES = 32 << 20, /* of the operations: split-KV partials, bf16 copies of activations */
};

/* Limits that decide how a kernel is launched. */
typedef struct cdp_cuda_limits {
    int major, minor;       /* compute capability */
    int n_sms;              /* multiprocessors */
    int shared_bytes;       /* of a block without asking: 48 KiB */
    int shared_optin_bytes; /* of a block that asks */
    int shared_sm_bytes;    /* of a multiprocessor */
    int l2_bytes;
} cdp_cuda_limits;

/* The GPU's number in the visible list, for threads: each stands on GPU 0 until it calls cudaSetDevice. */
int cdp_cuda_index(const cdp_device *device);

/* The queue; see above. */
cudaStream_t cdp_cuda_stream(cdp_device *device);

/* The queue without counting work: for a wait on somebody's event. */
cudaStream_t cdp_cuda_stream_peek(const cdp_device *device);

const cdp_cuda_limits *cdp_cuda_limits_of(const cdp_device *device);

/* cuBLASLt, and its workspace of CDP_CUDA_BLAS_BYTES (256-byte aligned device memory). */
cublasLtHandle_t cdp_cuda_blas(const cdp_device *device);
void *cdp_cuda_blas_workspace(const cdp_device *device);

/* CDP_CUDA_SCRATCH_BYTES of device memory, 256-byte aligned, zero at the start, that an operation may use
 * from its first launch to its last: the next operation in the queue writes over it (but for attention's
 * counters, attend_sizes.h). */
void *cdp_cuda_scratch(const cdp_device *device);

/* State of the operations that lives as long as the device (plans of products, graphs): one pointer, NULL at
 * the start, and what gives it back when the device closes. */
void **cdp_cuda_ops_state(cdp_device *device, void (*close_state)(void *state));

/* The cudaEvent behind an event number, for another stream to wait on: NULL when it has been reached, so that
 * there is nothing to wait for. Valid until CDP_CUDA_EVENTS more are recorded. */
cudaEvent_t cdp_cuda_event(cdp_device *device, cdp_event event);

/* CDP_OK, or keep the error as this device's end (cdp_device_check) when it is one that sticks to the
 * context; for results of launches and queries. */
cdp_status cdp_cuda_keep(cdp_device *device, cudaError_t code, const char *what);

/* A status of cuBLASLt as one of ours: "WHAT: NAME". */
cdp_status cdp_from_cublas(cublasStatus_t code, const char *what);

#ifdef __cplusplus
}
#endif
