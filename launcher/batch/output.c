#include "launcher/batch/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/clock.h"
#include "planner/file.h"

enum {
    QUICK_SYNC_NS = 2000000, /* below it a sync a record costs less than a step */
    GROUP_NS = 50000000,     /* else records wait so long for company */
    READ_BLOCK = 1 << 20,
};

static cdp_status failed(const char *path, cdp_status code) {
    char shown[CDP_SHOWN_PATH];
    const int error = errno != 0 ? errno : EIO;
    return cdp_fail(code, "%s: %s", cdp_escape(shown, sizeof shown, path, strlen(path)), strerror(error));
}

/* OUT.part cannot be made because its folder is not there: said of OUT, which the person named. */
static cdp_status no_folder(const char *path) {
    char shown[CDP_SHOWN_PATH];
    return cdp_fail(CDP_IO, "%s: its folder does not exist",
                    cdp_escape(shown, sizeof shown, path, strlen(path)));
}

static cdp_status begin(cdp_output *out, const cdp_disk *disk, const char *path) {
    *out = (cdp_output){.disk = disk, .fd = -1, .path = strdup(path)};
    if (out->path == NULL || asprintf(&out->part, "%s.part", path) < 0)
        return cdp_fail(CDP_SYSTEM, "no memory for a path");
    return CDP_OK;
}

/* Is OUT there, and of what kind? A dangling link is no file: opening it creates the target. */
static cdp_status find_whole(cdp_output *out, bool *is_there) {
    struct stat about;
    *is_there = false;
    errno = 0;
    if (stat(out->path, &about) != 0)
        return errno == ENOENT ? CDP_OK : failed(out->path, CDP_IO);
    if (S_ISDIR(about.st_mode)) {
        errno = EISDIR;
        return failed(out->path, CDP_IO);
    }
    *is_there = true;
    out->state = S_ISREG(about.st_mode) ? CDP_OUTPUT_WHOLE : CDP_OUTPUT_STREAM;
    return CDP_OK;
}

static cdp_status open_there(cdp_output *out) {
    if (out->state == CDP_OUTPUT_WHOLE && access(out->part, F_OK) == 0)
        return cdp_fail(CDP_BAD_DATA, "%s and %s are both there: move one of them away", out->path,
                        out->part);
    const int flags = out->state == CDP_OUTPUT_STREAM ? O_WRONLY | O_APPEND | O_NONBLOCK : O_RDONLY;
    errno = 0;
    out->fd = open(out->path, flags | O_CLOEXEC);
    if (out->fd >= 0)
        return CDP_OK;
    struct stat about;
    const int error = errno;
    const bool is_unread = error == ENXIO && stat(out->path, &about) == 0 && S_ISFIFO(about.st_mode);
    errno = error;
    return is_unread ? CDP_STOPPED : failed(out->path, CDP_IO);
}

/* The lock of the file that OUT.part names now: who comes late may get that of a file which has been renamed
 * meanwhile. *is_ours false: look again from the start. */
