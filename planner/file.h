/* planner/file.h - opening and reading files that strangers wrote.
 *
 * Regular files only (a FIFO or /dev/zero as a model must not hang a loader), read by pread and never mapped
 * (a file cut short under a map is SIGBUS). Messages name the file and strerror.
 */
#pragma once

#include "kernels/status.h"
#include <stddef.h>
#include <stdint.h>

enum { CDP_SHOWN_PATH = 512 }; /* room for a path in a message, escaped and cut */

/* Open `path` for reading; *size_out is its size in bytes. The caller closes *fd_out. CDP_NO_INPUT when it is
 * missing, unreadable or not a regular file. */
cdp_status cdp_file_open(int *fd_out, uint64_t *size_out, const char *path);

/* Read exactly n bytes at `offset`. CDP_IO on EIO, CDP_BAD_MODEL "changed while being read" on a short file.
 */
cdp_status cdp_file_read_at(int fd, const char *path, void *out, size_t n, uint64_t offset);

/* The whole file as a NUL-terminated text; the caller frees *text_out. A file above max_bytes is refused
 * (CDP_BAD_MODEL) before anything is read. */
cdp_status cdp_file_read_text(char **text_out, size_t *n_out, const char *path, size_t max_bytes);

/* True if `path` is there (any kind of file). A symbolic link is there even when its target is gone: opening
 * it says so, which is better than passing over half a download. */
bool cdp_file_exists(const char *path);

/* "dir/name" into out; false when it does not fit. */
bool cdp_file_join(char *out, size_t out_size, const char *dir, const char *name);

/* Write `text` and a newline to `path` by temporary file and rename: a reader sees the old file or the new
 * one, whole. An existing `path` must be a regular file. CDP_IO. */
cdp_status cdp_file_replace(const char *path, const char *text);
