/* tests/standin/meetings.cpp - where threads of a block wait for each other, and are told when they wait in
 * the wrong place: barriers, shuffles and votes; copies that are done at the wait for them.
 */
#include <string.h>

#include "tests/standin/block.h"

namespace {
standin_machine &m = standin_running;
}

int standin_lane(void) {
    return m.current % WARP;
}

void standin_block_meet(const char *file, int line) {
    const int me = m.current;
    standin_thread *const f = &m.threads[(size_t)me];
    standin_counted.meetings++;
    f->what = "__syncthreads", f->file = file, f->line = line, f->mask = 0xffffffffu;
    f->state = AT_BARRIER;
    standin_set_ready(me, false);
    if (++m.n_at_barrier == m.n_live) {
        for (int t = 0; t < m.n_threads; t++) {
            standin_thread *const other = &m.threads[(size_t)t];
            if (other->state != AT_BARRIER)
                continue;
            if (other->line != line || other->file != file) {
                char place[256];
                standin_name_place(place, sizeof place);
                standin_report("%s:%d: %s: thread %d is at this barrier, thread %d at that of line %d", file,
                               line, place, me, t, other->line);
                standin_give_up();
            }
            other->state = READY;
            standin_set_ready(t, true);
        }
        m.n_at_barrier = 0;
        m.warp_cursor = 0;
    }
    standin_leave();
}

void standin_part_meet(int number, int n_threads, const char *file, int line) {
    const int me = m.current;
    standin_thread *const f = &m.threads[(size_t)me];
    char place[256];
    standin_name_place(place, sizeof place);
    standin_counted.meetings++;
    if (number < 1 || number >= PARTS || n_threads < WARP || n_threads % WARP != 0 ||
        n_threads > m.n_threads) {
        standin_report("%s:%d: %s, thread %d: barrier %d for %d threads", file, line, place, me, number,
                       n_threads);
        standin_give_up();
    }
    f->what = "ptx_part_sync", f->file = file, f->line = line;
    f->mask = (unsigned)number << 16 | (unsigned)n_threads;
    f->state = AT_PART;
    standin_set_ready(me, false);
    if (++m.n_at_part[number] == n_threads) {
        for (int t = 0; t < m.n_threads; t++) {
            standin_thread *const other = &m.threads[(size_t)t];
            if (other->state != AT_PART || (other->mask >> 16) != (unsigned)number)
                continue;
            if (other->mask != f->mask || other->line != line || other->file != file) {
                standin_report("%s:%d: %s: thread %d is at barrier %d, thread %d at that of line %d", file,
                               line, place, me, number, t, other->line);
                standin_give_up();
            }
            other->state = READY;
            standin_set_ready(t, true);
        }
        m.n_at_part[number] = 0;
        m.warp_cursor = 0;
    }
    standin_leave();
}

static void refuse_mask(const char *what, unsigned mask, unsigned wrong, const char *why, const char *file,
                        int line) {
    char place[256];
    standin_name_place(place, sizeof place);
    standin_report("%s:%d: %s: %s with mask %08x, thread %d: lanes %08x %s", file, line, place, what, mask,
                   m.current, wrong, why);
    standin_give_up();
}

void standin_warp_meet(const char *what, unsigned mask, const void *in, void *out, int extra, size_t n_bytes,
                       standin_combine *combine, const char *file, int line) {
    const int me = m.current, lane = me % WARP, base = me - lane;
    standin_warp *const w = &m.warps[(size_t)(me / WARP)];
    standin_thread *const f = &m.threads[(size_t)me];
    standin_counted.meetings++;
    if ((mask >> lane & 1) == 0)
        refuse_mask(what, mask, 1u << lane, "call it without being named", file, line);
    if ((w->left & mask) != 0)
        refuse_mask(what, mask, w->left & mask, "are named but have left the kernel", file, line);
    f->what = what, f->file = file, f->line = line, f->mask = mask;
    f->in = in, f->out = out, f->extra = extra;
    f->state = AT_MEETING;
    standin_set_ready(me, false);
    w->waiting |= 1u << lane;
    if ((w->waiting & mask) == mask) {
        const void *ins[WARP];
        void *outs[WARP];
        int extras[WARP];
        if (mask != 0xffffffffu)
            for (int l = 0; l < WARP; l++)
                ins[l] = nullptr, outs[l] = nullptr, extras[l] = 0;
        for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
            const int l = __builtin_ctz(rest);
            const standin_thread &other = m.threads[(size_t)(base + l)];
            /* One place in the source is one text in memory. */
            if (other.mask != mask || other.line != line || other.what != what || other.file != file)
                refuse_mask(what, mask, 1u << l, "wait elsewhere or with another mask", file, line);
            ins[l] = other.in, outs[l] = other.out, extras[l] = other.extra;
            if (combine == standin_combine_shuffle && (mask >> (extras[l] & 31) & 1) == 0)
                refuse_mask(what, mask, 1u << l, "read from a lane that is not named", file, line);
        }
        if (combine != nullptr)
            combine(ins, outs, extras, n_bytes);
        for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
            const int l = __builtin_ctz(rest);
            m.threads[(size_t)(base + l)].state = READY;
            standin_set_ready(base + l, true);
        }
        w->waiting &= ~mask;
    }
    standin_leave();
}

void standin_combine_shuffle(const void *const in[32], void *const out[32], const int from[32],
                             size_t n_bytes) {
    for (int lane = 0; lane < WARP; lane++)
        if (out[lane] != nullptr)
            memcpy(out[lane], in[from[lane] & 31], n_bytes);
}

void standin_combine_ballot(const void *const in[32], void *const out[32], const int[32], size_t) {
    unsigned votes = 0;
    for (int lane = 0; lane < WARP; lane++)
        if (in[lane] != nullptr && *static_cast<const int *>(in[lane]) != 0)
            votes |= 1u << lane;
    for (int lane = 0; lane < WARP; lane++)
        if (out[lane] != nullptr)
            *static_cast<unsigned *>(out[lane]) = votes;
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
