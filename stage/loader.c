#include "stage/loader.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/clock.h"
#include "planner/file.h"
#include "planner/memory.h"

/* One piece of one tensor, at most CDP_LOAD_STAGING_BYTES (CDP_LOAD_SLOT_BYTES for a GPU) in the file and in
 * its place. */
typedef struct block {
    const cdp_tensor_entry *entry;
    uint64_t offset; /* in the file */
    size_t n;        /* values */
    void *to;
    cdp_dtype to_dtype;
} block;

enum { LANES = 2 }; /* pinned slots of a reader: it fills one while the other is on its way to the GPU */

/* A reader thread and the memory it fills. */
typedef struct reader {
    cdp_loader *loader;
    pthread_t thread;
    int number;
    int next_lane;       /* of its own LANES */
    unsigned char *file; /* staging of values that change form */
    void *pinned[LANES]; /* NULL where the device's memory is the host's */
} reader;

struct cdp_loader {
    cdp_device *device;
    const cdp_tensor_index *index;
    cdp_loader_options options;
    int *fds;
    block *blocks;
    size_t n_blocks, room;
    size_t block_bytes; /* of the largest block, in the file or in its place */
    uint64_t n_total;
    _Atomic uint64_t n_read;
    atomic_size_t next, n_finished;
    int64_t began_ns;
    _Atomic int64_t ended_ns; /* the last reader's end so far */
    atomic_bool is_stopping;
    reader *readers; /* (n_readers) */
    int n_started;
    pthread_mutex_t lock; /* guards the failure */
    cdp_status failed;
    char message[1024];
};

cdp_status cdp_loader_open(cdp_loader **out, cdp_device *device, const cdp_tensor_index *index,
                           const cdp_loader_options *options) {
    *out = NULL;
    if (options->n_readers * LANES > CDP_UPLOAD_LANES)
        return cdp_fail(CDP_INTERNAL, "%d readers, %d at most", options->n_readers, CDP_UPLOAD_LANES / LANES);
    cdp_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the loader");
    loader->device = device;
    loader->index = index;
    loader->options = *options;
    pthread_mutex_init(&loader->lock, NULL);
    loader->readers = calloc((size_t)options->n_readers, sizeof *loader->readers);
    loader->fds = calloc((size_t)index->n_files, sizeof *loader->fds);
    cdp_status st = CDP_OK;
    for (int i = 0; loader->fds != NULL && i < index->n_files; i++)
        loader->fds[i] = -1;
    if (loader->readers == NULL || loader->fds == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory for the loader");
        goto done;
    }
    for (int i = 0; i < index->n_files; i++) {
        uint64_t size = 0;
        CDP_TRY_GOTO(cdp_file_open(&loader->fds[i], &size, index->files[i].path), st, done);
        if (size != index->files[i].bytes) {
            st = cdp_fail(
                CDP_BAD_MODEL, "%s: changed while being read: %llu bytes, %llu when its header was read",
                index->files[i].path, (unsigned long long)size, (unsigned long long)index->files[i].bytes);
            goto done;
        }
        /* Every block is one large request. Read-ahead, which watches for a single reader, would cut them up:
         * a cold file came in at half of the disk's rate. What cannot take the hint reads as before. */
        posix_fadvise(loader->fds[i], 0, 0, POSIX_FADV_RANDOM);
    }
    *out = loader;
    return CDP_OK;
done:
    cdp_loader_close(loader);
    return st;
}

