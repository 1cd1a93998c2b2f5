/* tests/gpu/fill.h - random weights made on the device: no file of the size of a large model is needed. */
#pragma once

#include "kernels/ops.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Fill a tensor with values spread evenly over around - by .. around + by, the same for the same seed. */
cdp_status fill_tensor(const cdp_tensor *tensor, float around, float by, uint32_t seed, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
