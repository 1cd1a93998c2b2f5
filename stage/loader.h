/* stage/loader.h - weights from file to device: only what this rank holds, in large blocks, by reader
 * threads.
 *
 *     open(index) -> add(entry, tensor, first_row) ... -> start -> poll, poll, ... done -> close
 *
 * On the CPU a block whose dtype is the file's is read straight into its final place; one that changes form
 * passes a staging buffer of the reader (CDP_LOAD_STAGING_BYTES each, counted in the plan). On a GPU every
 * block passes one of two pinned slots of its reader (as large as the largest block, CDP_LOAD_SLOT_BYTES at
 * most), which is filled while the other one is copied:
 *
 *     reader     [ pread slot 0 ][ pread slot 1 ][ pread slot 0 ] ...
 *     its lane                   [copy slot 0]   [copy slot 1]
 *
 * Blocks are read in the order of the files, one pread each. The main thread only polls. Pages of the files
 * stay in the system's cache, where the next start finds them, as long as there is room; beyond that they are
 * dropped behind the reader.
 */
#pragma once

#include <sched.h>

#include "kernels/ops.h"
#include "planner/tensor_index.h"

typedef struct cdp_loader cdp_loader;

typedef struct cdp_loader_options {
    int n_readers;
    uint64_t cache_bytes;             /* of the files that may stay in the page cache */
    bool checks_values;               /* --check-weights: a NaN or infinity is CDP_BAD_MODEL by tensor */
    cdp_status (*on_block)(void *of); /* after each block, on a reader thread: progress; may be NULL */
    void *of;
    const cpu_set_t *cpus; /* where the readers run; NULL: where this thread may */
} cdp_loader_options;

/* Device and index must outlive the loader. */
cdp_status cdp_loader_open(cdp_loader **out, cdp_device *device, const cdp_tensor_index *index,
                           const cdp_loader_options *options);

/* Fill rows [first_row, ...) of `to` with the whole tensor `entry`, converted to to->dtype. A tensor of one
 * dimension is one row. `to` must have room; nothing is read yet. */
cdp_status cdp_loader_add(cdp_loader *loader, const cdp_tensor_entry *entry, const cdp_tensor *to,
                          int first_row);

cdp_status cdp_loader_start(cdp_loader *loader);

/* *is_done_out true when everything has been read. A reader's failure comes back here, with its message. */
cdp_status cdp_loader_poll(cdp_loader *loader, bool *is_done_out);

/* Bytes of the files read so far, and in all. */
void cdp_loader_progress(const cdp_loader *loader, uint64_t *n_read_out, uint64_t *n_total_out);

/* Seconds from the start until everything was read, or until now. */
double cdp_loader_seconds(const cdp_loader *loader);

/* Ends the readers (after their present block). NULL is fine. */
void cdp_loader_close(cdp_loader *loader);
