#include "tests/kernels/tiles_trap.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

#include "kernels/cpu/tiles_twin.h"

static _Thread_local tiles_twin unit;
static atomic_long n_trapped;

/* A VEX instruction of the map 0F38, as the manual's chapter on the format has it. */
typedef struct decoded {
    int prefix; /* pp: 0 none, 2 F3, 3 F2 */
    int opcode, mod, reg, rm, vvvv;
    uintptr_t base, index, next; /* of the operand in memory: base with displacement, index times scale */
} decoded;

static uintptr_t general(const ucontext_t *at, int number) {
    static const int place[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return (uintptr_t)at->uc_mcontext.gregs[place[number]];
}

/* The operand in memory; `code` stands behind ModRM. Returns what follows. */
static const unsigned char *decode_memory(decoded *d, const ucontext_t *at, const unsigned char *code,
                                          int more_base, int more_index) {
    int base = d->rm;
    if (d->rm == 4) {
        const int sib = *code++, index = (sib >> 3 & 7) | more_index;
        base = sib & 7;
        d->index = index == 4 ? 0 : general(at, index) << (sib >> 6);
    }
    const bool is_bare = d->mod == 0 && base == 5; /* four bytes of displacement and no base, or RIP */
    int32_t far = 0;
    if (d->mod == 1)
        far = (int8_t)*code++;
    if (d->mod == 2 || is_bare) {
        memcpy(&far, code, sizeof far);
        code += sizeof far;
    }
    d->base = (uintptr_t)(intptr_t)far;
    d->base += !is_bare ? general(at, base | more_base) : d->rm == 5 ? (uintptr_t)code : 0;
    return code;
}

static bool decode(decoded *d, const ucontext_t *at) {
    const unsigned char *code = (const unsigned char *)at->uc_mcontext.gregs[REG_RIP];
    *d = (decoded){0};
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x84) != 0) /* VEX.128.0F38.W0 */
        return false;
    d->prefix = code[2] & 3;
    d->vvvv = ~code[2] >> 3 & 15;
    d->opcode = code[3];
    d->mod = code[4] >> 6;
    d->reg = code[4] >> 3 & 7;
    d->rm = code[4] & 7;
    const int more_base = (code[1] & 0x20) != 0 ? 0 : 8, more_index = (code[1] & 0x40) != 0 ? 0 : 8;
    code += 5;
    if (d->mod != 3)
        code = decode_memory(d, at, code, more_base, more_index);
    d->next = (uintptr_t)code;
    return true;
}

static bool execute(const decoded *d) {
    const bool in_memory = d->mod != 3;
    if (d->opcode == 0x49 && d->prefix == 0 && in_memory)
        twin_configure(&unit, (const void *)(d->base + d->index));
    else if (d->opcode == 0x49 && d->prefix == 0)
        twin_release(&unit);
    else if (d->opcode == 0x49 && d->prefix == 3 && !in_memory)
        twin_zero(&unit, d->reg);
    else if (d->opcode == 0x4B && d->prefix == 3 && in_memory && d->rm == 4)
        twin_load(&unit, d->reg, (const void *)d->base, d->index);
    else if (d->opcode == 0x4B && d->prefix == 2 && in_memory && d->rm == 4)
        twin_store(&unit, d->reg, (void *)d->base, d->index);
    else if (d->opcode == 0x5C && d->prefix == 2 && !in_memory)
        twin_dot(&unit, d->reg, d->rm, d->vvvv);
    else
        return false;
    return true;
}

static void on_illegal(int number, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    decoded d;
    (void)info;
    if (!decode(&d, at) || !execute(&d)) {
        signal(number, SIG_DFL); /* the same instruction once more, and the end */
        return;
    }
    at->uc_mcontext.gregs[REG_RIP] = (greg_t)d.next;
    atomic_fetch_add(&n_trapped, 1);
}

void test_tiles_trap(void) {
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGILL, &action, NULL) != 0)
        abort();
}

long test_tiles_trapped(void) {
    return atomic_load(&n_trapped);
}
