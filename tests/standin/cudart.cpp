/* tests/standin/cudart.cpp - the calls of the CUDA runtime that cdpipe makes, answered by the stand-in.
 *
 * Codes are those the real runtime gives. A call that is not here does not link: add it with its checks.
 */
#include <cstdlib>
#include <map>
#include <mutex>
#include <stdio.h>

#include "tests/standin/queues.h"

namespace {

thread_local cudaError_t last_error = cudaSuccess;

/* What every entry point returns through: the last error is kept, sticky ones come first. */
cudaError_t note(cudaError_t code) {
    if (code != cudaSuccess)
        last_error = code;
    return code;
}

/* No driver, no GPU, or a context that is dead. */
cudaError_t context() {
    if (standin_n_gpus() < 0)
        return cudaErrorInsufficientDriver;
    if (standin_n_gpus() == 0)
        return cudaErrorNoDevice;
    return standin_sticky();
}

#define CONTEXT_OR_RETURN()                                                                                  \
    do {                                                                                                     \
        const cudaError_t context_code = context();                                                          \
        if (context_code != cudaSuccess)                                                                     \
            return note(context_code);                                                                       \
    } while (0)

/* Calls that may synchronise: not while a capture forbids them. */
#define UNCAPTURED_OR_RETURN()                                                                               \
    do {                                                                                                     \
        CONTEXT_OR_RETURN();                                                                                 \
        const cudaError_t capture_code = standin_forbidden_in_capture();                                     \
        if (capture_code != cudaSuccess)                                                                     \
            return note(capture_code);                                                                       \
    } while (0)

cudaError_t after_sync() {
    if (standin_fault_due("sync", "sticky"))
        standin_make_sticky(cudaErrorECCUncorrectable);
    return note(standin_sticky());
}

struct host_block {
    size_t n_bytes;
};
std::mutex host_lock;
std::map<void *, host_block> *const host_blocks = new std::map<void *, host_block>;
std::map<const void *, int> *const shared_limits = new std::map<const void *, int>;

enum { STATIC_SHARED = 48 * 1024, OPTIN_SHARED = 227 * 1024, N_SMS = 4 };

} // namespace

