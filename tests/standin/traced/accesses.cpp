/* tests/standin/traced/accesses.cpp - what kernels that begin early touch before they wait.
 *
 *     kernel 7, plain         writes x
 *     kernel 8, early              reads w   wait   reads x, writes y
 *     kernel 9, early                   reads y   wait               y may not be there yet: a fault
 *     cuBLASLt                writes z                               early kernels behind it wait for z, too
 *
 * The .cu files are compiled once more with -fsanitize=thread, for the calls that the compiler then puts at
 * every load and store. They are answered here; no thread sanitizer is linked. Of each word of device memory
 * the number of the grid that wrote it last is kept. Before its wait a thread may read no word that a grid
 * wrote which may still run, that is one since the last plain launch, and may write none at all.
 */
#include <unordered_map>

#include "tests/standin/block.h"

namespace {

enum { PAGE = 4096, WORD = 4 };

struct page {
    uint64_t writer[PAGE / WORD] = {}; /* the number of a grid */
};

std::unordered_map<uintptr_t, page> *const pages = new std::unordered_map<uintptr_t, page>;
std::unordered_map<uintptr_t, page *> looked_at; /* in this grid; NULL: no device memory */
uint64_t looked_in;

/* The page an address lies in, or NULL for memory that is not the device's. */
page *find_page(uintptr_t address) {
    const uintptr_t number = address / PAGE;
    if (looked_in != standin_running.n_grids)
        looked_at.clear();
    looked_in = standin_running.n_grids;
    const auto known = looked_at.find(number);
    if (known != looked_at.end())
        return known->second;
    page *const found =
        standin_memory_is_device(reinterpret_cast<const void *>(address)) ? &(*pages)[number] : nullptr;
    return looked_at[number] = found;
}

void refuse(const char *what, const void *address) {
    char place[256];
    standin_name_place(place, sizeof place);
    standin_report("%s: thread %d %s %p before ptx_wait_previous()", place, standin_running.current, what,
                   address);
    standin_give_up();
}

void on_access(const void *address, size_t n_bytes, bool is_write) {
    const standin_machine &m = standin_running;
    const bool is_early = m.launch->is_programmatic && !m.threads[(size_t)m.current].has_waited;
    const uintptr_t first = reinterpret_cast<uintptr_t>(address);
    for (uintptr_t at = first / WORD * WORD; (is_early || is_write) && at < first + n_bytes; at += WORD) {
        page *const p = find_page(at < first ? first : at);
        if (p == nullptr)
            return;
        uint64_t *const writer = &p->writer[at % PAGE / WORD];
        if (is_early && is_write)
            refuse("writes", address);
        if (is_early && *writer >= m.chain_start && *writer < m.n_grids)
            refuse("reads what the kernels before it may still write,", address);
        if (is_write)
            *writer = m.n_grids;
    }
}

struct tracing {
    tracing() { standin_on_access = on_access; }
} is_on;

} // namespace

#define ANSWER(n)                                                                                            \
    void __tsan_read##n(void *at) {                                                                          \
        standin_access(at, n, false);                                                                        \
    }                                                                                                        \
    void __tsan_write##n(void *at) {                                                                         \
        standin_access(at, n, true);                                                                         \
    }                                                                                                        \
    void __tsan_unaligned_read##n(void *at) {                                                                \
        standin_access(at, n, false);                                                                        \
    }                                                                                                        \
    void __tsan_unaligned_write##n(void *at) {                                                               \
        standin_access(at, n, true);                                                                         \
    }

extern "C" {
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
ANSWER(1)
ANSWER(2)
ANSWER(4)
ANSWER(8)
ANSWER(16)
void __tsan_read_range(void *at, unsigned long n) {
    standin_access(at, n, false);
}
void __tsan_write_range(void *at, unsigned long n) {
    standin_access(at, n, true);
}
}
