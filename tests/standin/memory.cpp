/* tests/standin/memory.cpp - device memory: each allocation its own pages.
 *
 *     | no access | n_bytes, then bytes that the address sanitizer guards | no access |
 *
 * Nobody but work on the worker thread may touch it: between standin_memory_close and _open the pages have no
 * access, so a host that follows a device pointer dies, as it does on a machine with a GPU. cudaMalloc fails
 * beyond what the fake GPU has free. New memory is full of ones: NaN, -1.
 */
#include <map>
#include <mutex>
#include <sys/mman.h>

#include "tests/standin/inside.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace {

enum { PAGE = 4096, ALIGNMENT = 256, MOST_FILLED = 1 << 20 }; /* of a large buffer its two ends are filled */

struct allocation {
    char *pages;
    size_t n_page_bytes; /* the middle ones */
    size_t n_bytes;
    int gpu; /* visible number */
};

std::mutex lock;
std::map<uintptr_t, allocation> *const allocations = new std::map<uintptr_t, allocation>;
bool is_open;

size_t rounded(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

/* The allocation an address lies in; the lock is held. */
const allocation *find(uintptr_t address) {
    auto next = allocations->upper_bound(address);
    if (next == allocations->begin())
        return nullptr;
    --next;
    return address - next->first < next->second.n_bytes ? &next->second : nullptr;
}

void guard(const allocation &a) {
    mprotect(a.pages + PAGE, a.n_page_bytes, is_open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

} // namespace

cudaError_t standin_memory_alloc(void **out, size_t n_bytes) {
    std::lock_guard<std::mutex> hold(lock);
    *out = nullptr;
    const int visible = standin_current();
    standin_gpu *const gpu = standin_gpu_at(visible);
    if (standin_fault_due("malloc", "memory") || n_bytes > gpu->free_at_start - gpu->allocated)
        return cudaErrorMemoryAllocation;
    allocation a = {nullptr, rounded(n_bytes, PAGE), n_bytes, visible};
    void *const pages =
        mmap(nullptr, a.n_page_bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    a.pages = static_cast<char *>(pages);
    /* At the end of its pages as far as the alignment of cudaMalloc allows: what reads on soon meets the last
     * page. */
    char *const start = a.pages + PAGE + (a.n_page_bytes - rounded(n_bytes, ALIGNMENT));
    mprotect(a.pages + PAGE, a.n_page_bytes, PROT_READ | PROT_WRITE);
    const size_t n_filled = a.n_page_bytes < MOST_FILLED ? a.n_page_bytes : (size_t)MOST_FILLED;
    memset(a.pages + PAGE, 0xFF, n_filled);
    memset(a.pages + PAGE + a.n_page_bytes - n_filled, 0xFF, n_filled);
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(a.pages, (size_t)(start - a.pages));
    __asan_poison_memory_region(start + n_bytes,
                                (size_t)(a.pages + a.n_page_bytes + 2 * PAGE - start) - n_bytes);
#endif
    guard(a);
    (*allocations)[reinterpret_cast<uintptr_t>(start)] = a;
    gpu->allocated += n_bytes;
    gpu->peak = gpu->peak < gpu->allocated ? gpu->allocated : gpu->peak;
    *out = start;
    return cudaSuccess;
}

bool standin_memory_free(void *memory) {
    std::lock_guard<std::mutex> hold(lock);
    const auto found = allocations->find(reinterpret_cast<uintptr_t>(memory));
    if (found == allocations->end())
        return false;
    const allocation a = found->second;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(a.pages, a.n_page_bytes + 2 * PAGE);
#endif
    munmap(a.pages, a.n_page_bytes + 2 * PAGE);
    standin_gpu_at(a.gpu)->allocated -= a.n_bytes;
    allocations->erase(found);
    return true;
}

void standin_memory_set(void *memory, int value, size_t n_bytes) {
    char *const start = static_cast<char *>(memory), *const end = start + n_bytes;
    if (value != 0 || n_bytes < MOST_FILLED) {
        memset(memory, value, n_bytes);
        return;
    }
    char *const first = reinterpret_cast<char *>(rounded(reinterpret_cast<uintptr_t>(start), PAGE));
    char *const last = reinterpret_cast<char *>(reinterpret_cast<uintptr_t>(end) / PAGE * PAGE);
    memset(start, 0, (size_t)(first - start));
    madvise(first, (size_t)(last - first), MADV_DONTNEED); /* pages of zeros, made when they are touched */
    memset(last, 0, (size_t)(end - last));
}

bool standin_memory_has(const void *address, size_t n_bytes) {
    std::lock_guard<std::mutex> hold(lock);
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    const allocation *const a = find(at);
    if (a == nullptr)
        return false;
    const auto start = --allocations->upper_bound(at);
    return n_bytes <= a->n_bytes - (at - start->first);
}

bool standin_memory_is_device(const void *address) {
    std::lock_guard<std::mutex> hold(lock);
    return find(reinterpret_cast<uintptr_t>(address)) != nullptr;
}

void standin_memory_open(void) {
    std::lock_guard<std::mutex> hold(lock);
    if (is_open)
        return;
    is_open = true;
    for (const auto &entry : *allocations)
        guard(entry.second);
}

void standin_memory_close(void) {
    std::lock_guard<std::mutex> hold(lock);
    if (!is_open)
        return;
    is_open = false;
    for (const auto &entry : *allocations)
        guard(entry.second);
}
