#include "launcher/batch/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/fault.h"
#include "launcher/streams.h"
#include "planner/file.h"

/* A fault on demand, as the call would tell it. */
static bool is_asked_to_fail(const char *point) {
    const cdp_status st = cdp_fault_pass(point);
    if (st == CDP_OK)
        return false;
    cdp_error_clear();
    errno = st == CDP_SYSTEM ? ENOMEM : EIO;
    return true;
}

/* The watchdog asks, and cannot be told otherwise. */
static atomic_int n_busy;

bool cdp_disk_is_busy(void) {
    return atomic_load(&n_busy) > 0;
}

static ssize_t real_write(int fd, const void *bytes, size_t n) {
    atomic_fetch_add(&n_busy, 1);
    const ssize_t written = is_asked_to_fail("write") ? -1 : write(fd, bytes, n);
    atomic_fetch_sub(&n_busy, 1);
    return written;
}

static int real_sync(int fd) {
    atomic_fetch_add(&n_busy, 1);
    const int rc = is_asked_to_fail("sync") ? -1 : fdatasync(fd);
    atomic_fetch_sub(&n_busy, 1);
    return rc;
}

const cdp_disk cdp_disk_real = {real_write, real_sync, rename, ftruncate};

static cdp_status failed(const char *path, const char *doing) {
    char shown[CDP_SHOWN_PATH];
    const int error = errno != 0 ? errno : EIO;
    return cdp_fail(CDP_IO, "%s: %s: %s", cdp_escape(shown, sizeof shown, path, strlen(path)), doing,
                    strerror(error));
}

cdp_status cdp_disk_write(const cdp_disk *disk, int fd, const char *path, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n > 0) {
        errno = 0;
        const ssize_t written = disk->write(fd, at, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EAGAIN) { /* a pipe that is full */
            CDP_TRY(cdp_stream_await_reader(fd));
            continue;
        }
        if (written <= 0)
            return failed(path, "writing");
        at += written;
        n -= (size_t)written;
    }
    return CDP_OK;
}

/* What cannot be synced (a pipe, /dev/null) has nothing to lose. */
static bool is_no_file(int error) {
    return error == EINVAL || error == EROFS || error == ENOTSUP;
}

cdp_status cdp_disk_sync(const cdp_disk *disk, int fd, const char *path) {
    errno = 0;
    return disk->sync(fd) == 0 || is_no_file(errno) ? CDP_OK : failed(path, "syncing");
}

cdp_status cdp_disk_sync_folder(const cdp_disk *disk, const char *path) {
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (n >= sizeof folder)
        return cdp_fail(CDP_IO, "the path of the output is longer than %d bytes", PATH_MAX);
    memcpy(folder, path, n);
    folder[n] = '\0';
    const int fd = open(n > 0 ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed(n > 0 ? folder : ".", "opening the folder");
    const cdp_status st = cdp_disk_sync(disk, fd, n > 0 ? folder : ".");
    close(fd);
    return st;
}

cdp_status cdp_disk_rename(const cdp_disk *disk, const char *from, const char *to) {
    errno = 0;
    return disk->rename(from, to) == 0 ? CDP_OK : failed(to, "renaming");
}

static cdp_status write_new(const cdp_disk *disk, const char *path, const char *text, size_t n,
                            bool is_durable) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return failed(path, "opening");
    cdp_status st = cdp_disk_write(disk, fd, path, text, n);
    if (st == CDP_OK && is_durable)
        st = cdp_disk_sync(disk, fd, path);
    errno = 0;
    if (close(fd) != 0 && st == CDP_OK)
        st = failed(path, "closing");
    return st;
}

cdp_status cdp_disk_replace(const cdp_disk *disk, const char *path, const char *text, size_t n,
                            bool is_durable) {
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.tmp", path) < 0)
        return cdp_fail(CDP_SYSTEM, "no memory for a path");
    cdp_status st = write_new(disk, temporary, text, n, is_durable);
    if (st == CDP_OK)
        st = cdp_disk_rename(disk, temporary, path);
    if (st != CDP_OK)
        unlink(temporary);
    free(temporary);
    if (st == CDP_OK && is_durable)
        st = cdp_disk_sync_folder(disk, path);
    return st;
}
