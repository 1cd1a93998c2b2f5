#include "launcher/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/world.h"

enum { POLL_MS = 20, MAX_LINE = 16 << 20 };

struct cdp_lines {
    cdp_status (*idle)(void *of);
    void *of;
    const char *prompt;
    cdp_status st; /* what ended a wait */
    int fd;
    bool is_terminal, is_at_end;
    void *editor;
    char *data; /* bytes read; the line handed out is its beginning */
    size_t n, room, n_given;
};

static volatile sig_atomic_t interrupts, has_hung_up; /* signals reach a process, not an object */

static void on_interrupt(int number) {
    (void)number;
    interrupts = 1;
}
static void on_hangup(int number) {
    (void)number;
    has_hung_up = 1;
}

/* Ctrl-C is ours now; Ctrl-Z would stop one rank of a ring; a terminal that goes away is the end. */
static void take_signals(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = on_hangup;
    sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGTSTP, &action, NULL);
}

/* Until a byte can be read; false when the wait has to end. */
static bool wait_for_input(void *of) {
    cdp_lines *l = of;
    for (;;) {
        struct pollfd in = {.fd = l->fd, .events = POLLIN};
        if (cdp_stop_wanted())
            l->st = cdp_fail(CDP_STOPPED, "stopped by a signal");
        if (l->st != CDP_OK || has_hung_up || (l->is_terminal && interrupts))
            return false;
        if (poll(&in, 1, POLL_MS) > 0)
            return true;
        l->st = l->idle(l->of);
    }
}

/* The terminal once more, for a reader that must not block: Ctrl-C takes back what is not read yet, also
 * between our wait and our read. The file description of stdin is the shell's, too, and stays as it is. */
static int open_unblocked(void) {
    char name[256];
    const int fd = ttyname_r(STDIN_FILENO, name, sizeof name) == 0
                       ? open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
                       : -1;
    return fd >= 0 ? fd : STDIN_FILENO;
}

cdp_status cdp_lines_open(cdp_lines **out, const char *prompt, cdp_status (*idle)(void *of), void *of) {
    *out = NULL;
    cdp_lines *l = calloc(1, sizeof *l);
    if (l == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory to read lines");
    *l = (cdp_lines){.fd = STDIN_FILENO, .idle = idle, .of = of, .prompt = prompt};
    l->is_terminal = isatty(STDIN_FILENO) != 0;
    if (l->is_terminal) {
        take_signals();
        l->fd = open_unblocked();
        if (cdp_line_editor_built != NULL)
            l->editor = cdp_line_editor_built->open(l->fd, wait_for_input, l, prompt);
    }
    *out = l;
    return CDP_OK;
}

void cdp_lines_close(cdp_lines *l) {
    if (l == NULL)
        return;
    if (l->editor != NULL)
        cdp_line_editor_built->close(l->editor);
    if (l->fd != STDIN_FILENO)
        close(l->fd);
    free(l->data);
    free(l);
}

bool cdp_lines_is_terminal(const cdp_lines *l) {
    return l->is_terminal;
}

bool cdp_lines_take_interrupt(cdp_lines *l) {
    const bool was = l->is_terminal && interrupts != 0;
    interrupts = 0;
    return was;
}

static cdp_status read_more(cdp_lines *l) {
    if (l->n + 4097 > l->room) {
        const size_t room = 2 * l->room + 8192;
        char *more = room > MAX_LINE ? NULL : realloc(l->data, room);
        if (more == NULL)
            return cdp_fail(CDP_BAD_DATA, "a line of more than %d bytes", MAX_LINE);
        l->data = more;
        l->room = room;
    }
    const ssize_t n = read(l->fd, l->data + l->n, 4096);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return cdp_fail(CDP_NO_INPUT, "standard input: %s", strerror(errno));
    l->is_at_end = n == 0;
    l->n += n > 0 ? (size_t)n : 0;
    return CDP_OK;
}

/* A line without an editor; at the end what is left without a newline is one too. */
static cdp_status next_plain(cdp_lines *l, const char **line_out, size_t *n_out) {
    if (l->n_given > 0)
        memmove(l->data, l->data + l->n_given, l->n - l->n_given);
    l->n -= l->n_given;
    l->n_given = 0;
    if (l->is_terminal) {
        fputs(l->prompt, stdout);
        fflush(stdout);
    }
    for (;;) {
        char *end = l->n > 0 ? memchr(l->data, '\n', l->n) : NULL;
        if (end != NULL || (l->is_at_end && l->n > 0)) {
            *n_out = end != NULL ? (size_t)(end - l->data) : l->n;
            l->n_given = *n_out + (end != NULL);
            *line_out = l->data;
            l->data[*n_out] = '\0';
            return CDP_OK;
        }
        if (l->is_at_end || !wait_for_input(l))
            return l->st;
        CDP_TRY(read_more(l));
    }
}

static cdp_status next_edited(cdp_lines *l, const char **line_out, size_t *n_out) {
    const char *line = cdp_line_editor_built->next(l->editor, n_out);
    if (line == NULL)
        return l->st;
    *n_out -= *n_out > 0 && line[*n_out - 1] == '\n';
    char *copy = realloc(l->data, *n_out + 1);
    if (copy == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a line");
    memcpy(copy, line, *n_out);
    copy[*n_out] = '\0';
    l->data = copy;
    *line_out = copy;
    return CDP_OK;
}

cdp_status cdp_lines_next(cdp_lines *l, const char **line_out, size_t *n_out) {
    interrupts = 0;
    for (;;) {
        *line_out = NULL;
        *n_out = 0;
        const cdp_status st =
            l->editor != NULL ? next_edited(l, line_out, n_out) : next_plain(l, line_out, n_out);
        if (st != CDP_OK || *line_out != NULL || !cdp_lines_take_interrupt(l))
            return st;
        l->n = l->n_given = 0; /* Ctrl-C: what was typed is gone */
        fputs("\n", stdout);
    }
}
