#include "kernels/cuda/early.h"

#include <cuda_runtime_api.h>

enum {
    WAIT_PTX = 90,        /* as cudaFuncAttributes spells the virtual architecture: __CUDA_ARCH__ / 10 */
    GRAPHS_DRIVER = 12030 /* edges of a graph that are no full dependencies came with CUDA 12.3 */
};

static bool is_switched_off;

void cdp_launch_early(bool is_wanted) {
    is_switched_off = !is_wanted;
}

static bool ask(const void *kernel) {
    struct cudaFuncAttributes code;
    int driver = 0;
    if (cudaFuncGetAttributes(&code, kernel) == cudaSuccess && cudaDriverGetVersion(&driver) == cudaSuccess)
        return code.ptxVersion >= WAIT_PTX && driver >= GRAPHS_DRIVER;
    cudaGetLastError(); /* what is wrong with the kernel its launch will tell */
    return false;
}

bool cdp_launches_early(const void *kernel) {
    static int answer = -1;
    if (answer < 0)
        answer = ask(kernel);
    return answer == 1 && !is_switched_off;
}
