/* launcher/batch/disk.h - bytes that are to survive: written, synced, renamed, each with its own chance to
 * fail.
 *
 * The calls that can fail stand in a table, so that a test can fail the k-th of them for k = 1, 2, 3... and
 * see that nothing finished is lost. Every message names the file and strerror; CDP_IO.
 */
#pragma once

#include "kernels/status.h"
#include <stdbool.h>
#include <sys/types.h>

typedef struct cdp_disk {
    ssize_t (*write)(int fd, const void *bytes, size_t n);
    int (*sync)(int fd); /* data, and what is needed to read them back */
    int (*rename)(const char *from, const char *to);
    int (*truncate)(int fd, off_t n_bytes);
} cdp_disk;

/* The operating system's. */
extern const cdp_disk cdp_disk_real;

/* Some thread is in such a call: a run that stands still then is the disk's doing. Any thread. */
bool cdp_disk_is_busy(void);

/* All n bytes; a short write is followed by another until the error itself comes. A pipe that does not block
 * is waited for as streams.h says, with its statuses. */
cdp_status cdp_disk_write(const cdp_disk *disk, int fd, const char *path, const void *bytes, size_t n);

/* Blocks until the device has them. */
cdp_status cdp_disk_sync(const cdp_disk *disk, int fd, const char *path);

/* Sync the folder `path` lies in: a new name, or a changed one, is on disk only then. */
cdp_status cdp_disk_sync_folder(const cdp_disk *disk, const char *path);

cdp_status cdp_disk_rename(const cdp_disk *disk, const char *from, const char *to);

/* Put a text in the place of a file, all of it or nothing: PATH.tmp, sync, rename. is_durable: it is on disk
 * when this returns; else only never half. */
cdp_status cdp_disk_replace(const cdp_disk *disk, const char *path, const char *text, size_t n,
                            bool is_durable);
