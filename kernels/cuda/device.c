/* The CUDA device: one context, one stream as the queue, a ring of events. See device.h for the picture. */
#include "kernels/cuda/inside.h"
#include "kernels/cuda/preload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu.h"
#include "kernels/ops.h"

extern const cdp_ops cdp_ops_cuda;

/* What is behind a device of this kind. */
static cuda_device *inside(cdp_device *device) {
    return (cuda_device *)device;
}
static const cuda_device *inside_const(const cdp_device *device) {
    return (const cuda_device *)device;
}

/* Errors ------------------------------------------------------------------------------------------------ */

/* After an error inside a kernel every call on the context gives that error again, and nothing that was
 * queued can be trusted: the first text is kept for check(). */
static void fail_for_good(cuda_device *device, cudaError_t code, const char *what) {
    if (device->has_failed)
        return;
    device->has_failed = true;
    snprintf(device->failure, sizeof device->failure, "GPU %d %s (%s): %s: %s: %s", device->gpu.index,
             device->gpu.name, device->gpu.uuid, what, cudaGetErrorName(code), cudaGetErrorString(code));
}

static bool is_for_good(cudaError_t code) {
    return code != cudaSuccess && code != cudaErrorMemoryAllocation && code != cudaErrorInvalidValue &&
           code != cudaErrorInvalidConfiguration && code != cudaErrorLaunchOutOfResources;
}

static cdp_status check(cdp_device *device) {
    const cuda_device *d = inside(device);
    return d->has_failed ? cdp_fail(CDP_INTERNAL, "%s", d->failure) : CDP_OK;
}

static void give_up(cdp_device *device, const char *why) {
    cuda_device *d = inside(device);
    if (d->has_failed)
        return;
    d->has_failed = true;
    snprintf(d->failure, sizeof d->failure, "GPU %d %s (%s): %s", d->gpu.index, d->gpu.name, d->gpu.uuid,
             why);
}

cdp_status cdp_cuda_keep(cdp_device *device, cudaError_t code, const char *what) {
    if (code == cudaSuccess)
        return CDP_OK;
    if (is_for_good(code))
        fail_for_good(inside(device), code, what);
    CDP_TRY(check(device));
    return cdp_from_cuda(code, what);
}

/* Memory ------------------------------------------------------------------------------------------------ */

static void forget_block(cuda_device *d, const void *memory) {
    for (int i = 0; i < d->n_blocks; i++)
        if (d->blocks[i].memory == memory) {
            d->base.allocated -= d->blocks[i].n_bytes;
            d->blocks[i] = d->blocks[--d->n_blocks];
            return;
        }
}

