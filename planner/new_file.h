/* planner/new_file.h - a file that its readers see whole, or not at all.
 *
 *     open    PATH.XXXXXX, beside PATH
 *     `to`    takes the bytes, by stdio
 *     end     all of them are there: PATH.XXXXXX becomes PATH        close: it is gone, and PATH as it was
 *
 * Messages name PATH and strerror; CDP_IO.
 */
#pragma once

#include "kernels/status.h"
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct cdp_new_file {
    FILE *to;              /* NULL: not open */
    const char *path;      /* not owned; as it was given */
    char target[PATH_MAX]; /* where it leads to */
    char temp[PATH_MAX + 8];
} cdp_new_file;

/* An existing `path` must be a regular file, or a link to one. The caller closes *out in every case; `path`
 * lives as long. */
cdp_status cdp_new_file_open(cdp_new_file *out, const char *path);

/* A write to `to` has failed: errno as the status. */
cdp_status cdp_new_file_failed(const cdp_new_file *file);

/* Put it in the place of what was there. is_durable: its bytes are on the disk before they have that name. */
cdp_status cdp_new_file_end(cdp_new_file *file, bool is_durable);

/* Drop what has not come to its end. A zeroed one is fine. */
void cdp_new_file_close(cdp_new_file *file);
