#include "planner/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/new_file.h"

cdp_status cdp_file_open(int *fd_out, uint64_t *size_out, const char *path) {
    char shown[CDP_SHOWN_PATH];
    *fd_out = -1;
    *size_out = 0;
    cdp_escape(shown, sizeof shown, path, strlen(path));
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) { /* a limit of this process is not the file's fault */
        const bool is_limit = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
        if (errno == ENXIO) /* a socket, or a device that is not there */
            return cdp_fail(CDP_NO_INPUT, "%s: not a regular file", shown);
        return cdp_fail(is_limit ? CDP_SYSTEM : CDP_NO_INPUT, "%s: %s", shown, strerror(errno));
    }
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return cdp_fail(CDP_NO_INPUT, "%s: not a regular file", shown);
    }
    *fd_out = fd;
    *size_out = (uint64_t)info.st_size;
    return CDP_OK;
}

cdp_status cdp_file_read_at(int fd, const char *path, void *out, size_t n, uint64_t offset) {
    char shown[CDP_SHOWN_PATH];
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fd, (char *)out + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            const char *reason = strerror(errno);
            const unsigned long long at = offset + done, left = n - done;
            cdp_escape(shown, sizeof shown, path, strlen(path));
            if (got < 0)
                return cdp_fail(CDP_IO, "%s: reading at byte %llu: %s", shown, at, reason);
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: changed while being read: it ends at byte %llu, expected %llu more", shown,
                            at, left);
        }
        done += (size_t)got;
    }
    return CDP_OK;
}

cdp_status cdp_file_read_text(char **text_out, size_t *n_out, const char *path, size_t max_bytes) {
    int fd;
    uint64_t size;
    *text_out = NULL;
    *n_out = 0;
    CDP_TRY(cdp_file_open(&fd, &size, path));
    cdp_status st = CDP_OK;
    char *text = NULL, shown[CDP_SHOWN_PATH];
    cdp_escape(shown, sizeof shown, path, strlen(path));
    if (size > max_bytes) {
        st = cdp_fail(CDP_BAD_MODEL, "%s: %llu bytes, at most %zu are read", shown, (unsigned long long)size,
                      max_bytes);
        goto done;
    }
    text = malloc(size + 1);
    if (text == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory to read %s", shown);
        goto done;
    }
    CDP_TRY_GOTO(cdp_file_read_at(fd, path, text, size, 0), st, done);
    text[size] = '\0';
    *text_out = text;
    *n_out = size;
    text = NULL;
done:
    free(text);
    close(fd);
    return st;
}

bool cdp_file_exists(const char *path) {
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool cdp_file_join(char *out, size_t out_size, const char *dir, const char *name) {
    const int n = snprintf(out, out_size, "%s/%s", dir, name);
    return n >= 0 && (size_t)n < out_size;
}

/* On the disk before it has its name. */
cdp_status cdp_file_replace(const char *path, const char *text) {
    cdp_new_file file;
    cdp_status st = cdp_new_file_open(&file, path);
    errno = 0;
    if (st == CDP_OK && (fputs(text, file.to) == EOF || fputc('\n', file.to) == EOF))
        st = cdp_new_file_failed(&file);
    if (st == CDP_OK)
        st = cdp_new_file_end(&file, /*is_durable=*/true);
    cdp_new_file_close(&file);
    return st;
}
