/* tests/gpu/fill.cu - see fill.h. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdbool.h>
#include <stddef.h>

extern "C" {
#include "tests/gpu/fill.h"
}

#include "kernels/cuda/launch.h"

/* One element a turn; a hash of its number is its value. */
__global__ static void fill_kernel(void *data, cdp_dtype dtype, size_t n, float around, float by,
                                   uint32_t seed) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        uint32_t h = (uint32_t)i * 2654435761u ^ (uint32_t)(i >> 32) ^ seed * 2246822519u;
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        h *= 3266489917u;
        h ^= h >> 16;
        const float value = around + by * ((float)(h >> 8) * (2.0f / 16777216.0f) - 1.0f);
        if (dtype == CDP_F32)
            static_cast<float *>(data)[i] = value;
        else if (dtype == CDP_BF16)
            static_cast<__nv_bfloat16 *>(data)[i] = __float2bfloat16(value);
        else
            static_cast<__half *>(data)[i] = __float2half(value);
    }
}

extern "C" cdp_status fill_tensor(const cdp_tensor *tensor, float around, float by, uint32_t seed,
                                  cudaStream_t stream) {
    const size_t n = (size_t)tensor->rows * (size_t)tensor->cols;
    if (n == 0)
        return CDP_OK;
    const unsigned blocks = n < (size_t)256 * 4096 ? (unsigned)((n + 255) / 256) : 4096;
    return CDP_LAUNCH(fill_kernel, blocks, 256, 0, stream, tensor->data, tensor->dtype, n, around, by, seed);
}
