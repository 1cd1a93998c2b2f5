/* tests/standin/launch.cpp - how a kernel starts: what the driver would refuse, and what is queued. */
#include <stdlib.h>

#include <mutex>
#include <set>

#include "tests/standin/cudart.h"

extern "C" cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value) {
    CONTEXT_OR_RETURN();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || (size_t)value + standin_shared_bytes(function) > STANDIN_OPTIN_SHARED)
        return standin_note(cudaErrorInvalidValue);
    return cudaSuccess;
}

enum { LOAD_MS = 30000 }; /* longer than any message of a test is on its way */

static bool is_new(const std::string &key) {
    static std::mutex standin_lock;
    static std::set<std::string> standin_known;
    const std::lock_guard<std::mutex> hold(standin_lock);
    return standin_known.insert(std::to_string(standin_current()) + " " + key).second;
}

std::atomic<int> standin_receives;

bool standin_load(const char *name, const std::string &key, uint64_t *n_loads) {
    if (!is_new(key))
        return true;
    if (n_loads != nullptr)
        ++*n_loads;
    if (standin_rank() == 0 && standin_receives > 0)
        standin_report("%s: loaded while a receive of rank 0 waits for the ring", name);
    if (standin_wait_all(LOAD_MS))
        return true;
    standin_report("%s: to load it, all work of the GPU is waited for, and that does not end", name);
    return false;
}

static std::string key_of(const void *kernel) {
    return "kernel " + std::to_string(reinterpret_cast<uintptr_t>(kernel));
}

/* As compiled for compute capability 9.0, or for the older GPU; STANDIN_PTX: as PTX of another one, which the
 * driver then compiles. */
extern "C" cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *function) {
    CONTEXT_OR_RETURN();
    const char *const ptx = getenv("STANDIN_PTX");
    const standin_gpu *const gpu = standin_gpu_at(standin_current());
    const int own = 10 * gpu->major + gpu->minor;
    if (standin_fault_due("kernel", "foreign"))
        return standin_note(cudaErrorInvalidDeviceFunction);
    *out = cudaFuncAttributes{};
    out->sharedSizeBytes = standin_shared_bytes(function);
    out->maxThreadsPerBlock = 1024;
    out->binaryVersion = own;
    out->ptxVersion = ptx != nullptr ? atoi(ptx) : own < 90 ? 80 : 90;
    return standin_load("cudaFuncGetAttributes", key_of(function)) ? cudaSuccess
                                                                   : standin_note(cudaErrorLaunchTimeout);
}

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
    if (l.shared_bytes + fixed > STANDIN_OPTIN_SHARED)
        return "more than 227 KiB of shared memory";
    if (l.shared_bytes <= STANDIN_STATIC_SHARED && l.shared_bytes + fixed > STANDIN_STATIC_SHARED)
        return "static and dynamic shared memory above 48 KiB together, which only a larger dynamic part "
               "asks for";
    return nullptr;
}

cudaError_t standin_enqueue_kernel(const standin_launch &launch, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    const char *const why = refusal(launch);
    if (why != nullptr) {
        standin_report("%s: launch refused: %s", launch.name, why);
        return standin_note(cudaErrorInvalidConfiguration);
    }
    if (!standin_load(launch.name, key_of(launch.kernel), &standin_counted.late_kernels))
        return standin_note(cudaErrorLaunchTimeout);
    if (standin_fault_due("launch", "refused"))
        return standin_note(cudaErrorLaunchOutOfResources);
    const bool is_doomed = standin_fault_due("launch", "sticky");
    const bool is_endless = standin_fault_due("launch", "hang");
    return standin_note(standin_queue_work(stream, launch.name, [launch, is_doomed, is_endless] {
        if (is_endless)
            return STANDIN_NOT_YET;
        standin_counted.launches++;
        const double start = standin_now_ms();
        const bool is_good = !is_doomed && standin_run_grid(launch);
        standin_trace(launch, standin_now_ms() - start);
        return is_good ? STANDIN_DONE : STANDIN_FAILED;
    }));
}
