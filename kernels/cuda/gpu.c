/* Facts about the visible GPUs, by the CUDA runtime. */
#include "kernels/gpu.h"

#include "kernels/cuda/error.h"

#include <cuda.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *reason_of(cudaError_t code) {
    switch (code) {
    case cudaErrorInsufficientDriver:
        return "the NVIDIA driver is missing or older than this build's CUDA";
    case cudaErrorNoDevice:
        return "the driver shows no GPU";
    case cudaErrorStubLibrary:
        return "libcuda.so.1 is the toolkit's stub and not a driver";
    default:
        return cudaGetErrorString(code);
    }
}

void cdp_gpu_count(int *n_out, char *why, size_t why_size) {
    int n = 0;
    const cudaError_t code = cudaGetDeviceCount(&n);
    *n_out = code == cudaSuccess ? n : 0;
    snprintf(why, why_size, "%s",
             *n_out > 0 ? "" : reason_of(code != cudaSuccess ? code : cudaErrorNoDevice));
    if (code != cudaSuccess)
        cudaGetLastError(); /* no GPU is an answer, and not the next call's error */
}

/* The 16 bytes in the words of nvidia-smi. */
static void uuid_text(char *out, size_t out_size, const char *kind, const unsigned char *b) {
    snprintf(out, out_size, "%s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", kind,
             b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
}

/* A MIG instance ("NVIDIA A100-SXM4-40GB MIG 1g.5gb") has a UUID of its own, which CUDA_VISIBLE_DEVICES takes
 * with MIG- before it. The second version of the driver's call is the one that promises to tell it. */
static bool ask_instance(CUuuid *out, const char *name, int index) {
    CUdevice device;
    return strstr(name, " MIG ") != NULL && cuDeviceGet(&device, index) == CUDA_SUCCESS &&
           cuDeviceGetUuid_v2(out, device) == CUDA_SUCCESS;
}

cdp_status cdp_gpu_read(cdp_gpu *out, int index) {
    struct cudaDeviceProp p;
    *out = (cdp_gpu){.index = index};
    CDP_TRY(cdp_from_cuda(cudaGetDeviceProperties(&p, index), "properties of a GPU"));
    CDP_TRY(cdp_from_cuda(cudaDeviceGetPCIBusId(out->bus, sizeof out->bus, index), "bus id of a GPU"));
    cdp_escape(out->name, sizeof out->name, p.name, strnlen(p.name, sizeof p.name));
    CUuuid instance;
    const bool is_mig = ask_instance(&instance, out->name, index);
    uuid_text(out->uuid, sizeof out->uuid, is_mig ? "MIG" : "GPU",
              (const unsigned char *)(is_mig ? instance.bytes : p.uuid.bytes));
    out->major = p.major;
    out->minor = p.minor;
    out->n_sms = p.multiProcessorCount;
    out->total_bytes = p.totalGlobalMem;
    /* 8.0 has bf16 on its tensor cores, and copies to shared memory that do not wait. */
    if (p.major < 8)
        return cdp_fail(CDP_UNAVAILABLE,
                        "GPU %d %s has compute capability %d.%d, and cdpipe needs 8.0 or newer "
                        "(--device cpu works)",
                        index, out->name, p.major, p.minor);
    return CDP_OK;
}

cdp_status cdp_gpu_free_bytes(uint64_t *out, int index) {
    size_t n_free = 0, n_total = 0;
    *out = 0;
    CDP_TRY(cdp_from_cuda(cudaSetDevice(index), "a context on a GPU"));
    CDP_TRY(cdp_from_cuda(cudaMemGetInfo(&n_free, &n_total), "free memory of a GPU"));
    *out = n_free;
    return CDP_OK;
}

cdp_cuda_versions cdp_cuda_versions_of(void) {
    cdp_cuda_versions v = {.build = CUDART_VERSION};
    if (cudaRuntimeGetVersion(&v.runtime) != cudaSuccess)
        v.runtime = 0;
    if (cudaDriverGetVersion(&v.driver) != cudaSuccess)
        v.driver = 0;
    cudaGetLastError();
    return v;
}
