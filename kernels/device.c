/* The face of every device: the slab, and the way to the table of its kind. */
#include "kernels/device_table.h"

static uint64_t aligned(uint64_t n_bytes) {
    return (n_bytes + CDP_DEVICE_ALIGNMENT - 1) / CDP_DEVICE_ALIGNMENT * CDP_DEVICE_ALIGNMENT;
}

static bool is_in_slab(const cdp_device *device, const void *memory) {
    const uintptr_t at = (uintptr_t)memory, slab = (uintptr_t)device->slab;
    return device->slab != NULL && at >= slab && at - slab < device->slab_bytes;
}

void cdp_device_close(cdp_device *device) {
    if (device == NULL)
        return;
    device->table->drain(device);
    if (device->slab != NULL)
        device->table->free(device, device->slab);
    device->table->close(device);
}

cdp_device_kind cdp_device_kind_of(const cdp_device *device) {
    return device->table->kind;
}

const struct cdp_ops *cdp_device_ops(const cdp_device *device) {
    return device->ops;
}

static cdp_status alloc_own(cdp_device *device, void **out, uint64_t n_bytes, bool is_zeroed) {
    if (is_zeroed || device->table->alloc_unwritten == NULL)
        CDP_TRY(device->table->alloc(device, out, n_bytes));
    else
        CDP_TRY(device->table->alloc_unwritten(device, out, n_bytes));
    if (device->allocated > device->peak)
        device->peak = device->allocated;
    return CDP_OK;
}

static cdp_status alloc(cdp_device *device, void **out, uint64_t n_bytes, bool is_zeroed) {
    *out = NULL;
    if (n_bytes == 0)
        return CDP_OK;
    if (device->slab == NULL)
        return alloc_own(device, out, n_bytes, is_zeroed);
    const uint64_t left = device->slab_bytes - device->slab_used;
    if (n_bytes > left)
        return cdp_fail(
            CDP_INTERNAL, "a buffer of %llu bytes, but %llu of the %llu that the plan counted are left",
            (unsigned long long)n_bytes, (unsigned long long)left, (unsigned long long)device->slab_bytes);
    *out = device->slab + device->slab_used;
    device->slab_used += aligned(n_bytes) < left ? aligned(n_bytes) : left;
    return CDP_OK;
}

cdp_status cdp_device_alloc(cdp_device *device, void **out, uint64_t n_bytes) {
    return alloc(device, out, n_bytes, true);
}
cdp_status cdp_device_alloc_unwritten(cdp_device *device, void **out, uint64_t n_bytes) {
    return alloc(device, out, n_bytes, false);
}

void cdp_device_free(cdp_device *device, void *memory) {
    if (memory != NULL && !is_in_slab(device, memory))
        device->table->free(device, memory);
}

cdp_status cdp_device_reserve(cdp_device *device, uint64_t n_bytes) {
    if (device->table->is_host || n_bytes == 0)
        return CDP_OK;
    if (device->slab != NULL)
        return cdp_fail(CDP_INTERNAL, "a second slab of %llu bytes", (unsigned long long)n_bytes);
    void *slab = NULL;
    CDP_TRY(alloc_own(device, &slab, n_bytes, true));
    device->slab = slab;
    device->slab_bytes = n_bytes;
    return CDP_OK;
}

void cdp_device_slab(const cdp_device *device, uint64_t *n_used_out, uint64_t *n_bytes_out) {
    *n_used_out = device->slab_used;
    *n_bytes_out = device->slab_bytes;
}

uint64_t cdp_device_allocated(const cdp_device *device) {
    return device->allocated;
}
uint64_t cdp_device_peak(const cdp_device *device) {
    return device->peak;
}

cdp_status cdp_device_free_bytes(cdp_device *device, uint64_t *out) {
    return device->table->free_bytes(device, out);
}

bool cdp_device_is_host(const cdp_device *device) {
    return device->table->is_host;
}

cdp_status cdp_device_host_alloc(cdp_device *device, void **out, uint64_t n_bytes) {
    *out = NULL;
    return n_bytes == 0 ? CDP_OK : device->table->host_alloc(device, out, n_bytes);
}

void cdp_device_host_free(cdp_device *device, void *memory) {
    if (memory != NULL)
        device->table->host_free(device, memory);
}

cdp_status cdp_device_copy_in(cdp_device *device, void *to, const void *from_host, uint64_t n_bytes) {
    return n_bytes == 0 ? CDP_OK : device->table->copy_in(device, to, from_host, n_bytes);
}

cdp_status cdp_device_copy_out(cdp_device *device, void *to_host, const void *from, uint64_t n_bytes) {
    return n_bytes == 0 ? CDP_OK : device->table->copy_out(device, to_host, from, n_bytes);
}

cdp_status cdp_device_copy(cdp_device *device, void *to, const void *from, uint64_t n_bytes) {
    return n_bytes == 0 || to == from ? CDP_OK : device->table->copy(device, to, from, n_bytes);
}

cdp_event cdp_device_record(cdp_device *device) {
    return device->table->record(device);
}

bool cdp_device_reached(cdp_device *device, cdp_event event) {
    return device->table->reached(device, event);
}

bool cdp_device_sleep(cdp_device *device, cdp_event event, int64_t timeout_ns) {
    if (device->table->sleep != NULL)
        device->table->sleep(device, event, timeout_ns);
    return device->table->sleep != NULL;
}

cdp_status cdp_device_check(cdp_device *device) {
    return device->table->check(device);
}

void cdp_device_give_up(cdp_device *device, const char *why) {
    device->table->give_up(device, why);
}

uint64_t cdp_device_progress(const cdp_device *device) {
    return device->table->progress(device);
}

double cdp_device_busy_s(const cdp_device *device) {
    return device->table->busy_s(device);
}

void cdp_device_drain(cdp_device *device) {
    device->table->drain(device);
}

cdp_status cdp_device_measure(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                              double *flop_per_s_out) {
    return device->table->measure(device, weights, bytes_per_s_out, flop_per_s_out);
}

static cdp_status check_lane(int lane) {
    return lane >= 0 && lane < CDP_UPLOAD_LANES ? CDP_OK : cdp_fail(CDP_INTERNAL, "upload lane %d", lane);
}

cdp_status cdp_device_upload(cdp_device *device, int lane, void *to, const void *from_host,
                             uint64_t n_bytes) {
    CDP_TRY(check_lane(lane));
    return n_bytes == 0 ? CDP_OK : device->table->upload(device, lane, to, from_host, n_bytes);
}

cdp_status cdp_device_uploaded(cdp_device *device, int lane) {
    CDP_TRY(check_lane(lane));
    return device->table->uploaded(device, lane);
}

void cdp_device_end_uploads(cdp_device *device) {
    if (device->table->end_uploads != NULL)
        device->table->end_uploads(device);
}