static cdp_status push(cdp_loader *loader, const block *b) {
    if (loader->n_blocks == loader->room) {
        const size_t room = loader->room == 0 ? 256 : 2 * loader->room;
        block *grown = realloc(loader->blocks, room * sizeof *grown);
        if (grown == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the list of blocks to load");
        loader->blocks = grown;
        loader->room = room;
    }
    loader->blocks[loader->n_blocks++] = *b;
    return CDP_OK;
}

cdp_status cdp_loader_add(cdp_loader *loader, const cdp_tensor_entry *entry, const cdp_tensor *to,
                          int first_row) {
    const size_t width = cdp_dtype_bytes(entry->dtype), to_width = cdp_dtype_bytes(to->dtype);
    const size_t n = entry->bytes / width, first = (size_t)first_row * (size_t)to->cols;
    if (first + n > (size_t)to->rows * (size_t)to->cols)
        return cdp_fail(CDP_INTERNAL, "tensor \"%s\" of %zu values does not fit at row %d of (%d, %d)",
                        entry->name, n, first_row, to->rows, to->cols);
    const size_t widest = width > to_width ? width : to_width;
    const size_t step =
        (cdp_device_is_host(loader->device) ? CDP_LOAD_STAGING_BYTES : CDP_LOAD_SLOT_BYTES) / widest;
    for (size_t at = 0; at < n; at += step) {
        const block b = {entry, entry->offset + at * width, n - at < step ? n - at : step,
                         (char *)to->data + (first + at) * to_width, to->dtype};
        CDP_TRY(push(loader, &b));
        if (b.n * widest > loader->block_bytes)
            loader->block_bytes = b.n * widest;
    }
    loader->n_total += entry->bytes;
    return CDP_OK;
}

static cdp_status check_values(const block *b, const void *values) {
    for (size_t i = 0; i < b->n; i++)
        if (!isfinite(cdp_load(values, b->to_dtype, i)))
            return cdp_fail(CDP_BAD_MODEL, "tensor \"%s\" holds a value that is not finite", b->entry->name);
    return CDP_OK;
}

/* Make the pages of fresh memory in one go: pread would fault once for each, which took a tenth of the
 * processor time up to the first token. A kernel before 5.14 refuses, and the faults come. */
static void make_pages(void *to, size_t n_bytes) {
#ifdef MADV_POPULATE_WRITE
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)to / page * page;
    madvise((void *)first, (uintptr_t)to + n_bytes - first, MADV_POPULATE_WRITE);
#else
    (void)to, (void)n_bytes;
#endif
}

/* The values of a block, in the dtype they are held in, at `to` in host memory. */
static cdp_status read_values(const reader *r, const block *b, void *to) {
    const cdp_loader *loader = r->loader;
    const bool is_direct = b->entry->dtype == b->to_dtype;
    if (cdp_device_is_host(loader->device))
        make_pages(to, b->n * cdp_dtype_bytes(b->to_dtype));
    CDP_TRY(cdp_file_read_at(loader->fds[b->entry->file], loader->index->files[b->entry->file].path,
                             is_direct ? to : r->file, b->n * cdp_dtype_bytes(b->entry->dtype), b->offset));
    for (size_t i = 0; !is_direct && i < b->n; i++)
        cdp_store(to, b->to_dtype, i, cdp_load(r->file, b->entry->dtype, i));
    return loader->options.checks_values ? check_values(b, to) : CDP_OK;
}

/* By way of the slot whose last copy is the longest ago. */
static cdp_status read_and_upload(reader *r, const block *b) {
    const int slot = r->next_lane, lane = r->number * LANES + slot;
    r->next_lane = (slot + 1) % LANES;
    CDP_TRY(cdp_device_uploaded(r->loader->device, lane));
    CDP_TRY(read_values(r, b, r->pinned[slot]));
    return cdp_device_upload(r->loader->device, lane, b->to, r->pinned[slot],
                             b->n * cdp_dtype_bytes(b->to_dtype));
}

static cdp_status read_block(reader *r, const block *b) {
    cdp_loader *loader = r->loader;
    if (cdp_device_is_host(loader->device))
        CDP_TRY(read_values(r, b, b->to));
    else
        CDP_TRY(read_and_upload(r, b));
    const uint64_t n_bytes = b->n * cdp_dtype_bytes(b->entry->dtype);
    if (atomic_fetch_add(&loader->n_read, n_bytes) + n_bytes > loader->options.cache_bytes) /* a hint */
        (void)posix_fadvise(loader->fds[b->entry->file], (off_t)b->offset, (off_t)n_bytes,
                            POSIX_FADV_DONTNEED);
    return loader->options.on_block == NULL ? CDP_OK : loader->options.on_block(loader->options.of);
}

/* The error text is a thread's own: keep the first for the main thread. */
static void keep_failure(cdp_loader *loader, cdp_status st) {
    pthread_mutex_lock(&loader->lock);
    if (loader->failed == CDP_OK) {
        loader->failed = st;
        snprintf(loader->message, sizeof loader->message, "%s", cdp_error_message());
    }
    pthread_mutex_unlock(&loader->lock);
    atomic_store(&loader->is_stopping, true);
}

