/* kernels/device.h - what runs on one device: memory, a queue of work in order, events, free memory.
 *
 * A device is used like a CUDA stream, and the CPU is no exception: operations are put in a queue by the main
 * thread, which never computes, and worker threads work them off in order. The main thread polls events and
 * meanwhile keeps MPI moving; an MPI message would otherwise wait for the end of a computation.
 *
 *     main thread   copy_in  qkv  attend  ...  record(e)          query(e)? query(e)? -> send
 *     workers                 [copy][qkv    ][attend ]...[e]
 */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

typedef enum cdp_device_kind { CDP_DEVICE_CPU, CDP_DEVICE_CUDA } cdp_device_kind;

/* Which instructions the CPU device computes with; a world uses the lowest tier of its ranks. */
typedef enum cdp_cpu_tier { CDP_TIER_PLAIN, CDP_TIER_AVX2, CDP_TIER_AVX512 } cdp_cpu_tier;

typedef struct cdp_device cdp_device;
struct cdp_ops;

/* A point in the queue; 0 is the start, always reached. */
typedef uint64_t cdp_event;

typedef struct cdp_cpu_options {
    int n_threads; /* worker threads, at least 1 */
    cdp_cpu_tier tier;
    const struct cdp_ops *ops; /* NULL: the table of the tier; tests put &cdp_ops_ref here */
} cdp_cpu_options;

/* Start the CPU device. CDP_SYSTEM when threads or memory are refused. The caller closes it. */
cdp_status cdp_device_open_cpu(cdp_device **out, const cdp_cpu_options *options);

/* Wait for the queue to drain, end the workers, free the device's own memory. NULL is fine. */
void cdp_device_close(cdp_device *device);

/* The operation table of this device (ops.h). */
const struct cdp_ops *cdp_device_ops(const cdp_device *device);

/* Device memory, 64-byte aligned, zeroed (so that every page is real before the job starts). n_bytes 0 gives
 * NULL and CDP_OK. CDP_SYSTEM when there is none. */
cdp_status cdp_device_alloc(cdp_device *device, void **out, uint64_t n_bytes);
void cdp_device_free(cdp_device *device, void *memory); /* NULL is fine */

/* Bytes allocated now. */
uint64_t cdp_device_allocated(const cdp_device *device);

/* Queue a copy between host and device memory. The host side must stay as it is until the copy is done. */
cdp_status cdp_device_copy_in(cdp_device *device, void *to, const void *from_host, uint64_t n_bytes);
cdp_status cdp_device_copy_out(cdp_device *device, void *to_host, const void *from, uint64_t n_bytes);

/* The event that is reached when everything queued so far is done. */
cdp_event cdp_device_record(cdp_device *device);

/* True once the event is reached. Never blocks. */
bool cdp_device_reached(const cdp_device *device, cdp_event event);

/* Jobs finished since the start: the watchdog's sign of life. */
uint64_t cdp_device_progress(const cdp_device *device);

/* Seconds the workers have spent computing (not waiting) since the start. */
double cdp_device_busy_s(const cdp_device *device);

/* What this device reaches now, for the ceilings beside a benchmark's figures: bytes per second of all
 * workers reading one large buffer (128 MiB, for the moment of the call), and operations per second (a
 * multiply and an add are two) of its own matrix product in f32 on data that stays in the cache. Takes about
 * half a second; the queue must be empty. */
cdp_status cdp_device_measure(cdp_device *device, double *bytes_per_s_out, double *flop_per_s_out);

/* Block until the queue is empty; for tests and teardown only. */
void cdp_device_drain(cdp_device *device);

/* The highest tier this processor has, its names and back. */
cdp_cpu_tier cdp_cpu_best_tier(void);
const char *cdp_cpu_tier_name(cdp_cpu_tier tier); /* "plain", "avx2", "avx512" */

/* Facts about the host: model name of the processor, cores this process may use (its affinity mask), whether
 * AMX bf16 is there, and memory free for new work = min(MemAvailable, what the cgroup leaves). */
const char *cdp_cpu_model_name(void);
int cdp_cpu_usable_cores(void);
bool cdp_cpu_has_amx(void);
uint64_t cdp_cpu_free_bytes(void);

/* Peak resident set of this process in bytes, from the operating system. */
uint64_t cdp_process_peak_bytes(void);
