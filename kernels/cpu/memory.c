#include "kernels/cpu/memory.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/device_table.h"

enum { ALIGNMENT = 64 };

cdp_status cdp_cpu_alloc_unwritten(cdp_device *device, void **out, uint64_t n_bytes) {
    /* The size lies in front of the memory, so that free can count. */
    const uint64_t whole = (n_bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    unsigned char *memory = aligned_alloc(ALIGNMENT, whole);
    if (memory == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %.2f GiB on the CPU device", (double)n_bytes / 0x1p30);
    memcpy(memory, &n_bytes, sizeof n_bytes);
    device->allocated += n_bytes;
    *out = memory + ALIGNMENT;
    /* cppcheck-suppress memleak ; the caller holds it by *out */
    return CDP_OK;
}

cdp_status cdp_cpu_alloc(cdp_device *device, void **out, uint64_t n_bytes) {
    CDP_TRY(cdp_cpu_alloc_unwritten(device, out, n_bytes));
    memset(*out, 0, n_bytes);
    return CDP_OK;
}

void cdp_cpu_free(cdp_device *device, void *memory) {
    unsigned char *start = (unsigned char *)memory - ALIGNMENT;
    uint64_t n_bytes;
    memcpy(&n_bytes, start, sizeof n_bytes);
    device->allocated -= n_bytes;
    free(start);
}

cdp_status cdp_cpu_host_alloc(cdp_device *device, void **out, uint64_t n_bytes) {
    (void)device;
    const uint64_t whole = (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *out = aligned_alloc(ALIGNMENT, whole);
    if (*out == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a buffer of %.1f MiB", (double)n_bytes / 0x1p20);
    memset(*out, 0, whole);
    return CDP_OK;
}

void cdp_cpu_host_free(cdp_device *device, void *memory) {
    (void)device;
    free(memory);
}
