/* tests/standin/cudart.cpp - the calls of CUDA that cdpipe makes, answered by the stand-in: here those
 * about devices and errors; cudart_memory.cpp, cudart_stream.cpp and launch.cpp have the others.
 *
 * Codes are those the real runtime gives. A call that is not here does not link: add it with its checks.
 */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/standin/cudart.h"

enum { N_SMS = 4 };

static thread_local cudaError_t last_error = cudaSuccess;

cudaError_t standin_note(cudaError_t code) {
    if (code != cudaSuccess)
        last_error = code;
    return code;
}

static cudaError_t has_gpu(void) {
    return standin_n_gpus() > 0 ? cudaSuccess
                                : (standin_n_gpus() < 0 ? cudaErrorInsufficientDriver : cudaErrorNoDevice);
}

cudaError_t standin_context(const char *what) {
    if (has_gpu() != cudaSuccess)
        return has_gpu();
    return standin_touch_context(what) ? standin_sticky() : cudaErrorInvalidDevice;
}

cudaError_t standin_after_sync(void) {
    if (standin_fault_due("sync", "sticky"))
        standin_make_sticky(cudaErrorECCUncorrectable);
    return standin_note(standin_sticky());
}

/* What the runtime tells of a MIG instance is not said anywhere: it may be the UUID of the GPU it is part of.
 */
enum { OF_NO_INSTANCE = 0xff };

static void make_uuid(CUuuid *out, int number) {
    const unsigned char uuid[16] = {0x53, 0x54, 0x41, 0x4e, 0x44, 0x49, 0x4e, 0,
                                    0,    0,    0,    0,    0,    0,    0,    (unsigned char)number};
    memcpy(out->bytes, uuid, sizeof uuid);
}

extern "C" {

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 0;
    if (standin_n_gpus() < 0)
        return standin_note(cudaErrorInsufficientDriver);
    *count = standin_n_gpus();
    return standin_note(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version) {
    const char *const driver = getenv("STANDIN_DRIVER");
    *version = standin_n_gpus() < 0 ? 0 : driver != nullptr ? atoi(driver) : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (has_gpu() != cudaSuccess)
        return standin_note(has_gpu());
    if (device < 0 || device >= standin_n_gpus())
        return standin_note(cudaErrorInvalidDevice);
    standin_set_current(device);
    return standin_note(standin_sticky());
}

cudaError_t cudaGetDevice(int *device) {
    if (has_gpu() != cudaSuccess)
        return standin_note(has_gpu());
    *device = standin_current();
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (standin_n_gpus() <= 0)
        return standin_note(standin_n_gpus() < 0 ? cudaErrorInsufficientDriver : cudaErrorNoDevice);
    if (device < 0 || device >= standin_n_gpus())
        return standin_note(cudaErrorInvalidDevice);
    *p = cudaDeviceProp{};
    const int number = standin_gpu_number(device);
    const bool is_mig = standin_gpu_at(device)->is_mig;
    snprintf(p->name, sizeof p->name, "stand-in GPU%s", is_mig ? " MIG 1g.2gb" : "");
    make_uuid(&p->uuid, is_mig ? OF_NO_INSTANCE : number);
    p->totalGlobalMem = standin_gpu_at(device)->total;
    p->sharedMemPerBlock = STANDIN_STATIC_SHARED;
    p->sharedMemPerBlockOptin = STANDIN_OPTIN_SHARED;
    p->sharedMemPerMultiprocessor = 228 * 1024;
    p->regsPerBlock = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->multiProcessorCount = N_SMS;
    p->l2CacheSize = 1 << 20;
    p->memoryBusWidth = 64;
    p->major = standin_gpu_at(device)->major;
    p->minor = standin_gpu_at(device)->minor;
    p->pciBusID = number + 1;
    p->asyncEngineCount = 2;
    p->concurrentKernels = 1;
    p->unifiedAddressing = 1;
    return cudaSuccess;
}

CUresult cuDeviceGet(CUdevice *out, int ordinal) {
    if (standin_n_gpus() < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    *out = ordinal;
    return ordinal >= 0 && ordinal < standin_n_gpus() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetUuid_v2(CUuuid *out, CUdevice device) {
    if (device < 0 || device >= standin_n_gpus())
        return CUDA_ERROR_INVALID_DEVICE;
    make_uuid(out, standin_gpu_number(device));
    return CUDA_SUCCESS;
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
        *value = STANDIN_STATIC_SHARED;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = STANDIN_OPTIN_SHARED;
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
        return standin_note(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int n_bytes, int device) {
    if (device < 0 || device >= standin_n_gpus())
        return standin_note(cudaErrorInvalidDevice);
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
    return standin_after_sync();
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
        NAMED(cudaErrorInvalidDeviceFunction, "invalid device function")
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

} // extern "C"
