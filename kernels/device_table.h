/* kernels/device_table.h - what a kind of device fills in; kernels/device.c is the only caller.
 *
 *     cdp_device_alloc(device, ...) --> room in the slab, or table->alloc
 *     cdp_device_record(device)     --> table->record
 *
 * A kind embeds cdp_device as the first member of its own struct. The contracts are those of device.h; here
 * stands only what differs.
 */
#pragma once

#include "kernels/device.h"

typedef struct cdp_device_table {
    cdp_device_kind kind;
    bool is_host; /* device memory is host memory; a slab is then never made */
    void (*close)(cdp_device *device);
    /* n_bytes > 0. Adds to and takes from device->allocated. */
    cdp_status (*alloc)(cdp_device *device, void **out, uint64_t n_bytes);
    cdp_status (*alloc_unwritten)(cdp_device *device, void **out, uint64_t n_bytes); /* NULL: alloc */
    void (*free)(cdp_device *device, void *memory);
    cdp_status (*free_bytes)(cdp_device *device, uint64_t *out);
    cdp_status (*host_alloc)(cdp_device *device, void **out, uint64_t n_bytes);
    void (*host_free)(cdp_device *device, void *memory);
    /* n_bytes > 0 in all copies. */
    cdp_status (*copy_in)(cdp_device *device, void *to, const void *from_host, uint64_t n_bytes);
    cdp_status (*copy_out)(cdp_device *device, void *to_host, const void *from, uint64_t n_bytes);
    cdp_status (*copy)(cdp_device *device, void *to, const void *from, uint64_t n_bytes);
    cdp_event (*record)(cdp_device *device);
    bool (*reached)(cdp_device *device, cdp_event event);
    void (*sleep)(cdp_device *device, cdp_event event, int64_t timeout_ns); /* NULL: it wakes nobody */
    cdp_status (*check)(cdp_device *device);
    void (*give_up)(cdp_device *device, const char *why);
    uint64_t (*progress)(const cdp_device *device);
    double (*busy_s)(const cdp_device *device);
    void (*drain)(cdp_device *device);
    cdp_status (*measure)(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                          double *flop_per_s_out);
    cdp_status (*upload)(cdp_device *device, int lane, void *to, const void *from_host, uint64_t n_bytes);
    cdp_status (*uploaded)(cdp_device *device, int lane);
    void (*end_uploads)(cdp_device *device); /* NULL: lanes hold nothing */
} cdp_device_table;

struct cdp_device {
    const cdp_device_table *table;
    const struct cdp_ops *ops;
    uint64_t allocated, peak;
    unsigned char *slab; /* NULL: none */
    uint64_t slab_bytes, slab_used;
};
