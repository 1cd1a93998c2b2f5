/* kernels/cuda/error.h - a code of the CUDA runtime becomes a cdp_status in one place. */
#pragma once

#include "kernels/status.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CDP_OK for cudaSuccess. Else the first message of this thread is "WHAT: NAME: TEXT", and the code says what
 * follows from it: CDP_SYSTEM for memory that is refused, CDP_UNAVAILABLE where there is no GPU or no driver
 * that fits, CDP_INTERNAL for everything else (an error that sticks to the context ends the process, 70). */
cdp_status cdp_from_cuda(cudaError_t code, const char *what);

#ifdef __cplusplus
}
#endif
