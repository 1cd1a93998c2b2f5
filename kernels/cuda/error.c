/* kernels/cuda/error.c - codes of the CUDA runtime. */
#include "kernels/cuda/error.h"

static cdp_status class_of(cudaError_t code) {
    switch (code) {
    case cudaErrorMemoryAllocation:
        return CDP_SYSTEM;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction: /* the same, where a kernel is asked for and not launched */
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorSystemNotReady:
        return CDP_UNAVAILABLE;
    default:
        return CDP_INTERNAL;
    }
}

cdp_status cdp_from_cuda(cudaError_t code, const char *what) {
    if (code == cudaSuccess)
        return CDP_OK;
    return cdp_fail(class_of(code), "%s: %s: %s", what, cudaGetErrorName(code), cudaGetErrorString(code));
}
