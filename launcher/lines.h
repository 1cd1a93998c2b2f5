/* launcher/lines.h - lines that a person types, or that come down a pipe, without blocking the ring.
 *
 * On a terminal with line editing and history (libedit, where the build found it). While nobody types, `idle`
 * is called some fifty times a second: beats go on, signals are seen.
 */
#pragma once

#include "kernels/status.h"
#include <stdio.h>

typedef struct cdp_lines cdp_lines;

/* One editor of lines: the one of the build, or NULL. It reads `fd`, which does not block; `wait` says when a
 * byte can be read (false: stop). */
typedef struct cdp_line_editor {
    void *(*open)(int fd, bool (*wait)(void *of), void *of, const char *prompt);
    const char *(*next)(void *editor, size_t *n_out); /* with its newline; NULL: no line */
    void (*close)(void *editor);
} cdp_line_editor;
extern const cdp_line_editor *const cdp_line_editor_built;

/* Read standard input; `prompt` is shown on a terminal. The caller closes *out. There is one at a time. */
cdp_status cdp_lines_open(cdp_lines **out, const char *prompt, cdp_status (*idle)(void *of), void *of);
void cdp_lines_close(cdp_lines *lines); /* NULL is fine */
bool cdp_lines_is_terminal(const cdp_lines *lines);

/* The next line, without its newline, valid until the next call; NULL in *line_out at the end. On a terminal
 * Ctrl-C drops what is typed. CDP_STOPPED when a signal asks for a stop, or what `idle` returned. */
cdp_status cdp_lines_next(cdp_lines *lines, const char **line_out, size_t *n_out);

/* True once for Ctrl-C on a terminal since the last line came. */
bool cdp_lines_take_interrupt(cdp_lines *lines);
