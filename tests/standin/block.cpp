/* tests/standin/block.cpp - a grid on one thread: blocks one after another, a fiber for each thread that
 * waits.
 *
 *     warp 0: lane lane lane ... all wait at the barrier
 *     warp 1:                                            lane lane ... last one in: everybody goes on
 *
 * A warp runs as far as it can before the next one starts, lanes in the chosen order, each until it meets
 * others. So what holds only because threads happen to run side by side breaks in one order or another.
 */
#include <algorithm>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

#include "tests/standin/block.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace fc = boost::context::detail;

standin_place standin_now;
standin_machine standin_running;
void (*standin_on_access)(const void *, size_t, bool);

namespace {

enum { STACK_BYTES = 128 * 1024, POISON = 0xFF };

standin_machine &m = standin_running;

void *dynamic_shared = nullptr;
thread_local bool runs_kernels = false; /* the worker thread, inside a grid */

uint64_t next_random(uint64_t *state) {
    *state += 0x9E3779B97F4A7C15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

template <typename T> void put_in_order(T *list, int n, uint64_t *random) {
    for (int i = 0; i < n; i++)
        list[i] = (T)(m.order == STANDIN_DESCENDING ? n - 1 - i : i);
    if (m.order == STANDIN_SHUFFLED)
        for (int i = n - 1; i > 0; i--)
            std::swap(list[i], list[next_random(random) % (uint64_t)(i + 1)]);
}

/* ---- switching ---- */

void jump(standin_fiber *to) {
    standin_fiber *const from = m.on;
    m.on = to;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack,
                                   to == &m.home ? m.home_bytes : (size_t)STACK_BYTES);
#endif
    const fc::transfer_t back = fc::jump_fcontext(to->context, from);
    static_cast<standin_fiber *>(back.data)->context = back.fctx;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void stand_at(int t) {
    m.current = t;
    standin_now.thread = m.threads[(size_t)t].index;
}

/* Go on with thread t where it stands, or start it; -1: with the one who started them all. */
void go_to(int t) {
    if (t < 0) {
        jump(&m.home);
        return;
    }
    standin_thread *const next = &m.threads[(size_t)t];
    if (next->on == nullptr) {
        next->on = m.free.back();
        m.free.pop_back();
    }
    stand_at(t);
    jump(next->on);
}

/* The next thread that can run, or -1. */
int next_ready() {
    for (; m.warp_cursor < m.n_warps; m.warp_cursor++) {
        const int w = m.warp_at[m.warp_cursor];
        if (m.warps[(size_t)w].ready != 0)
            return w * WARP + m.lane_at[__builtin_ctz(m.warps[(size_t)w].ready)];
    }
    return -1;
}

/* Thread t is done: those who wait at the barrier no longer wait for it. */
void count_out(int t) {
    m.threads[(size_t)t].state = LEFT;
    standin_set_ready(t, false);
    m.warps[(size_t)(t / WARP)].left |= 1u << (t % WARP);
    m.n_live--;
    if (m.n_live == 0 || m.n_at_barrier < m.n_live)
        return;
    for (int other = 0; other < m.n_threads; other++)
        if (m.threads[(size_t)other].state == AT_BARRIER) {
            m.threads[(size_t)other].state = READY;
            standin_set_ready(other, true);
        }
    m.n_at_barrier = 0;
    m.warp_cursor = 0;
}

void fiber_main(fc::transfer_t came) {
    static_cast<standin_fiber *>(came.data)->context = came.fctx;
#ifdef __SANITIZE_ADDRESS__
    const void *bottom = nullptr;
    size_t n_bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &n_bytes);
    if (came.data == &m.home) {
        m.home.stack = static_cast<char *>(const_cast<void *>(bottom));
        m.home_bytes = n_bytes;
    }
#endif
    standin_fiber *const me = m.on;
    for (;;) {
        m.launch->body();
        count_out(m.current);
        const int next = next_ready();
        if (next >= 0 && m.threads[(size_t)next].on == nullptr) { /* starts on this stack */
            m.threads[(size_t)next].on = me;
            stand_at(next);
            continue;
        }
        m.free.push_back(me);
        go_to(next);
    }
}

/* Stacks start at different offsets, so that their tops do not all fall into the same cache sets. */
void make_fibers() {
    m.fibers.clear();
    m.fibers.resize(MAX_THREADS);
    m.threads.resize(MAX_THREADS);
    m.free.clear();
    m.on = &m.home;
    m.warps.assign(MAX_WARPS, standin_warp());
    static char *standin_stacks = nullptr; /* guard page below each; kept for the life of the process */
    const size_t step = STACK_BYTES + 4096;
    if (standin_stacks == nullptr) {
        standin_stacks = static_cast<char *>(mmap(nullptr, MAX_THREADS * step, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (standin_stacks == MAP_FAILED)
            abort();
        for (size_t i = 0; i < MAX_THREADS; i++)
            mprotect(standin_stacks + i * step, 4096, PROT_NONE);
    }
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(standin_stacks, MAX_THREADS * step);
#endif
    for (size_t i = 0; i < MAX_THREADS; i++) {
        standin_fiber *const f = &m.fibers[i];
        f->stack = standin_stacks + i * step + 4096;
        f->context =
            fc::make_fcontext(f->stack + STACK_BYTES - (i * 7 % 61) * 64, STACK_BYTES - 4096, fiber_main);
        m.free.push_back(f);
    }
}

/* ---- one block ---- */

void start_block() {
    const dim3 d = m.launch->block;
    m.n_live = m.n_threads;
    m.n_at_barrier = 0;
    std::fill(m.n_at_part, m.n_at_part + PARTS, 0);
    m.warp_cursor = 0;
    for (int t = 0; t < m.n_threads; t++) {
        standin_thread *const f = &m.threads[(size_t)t];
        f->on = nullptr;
        f->state = READY;
        f->has_waited = false;
        f->index = uint3{(unsigned)t % d.x, (unsigned)t / d.x % d.y, (unsigned)t / (d.x * d.y)};
        f->copies.clear();
        f->groups.clear();
    }
    for (int w = 0; w * WARP < m.n_threads; w++) {
        const int n = std::min<int>(WARP, m.n_threads - w * WARP);
        const unsigned there = n == WARP ? 0xffffffffu : (1u << n) - 1;
        m.warps[(size_t)w] = standin_warp();
        m.warps[(size_t)w].left = ~there;
        for (int lane = 0; lane < n; lane++)
            m.warps[(size_t)w].ready |= 1u << m.place_of[lane];
    }
}

/* Nobody can go on and not all are done: say who waits where. */
void report_stuck() {
    char place[256];
    standin_name_place(place, sizeof place);
    std::string text;
    std::vector<bool> is_told((size_t)m.n_threads);
    for (int t = 0; t < m.n_threads; t++) {
        const standin_thread &f = m.threads[(size_t)t];
        if (is_told[(size_t)t] || f.state == LEFT)
            continue;
        int n = 0;
        for (int u = t; u < m.n_threads; u++) {
            const standin_thread &g = m.threads[(size_t)u];
            if (g.state == f.state && standin_same_place(*g.at, *f.at)) {
                is_told[(size_t)u] = true;
                n++;
            }
        }
        char part[256];
        snprintf(part, sizeof part, "; %d threads (first: %d) wait in %s, %s:%d, mask %08x", n, t, f.at->what,
                 f.at->file, f.at->line, f.at->mask);
        text += part;
    }
    const int n_left = m.n_threads - m.n_live;
    standin_report("%s: threads wait for others that never come: %d have left%s", place, n_left,
                   text.c_str());
}

bool run_block() {
    start_block();
    memset(dynamic_shared, POISON, m.launch->shared_bytes);
    standin_poison_shared();
    go_to(next_ready());
    if (m.has_failed)
        return false;
    if (m.n_live > 0) {
        report_stuck();
        return false;
    }
    standin_counted.blocks++;
    standin_counted.threads += (uint64_t)m.n_threads;
    return true;
}

void choose_order(uint64_t *random) {
    put_in_order(m.lane_at, WARP, random);
    for (int i = 0; i < WARP; i++)
        m.place_of[m.lane_at[i]] = i;
    put_in_order(m.warp_at, m.n_warps, random);
}

} // namespace

void standin_leave(void) {
    const int to = next_ready();
    if (to != m.current)
        go_to(to);
}

void standin_give_up(void) {
    m.has_failed = true;
    jump(&m.home);
    abort(); /* an abandoned fiber is never entered again */
}

void standin_name_place(char *out, size_t n_bytes) {
    snprintf(out, n_bytes, "%s, block (%u,%u,%u)", m.launch->name, standin_now.block.x, standin_now.block.y,
             standin_now.block.z);
}

void standin_access(const void *address, size_t n_bytes, bool is_write) {
    if (runs_kernels && standin_on_access != nullptr)
        standin_on_access(address, n_bytes, is_write);
}

void standin_library_wrote(const char *name, const void *memory, size_t n_bytes, size_t apart, size_t n) {
    static standin_launch library;
    library.name = name;
    m.launch = &library; /* plain, but its end is not waited for by a kernel that begins early */
    m.n_grids++;
    runs_kernels = true;
    for (size_t i = 0; i < n; i++)
        standin_access(static_cast<const char *>(memory) + i * apart, n_bytes, true);
    runs_kernels = false;
}

void standin_end_chain(void) {
    m.chain_start = m.n_grids + 1;
}

void standin_set_block_order(standin_order order, uint64_t seed) {
    m.order = order;
    m.seed = seed;
}

bool standin_run_grid(const standin_launch &launch) {
    if (m.fibers.empty())
        make_fibers();
    m.launch = &launch;
    m.n_threads = (int)(launch.block.x * launch.block.y * launch.block.z);
    m.n_warps = (m.n_threads + WARP - 1) / WARP;
    m.has_waited = m.has_failed = false;
    m.n_grids++;
    m.chain_start = launch.is_programmatic ? m.chain_start : m.n_grids;
    standin_now.block_dim = launch.block;
    standin_now.grid_dim = launch.grid;
    standin_use_shared(launch.kernel);
    dynamic_shared = aligned_alloc(16, (launch.shared_bytes + 16) / 16 * 16);
#ifdef __SANITIZE_ADDRESS__ /* the bytes behind the launch's own are nobody's */
    __asan_poison_memory_region(static_cast<char *>(dynamic_shared) + launch.shared_bytes,
                                16 - launch.shared_bytes % 16);
#endif
    const uint64_t n_blocks = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
    std::vector<uint32_t> blocks(n_blocks);
    uint64_t random = m.seed * 1000003 + standin_counted.launches;
    put_in_order(blocks.data(), (int)n_blocks, &random);
    bool is_good = true;
    runs_kernels = true;
    for (uint64_t i = 0; is_good && i < n_blocks; i++) {
        standin_now.block = uint3{blocks[i] % launch.grid.x, blocks[i] / launch.grid.x % launch.grid.y,
                                  blocks[i] / (launch.grid.x * launch.grid.y)};
        if (i == 0 || m.order == STANDIN_SHUFFLED)
            choose_order(&random);
        is_good = run_block();
    }
    runs_kernels = false;
    if (is_good && launch.is_programmatic && !m.has_waited) {
        standin_report(
            "%s: launched to overlap the kernel before it, but no thread calls ptx_wait_previous()",
            launch.name);
        is_good = false;
    }
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(dynamic_shared, (launch.shared_bytes + 16) / 16 * 16);
#endif
    free(dynamic_shared);
    if (!is_good) /* fibers that stand in the middle of a kernel are thrown away */
        make_fibers();
    return is_good;
}

void *standin_dynamic_shared(void) {
    return dynamic_shared;
}
