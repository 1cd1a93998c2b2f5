/* kernels/cpu/memory.h - the memory of the CPU device, for its table (device_table.h) only. */
#pragma once

#include "kernels/device.h"

cdp_status cdp_cpu_alloc(cdp_device *device, void **out, uint64_t n_bytes);
cdp_status cdp_cpu_alloc_unwritten(cdp_device *device, void **out, uint64_t n_bytes);
void cdp_cpu_free(cdp_device *device, void *memory);
cdp_status cdp_cpu_host_alloc(cdp_device *device, void **out, uint64_t n_bytes);
void cdp_cpu_host_free(cdp_device *device, void *memory);
