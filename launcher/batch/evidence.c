#include "launcher/batch/evidence.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { N_FATAL = sizeof fatal / sizeof fatal[0] };

/* A signal handler has no other way to know them; set once, before it is installed. */
static char journal[PATH_MAX];
static int own_rank;
static struct sigaction before[N_FATAL];

/* Text and numbers without stdio, which a signal handler must not touch. */
static size_t add_text(char *out, size_t at, const char *text) {
    const size_t n = strlen(text);
    memcpy(out + at, text, n);
    return at + n;
}

static size_t add_number(char *out, size_t at, unsigned number) {
    char digits[12];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (n > 0)
        out[at++] = digits[--n];
    return at;
}

void cdp_evidence_leave(const char *what, int number) {
    char line[96];
    if (journal[0] == '\0' || strlen(what) > 32)
        return;
    size_t n = add_text(line, 0, "crash ");
    n = add_number(line, n, (unsigned)own_rank);
    n = add_text(line, n, " ");
    n = add_text(line, n, what);
    n = add_text(line, n, " ");
    n = add_number(line, n, (unsigned)number);
    line[n++] = '\n';
    const int fd = open(journal, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd >= 0 && write(fd, line, n) == (ssize_t)n)
        close(fd);
}

static void on_fatal(int number) {
    cdp_evidence_leave("signal", number);
    for (int i = 0; i < N_FATAL; i++)
        if (fatal[i] == number)
            sigaction(number, &before[i], NULL);
    raise(number); /* delivered when this handler returns, to whoever was there before */
}

void cdp_evidence_arm(const char *output, int rank) {
    if (snprintf(journal, sizeof journal, "%s.attempts", output) >= (int)sizeof journal) {
        journal[0] = '\0';
        return;
    }
    own_rank = rank;
    for (int i = 0; i < N_FATAL; i++) {
        const struct sigaction action = {.sa_handler = on_fatal};
        sigaction(fatal[i], &action, &before[i]);
    }
}
