/* launcher/template/machine.h - memory, limits and faults of one parsing or one rendering.
 *
 * All memory comes from an arena that is freed at once. A fault leaves by longjmp to the one setjmp in
 * template.c: nothing else is owned on the way, so the thirty kinds of recursive functions in between need no
 * status each, and none can be forgotten.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/template/template.h"
#include <setjmp.h>

enum {
    TPL_MAX_SOURCE = 1 << 20,  /* bytes of a template; real ones have up to 40 KB */
    TPL_MAX_ARENA = 256 << 20, /* bytes of one parsing or rendering */
    TPL_MAX_OUTPUT = 32 << 20, /* bytes of the result */
    TPL_MAX_STEPS = 20000000,  /* nodes visited, and 64 bytes moved count as one: a second or two */
    TPL_MAX_DEPTH = 1500,      /* nested evaluations: about 100 calls of macros */
    TPL_MAX_NESTING = 100,     /* of the source: brackets and blocks */
    TPL_MAX_RANGE = 100000,    /* numbers of range(), as in the reference */
    TPL_MAX_JSON_DEPTH = 200,  /* of a variable */
};

typedef struct tpl_machine {
    const char *name;      /* opens every message */
    const char *source;    /* for line and column; NULL: none are told */
    size_t n_source, at;   /* the place being looked at */
    cdp_status fault_code; /* of what goes wrong: the model's fault or the data's */
    jmp_buf out;
    struct tpl_block *blocks; /* the arena, newest first */
    size_t n_bytes;
    long steps;
    int depth;
    const cdp_clock *clock;
    struct tpl_builder *output;               /* where `{{ }}` goes now */
    struct tpl_scope *scope;                  /* the names seen now */
    const struct tpl_value *input;            /* what a filter of a block works on */
    const char *loop_name, *special_names[3]; /* interned: loop; varargs, kwargs, caller */
} tpl_machine;

/* n bytes, aligned for anything, zeroed. Never NULL. */
void *tpl_take(tpl_machine *m, size_t n);

/* Free the arena. */
void tpl_machine_close(tpl_machine *m);

/* End with "NAME: line L, column C: ...", or with the words alone. */
_Noreturn void tpl_fail(tpl_machine *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Count n steps. */
void tpl_step(tpl_machine *m, size_t n);

/* Around everything that calls itself, on the source or on a value. */
void tpl_enter(tpl_machine *m);
static inline void tpl_leave(tpl_machine *m) {
    m->depth--;
}
