/* tests/standin/cudart_memory.cpp - the runtime's memory: taken, given back, copied. */
#include <cstdlib>
#include <map>
#include <mutex>
#include <string.h>

#include "tests/standin/cudart.h"

namespace {

struct host_block {
    size_t n_bytes;
};
std::mutex host_lock;
std::map<void *, host_block> *const host_blocks = new std::map<void *, host_block>;

} // namespace

extern "C" {

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    CONTEXT_OR_RETURN();
    const standin_gpu *const gpu = standin_gpu_at(standin_current());
    *free_bytes =
        standin_fault_due("meminfo", "overstated") ? gpu->total : gpu->free_at_start - gpu->allocated;
    *total_bytes = gpu->total;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t n_bytes) {
    UNCAPTURED_OR_RETURN();
    *memory = nullptr;
    standin_wait_all();
    return n_bytes == 0 ? cudaSuccess : standin_note(standin_memory_alloc(memory, n_bytes));
}

cudaError_t cudaFree(void *memory) {
    UNCAPTURED_OR_RETURN();
    if (memory == nullptr)
        return cudaSuccess;
    standin_wait_all();
    return standin_note(standin_memory_free(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **memory, size_t n_bytes, unsigned) {
    CONTEXT_OR_RETURN();
    *memory = nullptr;
    if (n_bytes == 0)
        return cudaSuccess;
    standin_wait_all();
    if (standin_fault_due("host", "memory"))
        return standin_note(cudaErrorMemoryAllocation);
    *memory = aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096);
    if (*memory == nullptr)
        return standin_note(cudaErrorMemoryAllocation);
    memset(*memory, 0xFF, n_bytes);
    std::lock_guard<std::mutex> hold(host_lock);
    (*host_blocks)[*memory] = {n_bytes};
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t n_bytes) {
    return cudaHostAlloc(memory, n_bytes, 0);
}

cudaError_t cudaFreeHost(void *memory) {
    if (memory == nullptr)
        return cudaSuccess;
    standin_wait_all();
    std::lock_guard<std::mutex> hold(host_lock);
    if (host_blocks->erase(memory) == 0)
        return standin_note(cudaErrorInvalidValue);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *, size_t, unsigned) {
    CONTEXT_OR_RETURN();
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *) {
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) {
    *device = host;
    return cudaSuccess;
}

static bool fits(const void *memory, size_t n_bytes, bool is_device) {
    return is_device ? standin_memory_has(memory, n_bytes) : !standin_memory_is_device(memory);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (n_bytes == 0)
        return cudaSuccess;
    bool is_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool is_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        is_to_device = standin_memory_is_device(to);
        is_from_device = standin_memory_is_device(from);
    }
    if (!fits(to, n_bytes, is_to_device) || !fits(from, n_bytes, is_from_device)) {
        standin_report(
            "cudaMemcpyAsync: %p <- %p, %zu bytes, kind %d: does not lie in one allocation of that kind", to,
            from, n_bytes, (int)kind);
        return standin_note(cudaErrorInvalidValue);
    }
    /* Until the copy is done nobody may read what it writes: make sure that nobody can. */
    if (!is_to_device && !standin_is_capturing(stream))
        memset(to, 0xFF, n_bytes);
    const bool is_corrupt = is_to_device != is_from_device && standin_fault_due("copy", "corrupt");
    return standin_note(standin_queue_work(stream, "copy", [=] {
        standin_end_chain();
        memmove(to, from, n_bytes);
        if (is_corrupt)
            static_cast<unsigned char *>(to)[n_bytes / 2] ^= 1;
        standin_counted.copies++;
        return STANDIN_DONE;
    }));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind) {
    UNCAPTURED_OR_RETURN();
    const cudaError_t code = cudaMemcpyAsync(to, from, n_bytes, kind, nullptr);
    if (code != cudaSuccess)
        return code;
    standin_stream_wait(nullptr);
    return standin_after_sync();
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t n_bytes, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (n_bytes == 0)
        return cudaSuccess;
    if (!standin_memory_has(memory, n_bytes))
        return standin_note(cudaErrorInvalidValue);
    return standin_note(standin_queue_work(stream, "set", [=] {
        standin_end_chain();
        standin_memory_set(memory, value, n_bytes);
        return STANDIN_DONE;
    }));
}

cudaError_t cudaMemset(void *memory, int value, size_t n_bytes) {
    return cudaMemsetAsync(memory, value, n_bytes, nullptr);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (width == 0 || height == 0)
        return cudaSuccess;
    const bool is_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool is_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!fits(to, to_pitch * (height - 1) + width, is_to_device) ||
        !fits(from, from_pitch * (height - 1) + width, is_from_device))
        return standin_note(cudaErrorInvalidValue);
    return standin_note(standin_queue_work(stream, "copy", [=] {
        standin_end_chain();
        for (size_t row = 0; row < height; row++)
            memmove(static_cast<char *>(to) + row * to_pitch,
                    static_cast<const char *>(from) + row * from_pitch, width);
        return STANDIN_DONE;
    }));
}

} // extern "C"
