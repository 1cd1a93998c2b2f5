/* tests/standin/block.h - the grid that runs: its threads, where each waits, and who may go on. block.cpp
 * runs them, meetings.cpp is where they wait for each other.
 */
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <vector>

#include "tests/standin/inside.h"

enum {
    WARP = 32,
    MAX_THREADS = 1024,
    MAX_WARPS = MAX_THREADS / WARP,
    PARTS = 16 /* barriers of a block, of which 0 is __syncthreads() */
};

struct standin_copy {
    void *to;
    const void *from;
    size_t n_bytes;
};

/* A thread at a meeting of its warp is READY, and its lane waits. */
enum standin_thread_state { READY, AT_BARRIER, AT_PART, LEFT };

/* A stack. It runs one thread after another; a thread that has to wait keeps it until it has left. */
struct standin_fiber {
    boost::context::detail::fcontext_t context = nullptr;
    char *stack = nullptr;
    void *fake_stack = nullptr;
};

struct standin_thread {
    standin_fiber *on = nullptr; /* NULL: not started */
    standin_thread_state state = LEFT;
    bool has_waited = false; /* for the kernels before this one */
    uint3 index = {};
    const standin_wait *at = nullptr; /* where it waits, or waited last */
    std::vector<standin_copy> copies;
    std::vector<size_t> groups; /* copies before the end of each committed group */
};

struct standin_warp {
    unsigned ready = 0;   /* by place in the order */
    unsigned waiting = 0; /* by lane, at a meeting */
    unsigned left = 0;    /* by lane: done, or never there */
};

/* The grid that runs now; the worker thread alone touches it. */
struct standin_machine {
    std::vector<standin_fiber> fibers;
    std::vector<standin_fiber *> free;
    standin_fiber home;        /* the worker thread's own stack */
    standin_fiber *on = &home; /* what runs now */
    size_t home_bytes = 0;
    std::vector<standin_thread> threads;
    std::vector<standin_warp> warps;
    const standin_launch *launch = nullptr;
    int n_threads = 0, n_warps = 0, n_live = 0, n_at_barrier = 0, n_at_part[PARTS] = {};
    int current = -1, warp_cursor = 0;
    int lane_at[WARP] = {}, place_of[WARP] = {};
    int warp_at[MAX_WARPS] = {};
    bool has_waited = false, has_failed = false;
    uint64_t n_grids = 0;     /* so far: the number of the one that runs */
    uint64_t chain_start = 0; /* the last that was launched plainly: those since may overlap */
    standin_order order = STANDIN_ASCENDING;
    uint64_t seed = 1;
};
extern standin_machine standin_running;

static inline void standin_set_ready(int thread, bool is_ready) {
    standin_machine &m = standin_running;
    unsigned *const ready = &m.warps[(size_t)thread / WARP].ready;
    const unsigned bit = 1u << m.place_of[(size_t)thread % WARP];
    *ready = is_ready ? *ready | bit : *ready & ~bit;
}

/* One place in the source is one text in memory. */
static inline bool standin_same_place(const standin_wait &a, const standin_wait &b) {
    return a.line == b.line && a.mask == b.mask && a.what == b.what && a.file == b.file;
}

/* This thread cannot go on: let another one. */
void standin_leave(void);

/* End the whole grid from inside a fiber. Never returns. */
void standin_give_up(void);

/* "KERNEL, block (x,y,z)" */
void standin_name_place(char *out, size_t n_bytes);
