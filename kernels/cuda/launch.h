/* kernels/cuda/launch.h - the one way a kernel is started, and its dynamic shared memory.
 *
 *     __global__ static void scale_kernel(float *x, float by, int n) {
 *         CDP_DYNAMIC_SHARED(float, row);
 *         ...
 *     }
 *     return CDP_LAUNCH(scale_kernel, n_rows, 256, 256 * sizeof(float), stream, x, by, n);
 *
 * Launch attributes, error checks, the list of all kernels (preload.h) and the stand-in (tests/standin) share
 * this place: nvcc makes it a cudaLaunchKernelEx, the host compiler hands the same call to the stand-in's
 * blocks and threads. For .cu files only. A kernel template with a comma in its name goes in parentheses:
 * CDP_LAUNCH((sum_kernel<4, 8>), ...).
 *
 * In a kernel no mutable `static` may stand but __shared__ ones: the stand-in takes every static of a .cu
 * file's functions for shared memory and fills it with poison before each block.
 */
#pragma once

#include "kernels/cuda/early.h"
#include "kernels/cuda/error.h"
#include "kernels/cuda/preload.h"

/* Start kernel<<<grid, block, shared_bytes, stream>>>(...) and evaluate to a cdp_status that says whether the
 * launch was accepted; faults inside show at the next synchronisation. More than 48 KiB of shared memory are
 * asked for here. An empty grid is an error to CUDA: the caller returns early. */
#define CDP_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                           \
    cdp_launch(#kernel, cdp_listed<kernel>(), grid, block, shared_bytes, stream, false, __VA_ARGS__)

/* The same with programmatic dependent launch, where it is possible (early.h): the kernel may begin while
 * the one before it in the stream still runs, so every thread calls ptx_wait_previous() before it touches
 * what an earlier kernel wrote or reads. */
#define CDP_LAUNCH_PDL(kernel, grid, block, shared_bytes, stream, ...)                                       \
    cdp_launch(#kernel, cdp_listed<kernel>(), grid, block, shared_bytes, stream, true, __VA_ARGS__)

#ifdef __CUDACC__

#include <cuda_runtime.h>

/* Dynamic shared memory of a kernel, 16-byte aligned, as an array `name` of `type`. One a kernel. */
#define CDP_DYNAMIC_SHARED(type, name)                                                                       \
    extern __shared__ __align__(16) unsigned char cdp_dynamic_shared[];                                      \
    type *const name = reinterpret_cast<type *>(cdp_dynamic_shared)

enum { CDP_STATIC_SHARED_LIMIT = 48 * 1024 }; /* what a block gets without asking, on every architecture */

template <typename... Parameters, typename... Arguments>
static inline cdp_status cdp_launch(const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                    size_t shared_bytes, cudaStream_t stream, bool is_programmatic,
                                    const Arguments &...arguments) {
    if (shared_bytes > CDP_STATIC_SHARED_LIMIT) {
        const cudaError_t code =
            cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (code != cudaSuccess)
            return cdp_from_cuda(code, name);
    }
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = is_programmatic && cdp_launches_early(reinterpret_cast<const void *>(kernel)) ? 1 : 0;
    return cdp_from_cuda(cudaLaunchKernelEx(&config, kernel, arguments...), name);
}

#else
#include "tests/standin/kernel.h"
#endif
