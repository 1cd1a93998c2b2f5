#include "launcher/streams.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/watchdog.h"
#include "kernels/log.h"

enum { POLL_MS = 20 };

cdp_status cdp_stream_await(int fd, cdp_status (*idle)(void *of), void *of) {
    struct pollfd in = {.fd = fd, .events = POLLIN};
    do { /* also before what is there already: a writer that never pauses is no reason to be silent */
        if (idle != NULL)
            CDP_TRY(idle(of));
    } while (poll(&in, 1, POLL_MS) <= 0);
    return CDP_OK;
}

static cdp_world *kept; /* stdout is the process's, too */

cdp_status cdp_stream_await_reader(int fd) {
    struct pollfd out = {.fd = fd, .events = POLLOUT};
    while (poll(&out, 1, POLL_MS) <= 0) {
        if (cdp_stop_wanted())
            return CDP_STOPPED;
        if (kept == NULL)
            continue;
        CDP_TRY(cdp_world_poll(kept));
        cdp_watchdog_progress(kept); /* work may be queued: it is not that which stands still */
    }
    return CDP_OK;
}

static cdp_status ended; /* what ended a wait for the reader of stdout */

/* False when the wait has to end; errno says why. */
static bool wait_for_reader(void) {
    const cdp_status st = kept != NULL ? cdp_stream_await_reader(STDOUT_FILENO) : CDP_OK;
    if (st != CDP_OK)
        ended = st;
    errno = st == CDP_STOPPED ? EINTR : EIO;
    return st == CDP_OK;
}

cdp_status cdp_stream_failed(const char *what) {
    const int error = errno != 0 ? errno : EIO;
    if (ended == CDP_STOPPED)
        return cdp_fail(ended, "stopped by a signal while nobody read %s", what);
    return ended != CDP_OK ? ended : cdp_fail(CDP_IO, "writing %s: %s", what, strerror(error));
}

/* Where a pipe can be written to at all it takes PIPE_BUF bytes at once. */
static ssize_t write_pieces(void *of, const char *bytes, size_t n) {
    size_t at = 0;
    (void)of;
    while (at < n && wait_for_reader()) {
        const size_t piece = n - at < PIPE_BUF ? n - at : PIPE_BUF;
        const ssize_t written = write(STDOUT_FILENO, bytes + at, piece);
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            break;
        at += written > 0 ? (size_t)written : 0;
    }
    return (ssize_t)at;
}

/* MPI is the main thread's; another waits in its write. */
static bool is_note_taken(void) {
    return gettid() != getpid() || cdp_stream_await_reader(STDERR_FILENO) == CDP_OK;
}

/* glibc's stdout is a variable: printf and all others follow. */
void cdp_stream_keep_stdout(cdp_world *world) {
    static FILE *pieces;
    kept = world;
    cdp_log_set_ready(world != NULL ? is_note_taken : NULL);
    if (pieces != NULL || world == NULL)
        return;
    pieces = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_pieces});
    if (pieces == NULL)
        return; /* as it was: writes block */
    if (isatty(STDOUT_FILENO))
        setvbuf(pieces, NULL, _IOLBF, 0);
    fflush(stdout);
    stdout = pieces;
}