static cdp_status lock(cdp_output *out, bool *is_ours) {
    struct stat locked, named;
    *is_ours = false;
    errno = 0;
    if (flock(out->fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? CDP_STOPPED : failed(out->part, CDP_IO);
    *is_ours = fstat(out->fd, &locked) == 0 && stat(out->part, &named) == 0 &&
               locked.st_dev == named.st_dev && locked.st_ino == named.st_ino;
    return CDP_OK;
}

cdp_status cdp_output_open(cdp_output *out, const cdp_disk *disk, const char *path) {
    CDP_TRY(begin(out, disk, path));
    for (bool is_ours = false; !is_ours;) {
        bool is_there;
        if (out->fd >= 0)
            close(out->fd); /* with its lock */
        out->fd = -1;
        CDP_TRY(find_whole(out, &is_there));
        if (is_there)
            return open_there(out);
        errno = 0;
        out->fd = open(out->part, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (out->fd < 0)
            return errno == ENOENT ? no_folder(out->path) : failed(out->part, CDP_IO);
        CDP_TRY(lock(out, &is_ours));
    }
    out->state = CDP_OUTPUT_PART;
    return CDP_OK;
}

cdp_status cdp_output_look(cdp_output *out, const char *path, bool *is_held_out) {
    bool is_there;
    *is_held_out = false;
    CDP_TRY(begin(out, &cdp_disk_real, path));
    CDP_TRY(find_whole(out, &is_there));
    out->state = is_there ? out->state : CDP_OUTPUT_PART;
    errno = 0;
    out->fd = open(is_there ? out->path : out->part, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (out->fd < 0)
        return failed(out->path, CDP_NO_INPUT);
    if (out->state == CDP_OUTPUT_PART && flock(out->fd, LOCK_SH | LOCK_NB) != 0)
        *is_held_out = errno == EWOULDBLOCK;
    flock(out->fd, LOCK_UN);
    return CDP_OK;
}

/* The reading of an output: what is gathered of the line that is being read. */
typedef struct reading {
    char *text;
    size_t n, room;
    uint64_t number;
} reading;

static cdp_status take_bytes(cdp_output *out, reading *r, const char *bytes, size_t n,
                             cdp_on_record *on_record, void *of) {
    while (n > 0) {
        const char *newline = memchr(bytes, '\n', n);
        const size_t length = newline != NULL ? (size_t)(newline - bytes) : n;
        if (r->n + length + 1 > r->room) {
            const size_t room = 2 * (r->n + length) + 4096;
            char *grown = realloc(r->text, room);
            if (grown == NULL)
                return cdp_fail(CDP_SYSTEM, "no memory for a record of %zu bytes", room);
            r->text = grown;
            r->room = room;
        }
        memcpy(r->text + r->n, bytes, length);
        r->n += length;
        if (newline == NULL)
            return CDP_OK;
        r->text[r->n] = '\0';
        CDP_TRY(on_record(of, r->text, r->n, ++r->number));
        out->n_bytes += r->n + 1;
        r->n = 0;
        bytes += length + 1;
        n -= length + 1;
    }
    return CDP_OK;
}

cdp_status cdp_output_read(cdp_output *out, cdp_on_record *on_record, void *of, uint64_t *torn_out) {
    reading r = {0};
    uint64_t at = 0;
    char *block = malloc(READ_BLOCK);
    cdp_status st = block != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory to read the output");
    out->n_bytes = 0;
    while (st == CDP_OK) {
        errno = 0;
        const ssize_t n = pread(out->fd, block, READ_BLOCK, (off_t)at);
        if (n == 0)
            break;
        if (n < 0)
            st = errno == EINTR ? CDP_OK : failed(out->path, CDP_IO);
        else
            st = take_bytes(out, &r, block, (size_t)n, on_record, of);
        at += n > 0 ? (uint64_t)n : 0;
    }
    *torn_out = r.n;
    free(r.text);
    free(block);
    return st;
}

cdp_status cdp_output_cut(cdp_output *out) {
    errno = 0;
    if (out->disk->truncate(out->fd, (off_t)out->n_bytes) != 0)
        return failed(out->part, CDP_IO);
    return cdp_disk_sync(out->disk, out->fd, out->part);
}

static const char *name_of(const cdp_output *out) {
    return out->state == CDP_OUTPUT_PART ? out->part : out->path;
}

cdp_status cdp_output_add(cdp_output *out, const char *record, size_t n) {
    if (out->is_failed)
        return cdp_fail(CDP_IO, "%s: an earlier write failed", name_of(out));
    out->is_failed = true; /* until it is known to be well */
    CDP_TRY(cdp_disk_write(out->disk, out->fd, name_of(out), record, n));
    out->is_failed = false;
    out->n_added++;
    out->n_bytes += n;
    if (out->written_ns == 0)
        out->written_ns = cdp_now_ns();
    return cdp_output_sync(out, out->sync_ns < QUICK_SYNC_NS);
}

cdp_status cdp_output_sync(cdp_output *out, bool is_due_now) {
    if (out->written_ns == 0 || out->is_failed)
        return CDP_OK;
    const int64_t began = cdp_now_ns();
    if (!is_due_now && began - out->written_ns < GROUP_NS)
        return CDP_OK;
    out->is_failed = true; /* pages that could not be written may be lost without a second error */
    CDP_TRY(cdp_disk_sync(out->disk, out->fd, name_of(out)));
    out->is_failed = false;
    out->sync_ns = cdp_now_ns() - began;
    out->n_synced = out->n_added;
    out->written_ns = 0;
    return CDP_OK;
}

cdp_status cdp_output_complete(cdp_output *out) {
    if (out->state != CDP_OUTPUT_PART)
        return CDP_OK;
    CDP_TRY(cdp_disk_sync(out->disk, out->fd, out->part));
    CDP_TRY(cdp_disk_rename(out->disk, out->part, out->path));
    return cdp_disk_sync_folder(out->disk, out->path);
}

void cdp_output_close(cdp_output *out) {
    if (out->fd >= 0)
        close(out->fd);
    free(out->path);
    free(out->part);
    *out = (cdp_output){.fd = -1};
}
