/* tests/standin/meetings.cpp - where threads of a block wait for each other, and are told when they wait in
 * the wrong place: barriers, shuffles and votes; copies that are done at the wait for them.
 */
#include <string.h>

#include "tests/standin/block.h"

namespace {
standin_machine &m = standin_running;

/* The running thread cannot go on before others come. */
void wait_at(const standin_wait &here, standin_thread_state state) {
    standin_thread *const me = &m.threads[(size_t)m.current];
    standin_counted.meetings++;
    me->at = &here;
    me->state = state;
    standin_set_ready(m.current, false);
}

/* All are here, at the barrier of this state and number: they go on, if all stand at the same line. */
void open_barrier(const standin_wait &here, standin_thread_state state) {
    for (int t = 0; t < m.n_threads; t++) {
        standin_thread *const other = &m.threads[(size_t)t];
        if (other->state != state || other->at->mask >> 16 != here.mask >> 16)
            continue;
        if (!standin_same_place(*other->at, here)) {
            char place[256];
            standin_name_place(place, sizeof place);
            standin_report(
                "%s:%d: %s: thread %d is at this barrier, %08x, thread %d at that of line %d, %08x",
                here.file, here.line, place, m.current, here.mask, t, other->at->line, other->at->mask);
            standin_give_up();
        }
        other->state = READY;
        standin_set_ready(t, true);
    }
    m.warp_cursor = 0;
}

void refuse_mask(const standin_wait &here, unsigned wrong, const char *why) {
    char place[256];
    standin_name_place(place, sizeof place);
    standin_report("%s:%d: %s: %s with mask %08x, thread %d: lanes %08x %s", here.file, here.line, place,
                   here.what, here.mask, m.current, wrong, why);
    standin_give_up();
}

/* All lanes of the mask are here: hand over, and let them go on. */
void finish_meeting(const standin_wait &here, standin_warp *w, int base, standin_combine *combine) {
    const standin_wait *at[WARP] = {};
    for (unsigned rest = here.mask; rest != 0; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        at[lane] = m.threads[(size_t)(base + lane)].at;
        if (!standin_same_place(*at[lane], here))
            refuse_mask(here, 1u << lane, "wait elsewhere or with another mask");
        if (combine == standin_combine_shuffle && (here.mask >> (at[lane]->extra & 31) & 1) == 0)
            refuse_mask(here, 1u << lane, "read from a lane that is not named");
        w->ready |= 1u << m.place_of[lane];
    }
    if (combine != nullptr)
        combine(at);
    w->waiting &= ~here.mask;
}
} // namespace

int standin_lane(void) {
    return (int)((unsigned)m.current % WARP);
}

void standin_block_meet(const char *file, int line) {
    const standin_wait here = {"__syncthreads", file, line, 0xffffffffu, nullptr, nullptr, 0, 0};
    wait_at(here, AT_BARRIER);
    if (++m.n_at_barrier == m.n_live) {
        open_barrier(here, AT_BARRIER);
        m.n_at_barrier = 0;
    }
    standin_leave();
}

void standin_part_meet(int number, int n_threads, const char *file, int line) {
    const unsigned mask = (unsigned)number << 16 | (unsigned)n_threads;
    const standin_wait here = {"ptx_part_sync", file, line, mask, nullptr, nullptr, 0, 0};
    if (number < 1 || number >= PARTS || n_threads < WARP || n_threads % WARP != 0 ||
        n_threads > m.n_threads) {
        char place[256];
        standin_name_place(place, sizeof place);
        standin_report("%s:%d: %s, thread %d: barrier %d for %d threads", file, line, place, m.current,
                       number, n_threads);
        standin_give_up();
    }
    wait_at(here, AT_PART);
    if (++m.n_at_part[number] == n_threads) {
        open_barrier(here, AT_PART);
        m.n_at_part[number] = 0;
    }
    standin_leave();
}

void standin_warp_meet(const standin_wait &here, standin_combine *combine) {
    const int me = m.current, lane = standin_lane();
    const unsigned mine = 1u << lane;
    standin_warp *const w = &m.warps[(size_t)(me - lane) / WARP];
    if ((here.mask & mine) == 0)
        refuse_mask(here, mine, "call it without being named");
    if ((w->left & here.mask) != 0)
        refuse_mask(here, w->left & here.mask, "are named but have left the kernel");
    standin_counted.meetings++;
    m.threads[(size_t)me].at = &here;
    w->waiting |= mine;
    w->ready &= ~(1u << m.place_of[lane]);
    if ((w->waiting & here.mask) == here.mask)
        finish_meeting(here, w, me - lane, combine);
    standin_leave();
}

void standin_combine_shuffle(const standin_wait *const at[32]) {
    for (int lane = 0; lane < WARP; lane++) {
        const standin_wait *const to = at[lane];
        if (to == nullptr)
            continue;
        const void *const from = at[to->extra & 31]->in;
        if (to->n_bytes == 4) /* nearly always: no call */
            memcpy(to->out, from, 4);
        else
            memcpy(to->out, from, to->n_bytes);
    }
}

void standin_combine_ballot(const standin_wait *const at[32]) {
    unsigned votes = 0;
    for (int lane = 0; lane < WARP; lane++)
        if (at[lane] != nullptr && *static_cast<const int *>(at[lane]->in) != 0)
            votes |= 1u << lane;
    for (int lane = 0; lane < WARP; lane++)
        if (at[lane] != nullptr)
            *static_cast<unsigned *>(at[lane]->out) = votes;
}

void standin_misaligned(const void *address, size_t alignment, const char *file, int line) {
    char place[256];
    standin_name_place(place, sizeof place);
    standin_report("%s:%d: %s, thread %d: address %p is no multiple of %zu", file, line, place, m.current,
                   address, alignment);
    standin_give_up();
}

/* ---- copies that are done at the wait ---- */

void standin_copy_later(void *to_shared, const void *from_global, size_t n_bytes) {
    if (from_global != nullptr)
        standin_access(from_global, n_bytes, false);
    m.threads[(size_t)m.current].copies.push_back({to_shared, from_global, n_bytes});
}

void standin_copy_commit(void) {
    standin_thread *const f = &m.threads[(size_t)m.current];
    f->groups.push_back(f->copies.size());
}

void standin_copy_wait(int n_newest_left) {
    standin_thread *const f = &m.threads[(size_t)m.current];
    const size_t keep = (size_t)n_newest_left;
    if (f->groups.size() <= keep)
        return;
    const size_t n_groups = f->groups.size() - keep, n_copies = f->groups[n_groups - 1];
    for (size_t i = 0; i < n_copies; i++) {
        const standin_copy &c = f->copies[i];
        if (c.from != nullptr)
            memcpy(c.to, c.from, c.n_bytes);
        else
            memset(c.to, 0, c.n_bytes);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + (long)n_copies);
    f->groups.erase(f->groups.begin(), f->groups.begin() + (long)n_groups);
    for (size_t &end : f->groups)
        end -= n_copies;
}

void standin_wait_previous(void) {
    m.has_waited = m.threads[(size_t)m.current].has_waited = true;
}
