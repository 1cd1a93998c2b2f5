#include "stage/loader.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "planner/file.h"
#include "planner/memory.h"

/* One piece of one tensor, at most CDP_LOAD_STAGING_BYTES in the file. */
typedef struct block {
    const cdp_tensor_entry *entry;
    uint64_t offset; /* in the file */
    size_t n;        /* values */
    void *to;
    cdp_dtype to_dtype;
} block;

struct cdp_loader {
    const cdp_tensor_index *index;
    cdp_loader_options options;
    int *fds;
    block *blocks;
    size_t n_blocks, room;
    uint64_t n_total;
    _Atomic uint64_t n_read;
    atomic_size_t next, n_finished;
    atomic_bool is_stopping;
    pthread_t *readers;
    int n_started;
    pthread_mutex_t lock; /* guards the failure */
    cdp_status failed;
    char message[1024];
};

cdp_status cdp_loader_open(cdp_loader **out, const cdp_tensor_index *index,
                           const cdp_loader_options *options) {
    *out = NULL;
    cdp_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the loader");
    loader->index = index;
    loader->options = *options;
    pthread_mutex_init(&loader->lock, NULL);
    loader->readers = calloc((size_t)options->n_readers, sizeof *loader->readers);
    loader->fds = calloc((size_t)index->n_files, sizeof *loader->fds);
    cdp_status st = CDP_OK;
    if (loader->readers == NULL || loader->fds == NULL) {
        st = cdp_fail(CDP_SYSTEM, "no memory for the loader");
        goto done;
    }
    for (int i = 0; i < index->n_files; i++)
        loader->fds[i] = -1;
    for (int i = 0; i < index->n_files; i++) {
        uint64_t size = 0;
        CDP_TRY_GOTO(cdp_file_open(&loader->fds[i], &size, index->files[i].path), st, done);
        if (size != index->files[i].bytes) {
            st = cdp_fail(
                CDP_BAD_MODEL, "%s: changed while being read: %llu bytes, %llu when its header was read",
                index->files[i].path, (unsigned long long)size, (unsigned long long)index->files[i].bytes);
            goto done;
        }
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
    const size_t step = CDP_LOAD_STAGING_BYTES / width;
    for (size_t at = 0; at < n; at += step) {
        const block b = {entry, entry->offset + at * width, n - at < step ? n - at : step,
                         (char *)to->data + (first + at) * to_width, to->dtype};
        CDP_TRY(push(loader, &b));
    }
    loader->n_total += entry->bytes;
    return CDP_OK;
}

static cdp_status check_values(const block *b) {
    for (size_t i = 0; i < b->n; i++)
        if (!isfinite(cdp_load(b->to, b->to_dtype, i)))
            return cdp_fail(CDP_BAD_MODEL, "tensor \"%s\" holds a value that is not finite", b->entry->name);
    return CDP_OK;
}

static cdp_status read_block(cdp_loader *loader, const block *b, unsigned char *staging) {
    const size_t n_bytes = b->n * cdp_dtype_bytes(b->entry->dtype);
    const bool is_direct = b->entry->dtype == b->to_dtype;
    CDP_TRY(cdp_file_read_at(loader->fds[b->entry->file], loader->index->files[b->entry->file].path,
                             is_direct ? b->to : staging, n_bytes, b->offset));
    for (size_t i = 0; !is_direct && i < b->n; i++)
        cdp_store(b->to, b->to_dtype, i, cdp_load(staging, b->entry->dtype, i));
    if (loader->options.checks_values)
        CDP_TRY(check_values(b));
    atomic_fetch_add(&loader->n_read, n_bytes);
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

static void *reader_main(void *argument) {
    cdp_loader *loader = argument;
    unsigned char *staging = malloc(CDP_LOAD_STAGING_BYTES);
    cdp_status st =
        staging == NULL ? cdp_fail(CDP_SYSTEM, "no memory for a reader's staging buffer") : CDP_OK;
    while (st == CDP_OK && !atomic_load(&loader->is_stopping)) {
        const size_t number = atomic_fetch_add(&loader->next, 1);
        if (number >= loader->n_blocks)
            break;
        st = read_block(loader, &loader->blocks[number], staging);
        if (st == CDP_OK)
            atomic_fetch_add(&loader->n_finished, 1);
    }
    if (st != CDP_OK)
        keep_failure(loader, st);
    free(staging);
    return NULL;
}

cdp_status cdp_loader_start(cdp_loader *loader) {
    for (int i = 0; i < loader->options.n_readers; i++) {
        const int error = pthread_create(&loader->readers[i], NULL, reader_main, loader);
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

void cdp_loader_close(cdp_loader *loader) {
    if (loader == NULL)
        return;
    atomic_store(&loader->is_stopping, true);
    for (int i = 0; i < loader->n_started; i++)
        pthread_join(loader->readers[i], NULL);
    for (int i = 0; loader->fds != NULL && i < loader->index->n_files; i++)
        if (loader->fds[i] >= 0)
            close(loader->fds[i]);
    pthread_mutex_destroy(&loader->lock);
    free(loader->blocks);
    free(loader->readers);
    free(loader->fds);
    free(loader);
}
