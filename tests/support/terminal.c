#include "tests/support/terminal.h"

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/data.h"
#include "tests/support/spawn.h"

static void become(const char *const *words) {
    char lsan[4200];
    snprintf(lsan, sizeof lsan, "LSAN_OPTIONS=print_suppressions=0:suppressions=%s",
             test_path("tests/support/lsan.supp"));
    putenv(lsan);
    setenv("TERM", "vt100", 1);
    setenv("TMPDIR", test_temp_dir(), 1);
    execv(words[0], (char *const *)words);
    _exit(127);
}

test_terminal *test_terminal_open(const char *const *words) {
    test_terminal *t = calloc(1, sizeof *t);
    const struct winsize size = {.ws_row = 40, .ws_col = 200};
    if (t == NULL || (t->screen = calloc(1, 1)) == NULL)
        abort();
    t->pid = forkpty(&t->fd, NULL, NULL, &size);
    if (t->pid < 0)
        abort();
    if (t->pid == 0)
        become(words);
    tcgetattr(t->fd, &t->at_start);
    return t;
}

/* What is there to be read, waiting at most so long for it. False at the end. */
static bool read_screen(test_terminal *t, int wait_ms) {
    struct pollfd in = {.fd = t->fd, .events = POLLIN};
    char bytes[4096];
    if (poll(&in, 1, wait_ms) <= 0)
        return true;
    const ssize_t n = read(t->fd, bytes, sizeof bytes);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    t->screen = realloc(t->screen, t->n + (size_t)n + 1);
    if (t->screen == NULL)
        abort();
    memcpy(t->screen + t->n, bytes, (size_t)n);
    t->n += (size_t)n;
    t->screen[t->n] = '\0';
    return true;
}

bool test_terminal_sees(test_terminal *t, const char *text, double wait_s) {
    const double until = test_now_s() + wait_s;
    do {
        const char *found = memmem(t->screen + t->n_seen, t->n - t->n_seen, text, strlen(text));
        if (found != NULL) {
            t->n_seen = (size_t)(found - t->screen) + strlen(text);
            return true;
        }
    } while (read_screen(t, 20) && test_now_s() < until);
    fprintf(stderr, "never saw \"%s\" at the end of: ", text);
    fwrite(t->screen, 1, t->n, stderr); /* with the NUL bytes that pad a vt100's */
    return false;
}

bool test_terminal_prompts(test_terminal *t, const char *text, double wait_s) {
    const double until = test_now_s() + wait_s;
    struct termios now;
    if (!test_terminal_sees(t, text, wait_s))
        return false;
    while (tcgetattr(t->fd, &now) == 0 && test_now_s() < until) {
        if ((now.c_lflag & (ICANON | IEXTEN)) == 0)
            return true;
        read_screen(t, 1);
    }
    return false;
}

void test_terminal_type(test_terminal *t, const char *keys) {
    for (size_t n = strlen(keys); n > 0;) {
        const ssize_t written = write(t->fd, keys, n);
        if (written < 0 && errno != EINTR)
            abort();
        keys += written > 0 ? written : 0;
        n -= written > 0 ? (size_t)written : 0;
    }
}

int test_terminal_close(test_terminal *t, double wait_s, bool *is_restored_out) {
    const double until = test_now_s() + wait_s;
    struct termios now;
    int status = 0;
    pid_t ended = 0;
    while ((ended = waitpid(t->pid, &status, WNOHANG)) == 0 && test_now_s() < until)
        read_screen(t, 20);
    if (is_restored_out != NULL)
        *is_restored_out = tcgetattr(t->fd, &now) == 0 && now.c_lflag == t->at_start.c_lflag &&
                           now.c_iflag == t->at_start.c_iflag && now.c_oflag == t->at_start.c_oflag;
    if (ended == 0) {
        kill(-t->pid, SIGKILL);
        waitpid(t->pid, &status, 0);
    }
    close(t->fd);
    free(t->screen);
    free(t);
    return ended > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
