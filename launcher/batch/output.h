/* launcher/batch/output.h - the records of a job: one line each, on disk once, whatever happens.
 *
 *     OUT.part --complete--> OUT          while it runs; when every line has its record
 *
 *     open      lock OUT.part (flock), or learn that OUT is there already, or that OUT is no regular file
 *     read      the records that are there; a torn last one is cut off
 *     add       one write a record; synced at once where syncing is quick, else in groups of 50 ms
 *     complete  sync, rename, sync the folder
 *
 * A record counts as written only when it is synced: n_synced. Rank 0 alone writes.
 */
#pragma once

#include "launcher/batch/disk.h"
#include <stdint.h>

typedef enum cdp_output_state {
    CDP_OUTPUT_PART,   /* OUT.part is ours */
    CDP_OUTPUT_WHOLE,  /* OUT is there, and no OUT.part: read only */
    CDP_OUTPUT_STREAM, /* OUT is a pipe or a device: written as it is, nothing to resume from */
} cdp_output_state;

typedef struct cdp_output {
    const cdp_disk *disk;
    char *path, *part; /* OUT and OUT.part */
    int fd;
    cdp_output_state state;
    uint64_t n_bytes;           /* of the records that are there */
    uint64_t n_added, n_synced; /* records, in this run */
    int64_t written_ns;         /* the oldest record that is not synced; 0: none */
    int64_t sync_ns;            /* how long the last sync took */
    bool is_failed;             /* a write or sync has failed: nothing is written any more */
} cdp_output;

/* Take the lock. CDP_STOPPED without a message when another process has it, or (CDP_OUTPUT_STREAM) when OUT
 * is a pipe that nobody reads yet: close, wait, try again. CDP_IO for what cannot be opened, CDP_BAD_DATA
 * when OUT and OUT.part are both there. The caller closes *out in every case. */
cdp_status cdp_output_open(cdp_output *out, const cdp_disk *disk, const char *path);

/* Only look: CDP_NO_INPUT when there is neither OUT nor OUT.part; *is_held_out: somebody has the lock. */
cdp_status cdp_output_look(cdp_output *out, const char *path, bool *is_held_out);

/* Every whole record that is there, in order: n bytes at `record` without the newline, which start line
 * `number`. *torn_out bytes behind the last of them are no whole record. What on_record refuses ends the
 * reading. */
typedef cdp_status cdp_on_record(void *of, const char *record, size_t n, uint64_t number);
cdp_status cdp_output_read(cdp_output *output, cdp_on_record *on_record, void *of, uint64_t *torn_out);

/* Cut what is behind the last whole record. After cdp_output_read. */
cdp_status cdp_output_cut(cdp_output *output);

/* One record, n bytes that end in a newline. CDP_IO, or CDP_STOPPED without a message where a stop is wanted
 * while nobody reads the pipe; then nothing more is written. */
cdp_status cdp_output_add(cdp_output *output, const char *record, size_t n);

/* Sync what is due, or all of it where it must be. */
cdp_status cdp_output_sync(cdp_output *output, bool is_due_now);

/* All records are there: OUT.part becomes OUT, on disk when this returns. */
cdp_status cdp_output_complete(cdp_output *output);

/* Gives the lock back. Nothing is synced. */
void cdp_output_close(cdp_output *output);