extern "C" {

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 0;
    if (standin_n_gpus() < 0)
        return note(cudaErrorInsufficientDriver);
    *count = standin_n_gpus();
    return note(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = standin_n_gpus() < 0 ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    CONTEXT_OR_RETURN();
    if (device < 0 || device >= standin_n_gpus())
        return note(cudaErrorInvalidDevice);
    standin_set_current(device);
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    CONTEXT_OR_RETURN();
    *device = standin_current();
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (standin_n_gpus() <= 0)
        return note(standin_n_gpus() < 0 ? cudaErrorInsufficientDriver : cudaErrorNoDevice);
    if (device < 0 || device >= standin_n_gpus())
        return note(cudaErrorInvalidDevice);
    *p = cudaDeviceProp{};
    const int number = standin_gpu_number(device);
    snprintf(p->name, sizeof p->name, "stand-in GPU");
    const unsigned char uuid[16] = {0x53, 0x54, 0x41, 0x4e, 0x44, 0x49, 0x4e, 0,
                                    0,    0,    0,    0,    0,    0,    0,    (unsigned char)number};
    memcpy(p->uuid.bytes, uuid, sizeof uuid);
    p->totalGlobalMem = standin_gpu_at(device)->total;
    p->sharedMemPerBlock = STATIC_SHARED;
    p->sharedMemPerBlockOptin = OPTIN_SHARED;
    p->sharedMemPerMultiprocessor = 228 * 1024;
    p->regsPerBlock = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->multiProcessorCount = N_SMS;
    p->l2CacheSize = 1 << 20;
    p->memoryBusWidth = 64;
    p->major = 9;
    p->minor = 0;
    p->pciBusID = number + 1;
    p->asyncEngineCount = 2;
    p->concurrentKernels = 1;
    p->unifiedAddressing = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp p;
    const cudaError_t code = cudaGetDeviceProperties(&p, device);
    if (code != cudaSuccess)
        return code;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = STATIC_SHARED;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = OPTIN_SHARED;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = 228 * 1024;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = N_SMS;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        break;
    case cudaDevAttrWarpSize:
        *value = 32;
        break;
    case cudaDevAttrMemoryClockRate:
    case cudaDevAttrClockRate:
        *value = 1000000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        break;
    case cudaDevAttrPciBusId:
        *value = p.pciBusID;
        break;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
        *value = 0;
        break;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrConcurrentKernels:
        *value = 1;
        break;
    default:
        fprintf(stderr, "standin: cudaDeviceGetAttribute(%d) has no answer yet\n", (int)attribute);
        return note(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int n_bytes, int device) {
    if (device < 0 || device >= standin_n_gpus())
        return note(cudaErrorInvalidDevice);
    snprintf(text, (size_t)n_bytes, "0000:%02X:00.0", standin_gpu_number(device) + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    *can = device != peer;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    UNCAPTURED_OR_RETURN();
    standin_wait_all();
    return after_sync();
}

cudaError_t cudaDeviceReset(void) {
    standin_wait_all();
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned) {
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* ---- errors ---- */

cudaError_t cudaGetLastError(void) {
    const cudaError_t sticky = standin_n_gpus() > 0 ? standin_sticky() : cudaSuccess;
    const cudaError_t code = sticky != cudaSuccess ? sticky : last_error;
    last_error = cudaSuccess;
    return code;
}

cudaError_t cudaPeekAtLastError(void) {
    const cudaError_t sticky = standin_n_gpus() > 0 ? standin_sticky() : cudaSuccess;
    return sticky != cudaSuccess ? sticky : last_error;
}

#define NAMED(code, text)                                                                                    \
    case code:                                                                                               \
        return is_name ? #code : text;
static const char *describe(cudaError_t code, bool is_name) {
    switch (code) {
        NAMED(cudaSuccess, "no error")
        NAMED(cudaErrorInvalidValue, "invalid argument")
        NAMED(cudaErrorMemoryAllocation, "out of memory")
        NAMED(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version")
        NAMED(cudaErrorNoDevice, "no CUDA-capable device is detected")
        NAMED(cudaErrorInvalidDevice, "invalid device ordinal")
        NAMED(cudaErrorInvalidConfiguration, "invalid configuration argument")
        NAMED(cudaErrorLaunchFailure, "unspecified launch failure")
        NAMED(cudaErrorLaunchOutOfResources, "too many resources requested for launch")
        NAMED(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered")
        NAMED(cudaErrorNotReady, "device not ready")
        NAMED(cudaErrorInvalidResourceHandle, "invalid resource handle")
        NAMED(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")
        NAMED(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture")
        NAMED(cudaErrorStreamCaptureUnjoined, "capture was not ended in the same stream as it began")
        NAMED(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")
        NAMED(cudaErrorIllegalState, "the operation cannot be performed in the present state")
    default:
        return is_name ? "cudaErrorUnknown" : "an error the stand-in has no words for";
    }
}

const char *cudaGetErrorName(cudaError_t code) {
    return describe(code, true);
}

const char *cudaGetErrorString(cudaError_t code) {
    return describe(code, false);
}

/* ---- memory ---- */

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    CONTEXT_OR_RETURN();
    const standin_gpu *const gpu = standin_gpu_at(standin_current());
    *free_bytes = gpu->free_at_start - gpu->allocated;
    *total_bytes = gpu->total;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t n_bytes) {
    UNCAPTURED_OR_RETURN();
    *memory = nullptr;
    return n_bytes == 0 ? cudaSuccess : note(standin_memory_alloc(memory, n_bytes));
}

cudaError_t cudaFree(void *memory) {
    UNCAPTURED_OR_RETURN();
    if (memory == nullptr)
        return cudaSuccess;
    standin_wait_all();
    return note(standin_memory_free(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **memory, size_t n_bytes, unsigned) {
    CONTEXT_OR_RETURN();
    *memory = nullptr;
    if (n_bytes == 0)
        return cudaSuccess;
    if (standin_fault_due("host", "memory"))
        return note(cudaErrorMemoryAllocation);
    *memory = aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096);
    if (*memory == nullptr)
        return note(cudaErrorMemoryAllocation);
    memset(*memory, 0xFF, n_bytes);
    std::lock_guard<std::mutex> hold(host_lock);
    (*host_blocks)[*memory] = {n_bytes};
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t n_bytes) {
    return cudaHostAlloc(memory, n_bytes, 0);
}

cudaError_t cudaFreeHost(void *memory) {
    if (memory == nullptr)
        return cudaSuccess;
    standin_wait_all();
    std::lock_guard<std::mutex> hold(host_lock);
    if (host_blocks->erase(memory) == 0)
        return note(cudaErrorInvalidValue);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *, size_t, unsigned) {
    CONTEXT_OR_RETURN();
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *) {
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) {
    *device = host;
    return cudaSuccess;
}

static bool fits(const void *memory, size_t n_bytes, bool is_device) {
    return is_device ? standin_memory_has(memory, n_bytes) : !standin_memory_is_device(memory);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (n_bytes == 0)
        return cudaSuccess;
    bool is_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool is_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        is_to_device = standin_memory_is_device(to);
        is_from_device = standin_memory_is_device(from);
    }
    if (!fits(to, n_bytes, is_to_device) || !fits(from, n_bytes, is_from_device)) {
        standin_report(
            "cudaMemcpyAsync: %p <- %p, %zu bytes, kind %d: does not lie in one allocation of that kind", to,
            from, n_bytes, (int)kind);
        return note(cudaErrorInvalidValue);
    }
    /* Until the copy is done nobody may read what it writes: make sure that nobody can. */
    if (!is_to_device && !standin_is_capturing(stream))
        memset(to, 0xFF, n_bytes);
    const bool is_corrupt = is_to_device != is_from_device && standin_fault_due("copy", "corrupt");
    return note(standin_queue_work(stream, "copy", [=] {
        memmove(to, from, n_bytes);
        if (is_corrupt)
            static_cast<unsigned char *>(to)[n_bytes / 2] ^= 1;
        standin_counted.copies++;
        return STANDIN_DONE;
    }));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind) {
    UNCAPTURED_OR_RETURN();
    const cudaError_t code = cudaMemcpyAsync(to, from, n_bytes, kind, nullptr);
    if (code != cudaSuccess)
        return code;
    standin_stream_wait(nullptr);
    return after_sync();
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t n_bytes, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (n_bytes == 0)
        return cudaSuccess;
    if (!standin_memory_has(memory, n_bytes))
        return note(cudaErrorInvalidValue);
    return note(standin_queue_work(stream, "set", [=] {
        standin_memory_set(memory, value, n_bytes);
        return STANDIN_DONE;
    }));
}

cudaError_t cudaMemset(void *memory, int value, size_t n_bytes) {
    return cudaMemsetAsync(memory, value, n_bytes, nullptr);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (width == 0 || height == 0)
        return cudaSuccess;
    const bool is_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool is_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!fits(to, to_pitch * (height - 1) + width, is_to_device) ||
        !fits(from, from_pitch * (height - 1) + width, is_from_device))
        return note(cudaErrorInvalidValue);
    return note(standin_queue_work(stream, "copy", [=] {
        for (size_t row = 0; row < height; row++)
            memmove(static_cast<char *>(to) + row * to_pitch,
                    static_cast<const char *>(from) + row * from_pitch, width);
        return STANDIN_DONE;
    }));
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    CONTEXT_OR_RETURN();
    *stream = standin_stream_open((flags & cudaStreamNonBlocking) == 0);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream == nullptr)
        return note(cudaErrorInvalidResourceHandle);
    standin_stream_close(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    UNCAPTURED_OR_RETURN();
    standin_stream_wait(stream);
    return after_sync();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    UNCAPTURED_OR_RETURN();
    const bool is_idle = standin_stream_is_idle(stream);
    const cudaError_t code = after_sync();
    return code != cudaSuccess ? code : is_idle ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    CONTEXT_OR_RETURN();
    return note(standin_event_wait(event, stream));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t call, void *argument) {
    CONTEXT_OR_RETURN();
    return note(standin_queue_work(stream, "host function", [=] {
        call(argument);
        return STANDIN_DONE;
    }));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    CONTEXT_OR_RETURN();
    *event = new CUevent_st;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    return note(standin_event_record(event, stream));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    UNCAPTURED_OR_RETURN();
    const bool is_reached = standin_event_is_reached(event);
    const cudaError_t code = after_sync();
    return code != cudaSuccess ? code : is_reached ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    UNCAPTURED_OR_RETURN();
    standin_event_sync(event);
    return after_sync();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    CONTEXT_OR_RETURN();
    if (start->mark == nullptr || end->mark == nullptr)
        return note(cudaErrorInvalidResourceHandle);
    if (!start->mark->is_reached || !end->mark->is_reached)
        return note(cudaErrorNotReady);
    *ms = (float)(end->mark->reached_ms - start->mark->reached_ms);
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    CONTEXT_OR_RETURN();
    return note(standin_capture_begin(stream, mode));
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    return note(standin_capture_end(stream, graph));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    CONTEXT_OR_RETURN();
    *status = standin_is_capturing(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    CONTEXT_OR_RETURN();
    *exec = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                          unsigned long long flags) {
    return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    CONTEXT_OR_RETURN();
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    const auto nodes = std::make_shared<std::vector<standin_node>>(exec->nodes); /* outlives the graph */
    return note(standin_queue_work(stream, "graph", [nodes] {
        for (const standin_node &node : *nodes)
            if (node.work() == STANDIN_FAILED)
                return STANDIN_FAILED;
        return STANDIN_DONE;
    }));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n_nodes) {
    if (nodes != nullptr)
        return note(cudaErrorNotSupported);
    *n_nodes = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}

/* ---- functions ---- */

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value) {
    CONTEXT_OR_RETURN();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || (size_t)value + standin_shared_bytes(function) > OPTIN_SHARED)
        return note(cudaErrorInvalidValue);
    std::lock_guard<std::mutex> hold(host_lock);
    (*shared_limits)[function] = value;
    return cudaSuccess;
}

} // extern "C"

/* What the driver would refuse before anything runs. */
static const char *refusal(const standin_launch &l) {
    const uint64_t threads = (uint64_t)l.block.x * l.block.y * l.block.z;
    const size_t fixed = standin_shared_bytes(l.kernel);
    if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0 || threads == 0)
        return "an empty grid or block";
    if (threads > 1024 || l.block.x > 1024 || l.block.y > 1024 || l.block.z > 64)
        return "more than 1024 threads a block, or 64 in z";
    if (l.grid.x > 0x7FFFFFFFu || l.grid.y > 65535 || l.grid.z > 65535)
        return "a grid larger than 2^31-1, 65535, 65535";
    if (l.parameter_bytes > 4096)
        return "more than 4096 bytes of parameters";
    if (l.shared_bytes + fixed > OPTIN_SHARED)
        return "more than 227 KiB of shared memory";
    if (l.shared_bytes <= STATIC_SHARED && l.shared_bytes + fixed > STATIC_SHARED)
        return "static and dynamic shared memory above 48 KiB together, which only a larger dynamic part "
               "asks for";
    return nullptr;
}

cudaError_t standin_enqueue_kernel(const standin_launch &launch, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    const char *const why = refusal(launch);
    if (why != nullptr) {
        standin_report("%s: launch refused: %s", launch.name, why);
        return note(cudaErrorInvalidConfiguration);
    }
    if (standin_fault_due("launch", "refused"))
        return note(cudaErrorLaunchOutOfResources);
    const bool is_doomed = standin_fault_due("launch", "sticky");
    return note(standin_queue_work(stream, launch.name, [launch, is_doomed] {
        standin_counted.launches++;
        const double start = standin_now_ms();
        const bool is_good = !is_doomed && standin_run_grid(launch);
        standin_trace(launch, standin_now_ms() - start);
        return is_good ? STANDIN_DONE : STANDIN_FAILED;
    }));
}