/* Blocks until there are none; what is still on its way to the GPU is waited for before they count. */
static cdp_status read_blocks(reader *r) {
    cdp_loader *loader = r->loader;
    size_t n = 0;
    r->file = malloc(loader->block_bytes + 1);
    if (r->file == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a reader's staging buffer");
    while (!atomic_load(&loader->is_stopping)) {
        const size_t number = atomic_fetch_add(&loader->next, 1);
        if (number >= loader->n_blocks)
            break;
        CDP_TRY(read_block(r, &loader->blocks[number]));
        n++;
    }
    for (int i = 0; i < LANES; i++)
        CDP_TRY(cdp_device_uploaded(loader->device, r->number * LANES + i));
    atomic_store(&loader->ended_ns, cdp_now_ns());
    atomic_fetch_add(&loader->n_finished, n);
    return CDP_OK;
}

static void *reader_main(void *argument) {
    reader *r = argument;
    const cdp_status st = read_blocks(r);
    if (st != CDP_OK)
        keep_failure(r->loader, st);
    free(r->file);
    r->file = NULL;
    return NULL;
}

/* Pinned on the main thread: pinning is slow, and holds up other threads of the process. */
static cdp_status pin_slots(cdp_loader *loader) {
    for (int i = 0; i < loader->options.n_readers; i++) {
        loader->readers[i] = (reader){.loader = loader, .number = i};
        for (int slot = 0; slot < LANES && !cdp_device_is_host(loader->device); slot++)
            CDP_TRY(
                cdp_device_host_alloc(loader->device, &loader->readers[i].pinned[slot], loader->block_bytes));
    }
    return CDP_OK;
}

static int by_place(const void *a, const void *b) {
    const block *x = a, *y = b;
    if (x->entry->file != y->entry->file)
        return x->entry->file < y->entry->file ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Memory that a reader writes first lies near the core it runs on. */
static int start_reader(reader *r) {
    const cpu_set_t *cpus = r->loader->options.cpus;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (cpus != NULL)
        pthread_attr_setaffinity_np(&attr, sizeof *cpus, cpus);
    const int error = pthread_create(&r->thread, &attr, reader_main, r);
    pthread_attr_destroy(&attr);
    return error;
}

cdp_status cdp_loader_start(cdp_loader *loader) {
    loader->began_ns = cdp_now_ns();
    CDP_TRY(pin_slots(loader));
    qsort(loader->blocks, loader->n_blocks, sizeof *loader->blocks, by_place);
    for (int i = 0; i < loader->options.n_readers; i++) {
        reader *r = &loader->readers[i];
        const int error = start_reader(r);
        if (error != 0)
            return cdp_fail(CDP_SYSTEM, "reader thread %d cannot start: %s", i, strerror(error));
        loader->n_started++;
    }
    return CDP_OK;
}

cdp_status cdp_loader_poll(cdp_loader *loader, bool *is_done_out) {
    *is_done_out = atomic_load(&loader->n_finished) == loader->n_blocks;
    pthread_mutex_lock(&loader->lock);
    const cdp_status st = loader->failed;
    pthread_mutex_unlock(&loader->lock);
    return st == CDP_OK ? CDP_OK : cdp_fail(st, "%s", loader->message);
}

void cdp_loader_progress(const cdp_loader *loader, uint64_t *n_read_out, uint64_t *n_total_out) {
    *n_read_out = atomic_load(&loader->n_read);
    *n_total_out = loader->n_total;
}

double cdp_loader_seconds(const cdp_loader *loader) {
    const bool is_over = atomic_load(&loader->n_finished) == loader->n_blocks && loader->n_blocks > 0;
    return (double)((is_over ? atomic_load(&loader->ended_ns) : cdp_now_ns()) - loader->began_ns) * 1e-9;
}

void cdp_loader_close(cdp_loader *loader) {
    if (loader == NULL)
        return;
    atomic_store(&loader->is_stopping, true);
    for (int i = 0; i < loader->n_started; i++)
        pthread_join(loader->readers[i].thread, NULL);
    if (loader->n_started > 0)
        cdp_device_end_uploads(loader->device);
    for (int i = 0; loader->readers != NULL && i < loader->options.n_readers; i++)
        for (int slot = 0; slot < LANES; slot++)
            cdp_device_host_free(loader->device, loader->readers[i].pinned[slot]);
    for (int i = 0; loader->fds != NULL && i < loader->index->n_files; i++)
        if (loader->fds[i] >= 0)
            close(loader->fds[i]);
    pthread_mutex_destroy(&loader->lock);
    free(loader->blocks);
    free(loader->readers);
    free(loader->fds);
    free(loader);
}
