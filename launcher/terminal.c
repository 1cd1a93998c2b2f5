#include "launcher/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* "02:/dev/pts/3": the streams that are the terminal's, and its name. */
static const char variable[] = "CDPIPE_TTY";

static struct termios lent; /* the terminal's state, for the one process that lends it */
static bool has_lent;

void cdp_terminal_lend(void) {
    char name[256], value[272], streams[4] = "";
    if (ttyname_r(STDIN_FILENO, name, sizeof name) != 0 || tcgetattr(STDIN_FILENO, &lent) != 0)
        return;
    for (int fd = STDIN_FILENO, n = 0; fd <= STDERR_FILENO; fd++)
        if (isatty(fd))
            streams[n++] = (char)('0' + fd);
    snprintf(value, sizeof value, "%s:%s", streams, name);
    has_lent = setenv(variable, value, 1) == 0;
}

/* A process in the background that moves the foreground to itself is stopped, unless it does not listen. */
static bool become_foreground(int fd) {
    struct sigaction deaf = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGTTOU, &deaf, &before);
    const bool is_done = tcsetpgrp(fd, getpgrp()) == 0;
    sigaction(SIGTTOU, &before, NULL);
    return is_done;
}

void cdp_terminal_take_back(void) {
    if (!has_lent)
        return;
    become_foreground(STDIN_FILENO);
    tcsetattr(STDIN_FILENO, TCSANOW, &lent);
}

void cdp_terminal_take(void) {
    const char *value = getenv(variable), *rank = getenv("OMPI_COMM_WORLD_RANK");
    const char *name = value != NULL ? strchr(value, ':') : NULL;
    if (name == NULL || rank == NULL || strcmp(rank, "0") != 0)
        return;
    const int fd = open(name + 1, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return; /* the streams stay what mpirun made them */
    if (getpgrp() != getpid())
        setpgid(0, 0); /* Ctrl-C is for this rank, not for mpirun */
    if (become_foreground(fd))
        for (const char *stream = value; *stream != ':'; stream++)
            dup2(fd, *stream - '0');
    close(fd);
}
