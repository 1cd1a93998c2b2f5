#include "planner/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/file.h"

static cdp_status fail(const cdp_new_file *file, const char *why) {
    char shown[CDP_SHOWN_PATH];
    return cdp_fail(CDP_IO, "%s: %s", cdp_escape(shown, sizeof shown, file->path, strlen(file->path)), why);
}

cdp_status cdp_new_file_failed(const cdp_new_file *file) {
    return fail(file, strerror(errno != 0 ? errno : EIO));
}

cdp_status cdp_new_file_open(cdp_new_file *out, const char *path) {
    struct stat old;
    *out = (cdp_new_file){.path = path};
    if (strlen(path) >= sizeof out->target)
        return fail(out, "the path is too long");
    if (stat(path, &old) == 0 && !S_ISREG(old.st_mode)) /* a rename would put a file in a device's place */
        return fail(out, "not a regular file");
    if (realpath(path, out->target) == NULL) /* else a link stays one */
        strcpy(out->target, path);
    snprintf(out->temp, sizeof out->temp, "%s.XXXXXX", out->target);
    const int fd = mkostemp(out->temp, O_CLOEXEC);
    if (fd < 0) {
        out->temp[0] = '\0';
        return cdp_new_file_failed(out);
    }
    out->to = fdopen(fd, "wb");
    if (out->to != NULL)
        return CDP_OK;
    close(fd);
    return cdp_new_file_failed(out);
}

cdp_status cdp_new_file_end(cdp_new_file *file, bool is_durable) {
    errno = 0;
    const int fd = fileno(file->to);
    const bool is_bad = fflush(file->to) != 0 || ferror(file->to) != 0 ||
                        fchmod(fd, 0644) != 0 || /* mkostemp made it 0600 */
                        (is_durable && fsync(fd) != 0);
    const cdp_status st = is_bad ? cdp_new_file_failed(file) : CDP_OK;
    const int closed = fclose(file->to);
    file->to = NULL;
    if (st != CDP_OK)
        return st;
    if (closed != 0 || rename(file->temp, file->target) != 0)
        return cdp_new_file_failed(file);
    file->temp[0] = '\0';
    return CDP_OK;
}

void cdp_new_file_close(cdp_new_file *file) {
    if (file->to != NULL)
        fclose(file->to);
    if (file->temp[0] != '\0')
        unlink(file->temp);
    *file = (cdp_new_file){.to = NULL};
}