static cdp_status remember_block(cuda_device *d, void *memory, uint64_t n_bytes) {
    if (d->n_blocks == d->blocks_room) {
        const int room = d->blocks_room == 0 ? 64 : 2 * d->blocks_room;
        cuda_block *grown = realloc(d->blocks, (size_t)room * sizeof *grown);
        if (grown == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the list of device buffers");
        d->blocks = grown;
        d->blocks_room = room;
    }
    d->blocks[d->n_blocks++] = (cuda_block){memory, n_bytes};
    d->base.allocated += n_bytes;
    return CDP_OK;
}

/* Device memory that reads as zero, waited for: another stream may write to it right away. */
static cdp_status take_zeroed(cuda_device *d, void **out, uint64_t n_bytes) {
    *out = NULL;
    size_t n_free = 0, n_total = 0;
    const cudaError_t code = cudaMalloc(out, n_bytes);
    if (code == cudaErrorMemoryAllocation) {
        *out = NULL;
        cudaGetLastError(); /* a refusal is over once it is told */
        cudaMemGetInfo(&n_free, &n_total);
        return cdp_fail(CDP_SYSTEM, "GPU %d %s has no room for %.3f GiB: %.3f GiB are free now", d->gpu.index,
                        d->gpu.name, (double)n_bytes / 0x1p30, (double)n_free / 0x1p30);
    }
    CDP_TRY(cdp_cuda_keep(&d->base, code, "cudaMalloc"));
    CDP_TRY(cdp_cuda_keep(&d->base, cudaMemsetAsync(*out, 0, n_bytes, d->stream), "cudaMemsetAsync"));
    return cdp_cuda_keep(&d->base, cudaStreamSynchronize(d->stream), "zeroing device memory");
}

/* What kernels and libraries take, before the first buffer: see cdp_device_open_cuda. */
static cdp_status prepare(cuda_device *d) {
    if (d->blas != NULL)
        return CDP_OK;
    CDP_TRY(cdp_kernels_load());
    CDP_TRY(cdp_from_cublas(cublasLtCreate(&d->blas), "cublasLtCreate"));
    CDP_TRY(take_zeroed(d, &d->blas_workspace, CDP_CUDA_BLAS_BYTES));
    return take_zeroed(d, &d->scratch, CDP_CUDA_SCRATCH_BYTES);
}

static cdp_status alloc_cuda(cdp_device *device, void **out, uint64_t n_bytes) {
    cuda_device *d = inside(device);
    CDP_TRY(prepare(d));
    CDP_TRY(take_zeroed(d, out, n_bytes));
    const cdp_status st = remember_block(d, *out, n_bytes);
    if (st != CDP_OK) {
        cudaFree(*out);
        *out = NULL;
    }
    return st;
}

static void free_cuda(cdp_device *device, void *memory) {
    cuda_device *d = inside(device);
    forget_block(d, memory);
    if (!d->has_failed)
        cudaFree(memory);
}

static cdp_status free_bytes(cdp_device *device, uint64_t *out) {
    size_t n_free = 0, n_total = 0;
    *out = 0;
    CDP_TRY(cdp_cuda_keep(device, cudaMemGetInfo(&n_free, &n_total), "free memory of a GPU"));
    *out = n_free;
    return CDP_OK;
}

static cdp_status host_alloc(cdp_device *device, void **out, uint64_t n_bytes) {
    const cudaError_t code = cudaHostAlloc(out, n_bytes, cudaHostAllocPortable);
    if (code == cudaErrorMemoryAllocation) {
        *out = NULL;
        cudaGetLastError();
        return cdp_fail(CDP_SYSTEM, "no %.1f MiB of host memory can be pinned", (double)n_bytes / 0x1p20);
    }
    CDP_TRY(cdp_cuda_keep(device, code, "cudaHostAlloc"));
    memset(*out, 0, n_bytes);
    return CDP_OK;
}

static void host_free(cdp_device *device, void *memory) {
    if (!inside(device)->has_failed)
        cudaFreeHost(memory);
}

/* The queue --------------------------------------------------------------------------------------------- */

cudaStream_t cdp_cuda_stream(cdp_device *device) {
    cuda_device *d = inside(device);
    d->is_dirty = true;
    atomic_fetch_add_explicit(&d->n_queued, 1, memory_order_relaxed);
    return d->stream;
}

static cdp_status copy_of_kind(cdp_device *device, void *to, const void *from, uint64_t n_bytes,
                               enum cudaMemcpyKind kind) {
    return cdp_cuda_keep(device, cudaMemcpyAsync(to, from, n_bytes, kind, cdp_cuda_stream(device)), "copy");
}

static cdp_status copy_in(cdp_device *device, void *to, const void *from_host, uint64_t n_bytes) {
    return copy_of_kind(device, to, from_host, n_bytes, cudaMemcpyHostToDevice);
}

static cdp_status copy_out(cdp_device *device, void *to_host, const void *from, uint64_t n_bytes) {
    return copy_of_kind(device, to_host, from, n_bytes, cudaMemcpyDeviceToHost);
}

static cdp_status copy(cdp_device *device, void *to, const void *from, uint64_t n_bytes) {
    return copy_of_kind(device, to, from, n_bytes, cudaMemcpyDeviceToDevice);
}

static cudaEvent_t event_of(const cuda_device *d, cdp_event event) {
    return d->events[event % CDP_CUDA_EVENTS];
}

/* Ask the open events in order; the clock of busy_s stops with the last. */
static void look(cuda_device *d) {
    while (d->done < d->recorded && !d->has_failed) {
        const cudaError_t code = cudaEventQuery(event_of(d, d->done + 1));
        if (code == cudaErrorNotReady)
            return;
        if (code != cudaSuccess) {
            fail_for_good(d, code, "work on the device");
            return;
        }
        d->done++;
        atomic_store_explicit(&d->n_done, d->done, memory_order_relaxed);
        if (d->done == d->recorded && d->busy_since_ns != 0) {
            d->busy_ns += cdp_now_ns() - d->busy_since_ns;
            d->busy_since_ns = 0;
        }
    }
}

static bool reached(cdp_device *device, cdp_event event) {
    cuda_device *d = inside(device);
    if (d->done < event)
        look(d);
    return d->done >= event;
}

static cdp_event record(cdp_device *device) {
    cuda_device *d = inside(device);
    if (!d->is_dirty || d->has_failed)
        return d->recorded;
    while (d->recorded - d->done >= CDP_CUDA_EVENTS && !d->has_failed) {
        look(d);
        cdp_cuda_nap();
    }
    const cudaError_t code = cudaEventRecord(event_of(d, d->recorded + 1), d->stream);
    if (code != cudaSuccess)
        fail_for_good(d, code, "an event");
    d->recorded++; /* also after a failure: the work it stands for is not done, and will not be */
    d->is_dirty = false;
    if (d->busy_since_ns == 0)
        d->busy_since_ns = cdp_now_ns();
    return d->recorded;
}

static uint64_t progress(const cdp_device *device) {
    const cuda_device *d = inside_const(device);
    return atomic_load_explicit(&d->n_queued, memory_order_relaxed) +
           atomic_load_explicit(&d->n_done, memory_order_relaxed);
}

static double busy_s(const cdp_device *device) {
    return (double)inside_const(device)->busy_ns * 1e-9;
}

static void drain(cdp_device *device) {
    while (!reached(device, record(device)) && !inside(device)->has_failed)
        cdp_cuda_nap();
}

/* Open, close ------------------------------------------------------------------------------------------- */

static void close_cuda(cdp_device *device) {
    cuda_device *d = inside(device);
    if (!d->has_failed) {
        if (d->ops_state != NULL && d->close_ops_state != NULL)
            d->close_ops_state(d->ops_state);
        cdp_cuda_end_uploads(device);
        for (int i = 0; i < CDP_CUDA_EVENTS; i++)
            if (d->events[i] != NULL)
                cudaEventDestroy(d->events[i]);
        cudaFree(d->scratch);
        cudaFree(d->blas_workspace);
        if (d->blas != NULL)
            cublasLtDestroy(d->blas);
        if (d->stream != NULL)
            cudaStreamDestroy(d->stream);
    }
    free(d->blocks);
    free(d);
}

static const cdp_device_table cuda_table = {
    .kind = CDP_DEVICE_CUDA,
    .is_host = false,
    .close = close_cuda,
    .alloc = alloc_cuda,
    .free = free_cuda,
    .free_bytes = free_bytes,
    .host_alloc = host_alloc,
    .host_free = host_free,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .copy = copy,
    .record = record,
    .reached = reached,
    .check = check,
    .give_up = give_up,
    .progress = progress,
    .busy_s = busy_s,
    .drain = drain,
    .measure = cdp_cuda_measure,
    .upload = cdp_cuda_upload,
    .uploaded = cdp_cuda_uploaded,
    .end_uploads = cdp_cuda_end_uploads,
};

/* The context comes with the first call that needs one. */
static cdp_status open_context(cuda_device *d) {
    const int index = d->gpu.index;
    CDP_TRY(cdp_from_cuda(cudaSetDevice(index), "a context"));
    CDP_TRY(cdp_from_cuda(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "a stream"));
    for (int i = 0; i < CDP_CUDA_EVENTS; i++)
        CDP_TRY(cdp_from_cuda(cudaEventCreateWithFlags(&d->events[i], cudaEventDisableTiming), "an event"));
    const struct {
        enum cudaDeviceAttr attribute;
        int *to;
    } asked[] = {{cudaDevAttrMaxSharedMemoryPerBlock, &d->limits.shared_bytes},
                 {cudaDevAttrMaxSharedMemoryPerBlockOptin, &d->limits.shared_optin_bytes},
                 {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &d->limits.shared_sm_bytes},
                 {cudaDevAttrL2CacheSize, &d->limits.l2_bytes}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        CDP_TRY(cdp_from_cuda(cudaDeviceGetAttribute(asked[i].to, asked[i].attribute, index), "limits"));
    d->limits.major = d->gpu.major;
    d->limits.minor = d->gpu.minor;
    d->limits.n_sms = d->gpu.n_sms;
    return CDP_OK;
}

/* A GPU that cannot be opened is not there for us, whatever the driver calls it: lost, busy, exclusive, old.
 */
static cdp_status cannot_open(const cuda_device *d, cdp_status st) {
    char why[512];
    snprintf(why, sizeof why, "%s", cdp_error_message());
    cdp_error_clear();
    return cdp_fail(st == CDP_SYSTEM ? st : CDP_UNAVAILABLE, "GPU %d %s%scannot be used: %s", d->gpu.index,
                    d->gpu.name, d->gpu.name[0] != '\0' ? " " : "", why);
}

cdp_status cdp_device_open_cuda(cdp_device **out, const cdp_cuda_options *options) {
    *out = NULL;
    cuda_device *d = calloc(1, sizeof *d);
    if (d == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the CUDA device");
    d->base.table = &cuda_table;
    d->base.ops = options->ops != NULL ? options->ops : &cdp_ops_cuda;
    cdp_status st = cdp_gpu_read(&d->gpu, options->index);
    if (st == CDP_OK)
        st = open_context(d);
    if (st != CDP_OK) {
        st = cannot_open(d, st);
        close_cuda(&d->base);
        return st;
    }
    *out = &d->base;
    return CDP_OK;
}

/* For kernels/cuda and the nccl road -------------------------------------------------------------------- */

int cdp_cuda_index(const cdp_device *device) {
    return inside_const(device)->gpu.index;
}
cudaStream_t cdp_cuda_stream_peek(const cdp_device *device) {
    return inside_const(device)->stream;
}
const cdp_cuda_limits *cdp_cuda_limits_of(const cdp_device *device) {
    return &inside_const(device)->limits;
}
cublasLtHandle_t cdp_cuda_blas(const cdp_device *device) {
    return inside_const(device)->blas;
}
void *cdp_cuda_blas_workspace(const cdp_device *device) {
    return inside_const(device)->blas_workspace;
}
void *cdp_cuda_scratch(const cdp_device *device) {
    return inside_const(device)->scratch;
}

void **cdp_cuda_ops_state(cdp_device *device, void (*close_state)(void *state)) {
    cuda_device *d = inside(device);
    d->close_ops_state = close_state;
    return &d->ops_state;
}

cudaEvent_t cdp_cuda_event(cdp_device *device, cdp_event event) {
    return reached(device, event) ? NULL : event_of(inside(device), event);
}
