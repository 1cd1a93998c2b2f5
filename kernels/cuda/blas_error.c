/* Codes of cuBLASLt. */
#include "kernels/cuda/device.h"

cdp_status cdp_from_cublas(cublasStatus_t code, const char *what) {
    if (code == CUBLAS_STATUS_SUCCESS)
        return CDP_OK;
    return cdp_fail(code == CUBLAS_STATUS_ALLOC_FAILED ? CDP_SYSTEM : CDP_INTERNAL, "%s: cuBLASLt: %s", what,
                    cublasLtGetStatusString(code));
}
