#include "launcher/template/machine.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tpl_block {
    struct tpl_block *next;
    size_t n, room;
    alignas(max_align_t) char data[];
} tpl_block;

enum { BLOCK_BYTES = 64 << 10 };

void *tpl_take(tpl_machine *m, size_t n) {
    n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    tpl_block *block = m->blocks;
    if (block == NULL || block->room - block->n < n) {
        const size_t room = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        if (n > TPL_MAX_ARENA || m->n_bytes + room > TPL_MAX_ARENA)
            tpl_fail(m, "the template needs more than %d MiB of memory", TPL_MAX_ARENA >> 20);
        block = calloc(1, sizeof *block + room);
        if (block == NULL) {
            m->fault_code = CDP_SYSTEM;
            tpl_fail(m, "no memory for the template");
        }
        *block = (tpl_block){.next = m->blocks, .room = room};
        m->blocks = block;
        m->n_bytes += room;
    }
    void *taken = block->data + block->n;
    block->n += n;
    return taken;
}

void tpl_machine_close(tpl_machine *m) {
    while (m->blocks != NULL) {
        tpl_block *next = m->blocks->next;
        free(m->blocks);
        m->blocks = next;
    }
}

/* Line and column, in characters, of a byte of the source; both count from 1. */
static void find_place(const tpl_machine *m, int *line_out, int *column_out) {
    int line = 1, column = 1;
    for (size_t i = 0; i < m->at && i < m->n_source; i++) {
        if (m->source[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)m->source[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    *line_out = line;
    *column_out = column;
}

void tpl_fail(tpl_machine *m, const char *format, ...) {
    char words[512], shown[640];
    int line, column;
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    cdp_escape(shown, sizeof shown, words, strlen(words));
    find_place(m, &line, &column);
    if (m->source != NULL)
        cdp_fail(m->fault_code, "%s: line %d, column %d: %s", m->name, line, column, shown);
    else
        cdp_fail(m->fault_code, "%s", shown);
    longjmp(m->out, 1);
}

void tpl_step(tpl_machine *m, size_t n) {
    if (n >= TPL_MAX_STEPS || (m->steps += (long)n) > TPL_MAX_STEPS)
        tpl_fail(m, "the template runs for more than %d steps", TPL_MAX_STEPS);
}

void tpl_enter(tpl_machine *m) {
    tpl_step(m, 1);
    if (++m->depth > TPL_MAX_DEPTH)
        tpl_fail(m, "nested too deeply (%d levels)", TPL_MAX_DEPTH);
}
