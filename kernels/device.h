/* kernels/device.h - what runs on one device: memory, a queue of work in order, events, free memory.
 *
 * A device is used like a CUDA stream, and the CPU is no exception: operations are put in a queue by the main
 * thread, which never computes, and worker threads work them off in order. The main thread polls events and
 * meanwhile keeps MPI moving; an MPI message would otherwise wait for the end of a computation.
 *
 *     main thread   copy_in  qkv  attend  ...  record(e)          query(e)? query(e)? -> send
 *     workers                 [copy][qkv    ][attend ]...[e]
 *
 * The functions here are the same for every kind: what a kind does is its table (device_table.h). All of them
 * belong to the main thread but those that say otherwise.
 */
#pragma once

#include "kernels/dtype.h"
#include "kernels/status.h"
#include <sched.h>
#include <stdint.h>

typedef enum cdp_device_kind { CDP_DEVICE_CPU, CDP_DEVICE_CUDA } cdp_device_kind;

/* Which instructions the CPU device computes with; a world uses the lowest tier of its ranks. */
typedef enum cdp_cpu_tier {
    CDP_TIER_PLAIN,
    CDP_TIER_AVX2,
    CDP_TIER_AVX512,
    CDP_TIER_AMX,
    CDP_N_TIERS
} cdp_cpu_tier;

typedef struct cdp_device cdp_device;
struct cdp_ops;

/* A point in the queue; 0 is the start, always reached. */
typedef uint64_t cdp_event;

/* Open, close ------------------------------------------------------------------------------------------ */

typedef struct cdp_cpu_options {
    int n_threads; /* worker threads, at least 1 */
    cdp_cpu_tier tier;
    const struct cdp_ops *ops; /* NULL: the table of the tier; tests put &cdp_ops_ref here */
    const cpu_set_t *cpus;     /* n_threads of them: a worker is pinned to each; NULL: nobody is pinned */
    const char *root; /* NULL but in tests: a folder that stands for "/", for the map of NUMA nodes */
} cdp_cpu_options;

/* Start the CPU device. CDP_SYSTEM when threads or memory are refused. The caller closes it. */
cdp_status cdp_device_open_cpu(cdp_device **out, const cdp_cpu_options *options);

typedef struct cdp_cuda_options {
    int index;                 /* of the visible GPUs */
    const struct cdp_ops *ops; /* NULL: cdp_ops_cuda */
} cdp_cuda_options;

/* Make a context on a GPU and its queue; memory for kernels and libraries is taken with the first allocation,
 * so that several ranks of one GPU can read its free memory before any of them takes some. CDP_UNAVAILABLE
 * when the GPU is not there, in exclusive use or lost, or when this build has no CUDA. The caller closes it.
 */
cdp_status cdp_device_open_cuda(cdp_device **out, const cdp_cuda_options *options);

/* Wait for the queue to drain, end the workers, free the device's own memory. A device that has failed
 * (cdp_device_check) is left as it is: nothing on it can be waited for. NULL is fine. */
void cdp_device_close(cdp_device *device);

cdp_device_kind cdp_device_kind_of(const cdp_device *device);

/* The operation table of this device (ops.h). */
const struct cdp_ops *cdp_device_ops(const cdp_device *device);

/* Memory ----------------------------------------------------------------------------------------------- */

/* Every buffer of a slab begins at a multiple of this; the plan counts so too. */
enum { CDP_DEVICE_ALIGNMENT = 256 };

/* Device memory, 64-byte aligned (256 on a GPU), zeroed, so that every page is real before the job starts.
 * n_bytes 0 gives NULL and CDP_OK. CDP_SYSTEM when there is none, CDP_INTERNAL when a slab has no room left:
 * the plan did not count this buffer. */
cdp_status cdp_device_alloc(cdp_device *device, void **out, uint64_t n_bytes);

/* The same, not zeroed, for weights: the caller has every byte written before anything reads it. On a CPU of
 * several NUMA nodes pages go to the node of the worker that multiplies with these rows, whoever writes them
 * first. */
cdp_status cdp_device_alloc_unwritten(cdp_device *device, void **out, uint64_t n_bytes);

/* NULL is fine. The room of a buffer in a slab comes back only with the slab. */
void cdp_device_free(cdp_device *device, void *memory);

/* On a GPU: take n_bytes in one piece, zeroed; what is allocated from here on lies in it, buffer after
 * buffer. Once a device; CDP_SYSTEM with both numbers when there is not so much. On the CPU nothing happens:
 * every buffer there has its own memory, so that sanitizers see its ends. */
cdp_status cdp_device_reserve(cdp_device *device, uint64_t n_bytes);

/* Bytes of the slab that are in use, and of the whole slab; 0 and 0 without one. */
void cdp_device_slab(const cdp_device *device, uint64_t *n_used_out, uint64_t *n_bytes_out);

/* Bytes allocated now, a slab counted whole; and the most it ever was. */
uint64_t cdp_device_allocated(const cdp_device *device);
uint64_t cdp_device_peak(const cdp_device *device);

/* Free memory of the device now. */
cdp_status cdp_device_free_bytes(cdp_device *device, uint64_t *out);

/* May the host read and write device memory in place? True on the CPU. */
bool cdp_device_is_host(const cdp_device *device);

/* Memory of the host that copies to and from the device run on from by themselves: pinned for a GPU, plain on
 * the CPU. Zeroed, 64-byte aligned. n_bytes 0 gives NULL and CDP_OK. Freed before the device closes. */
cdp_status cdp_device_host_alloc(cdp_device *device, void **out, uint64_t n_bytes);
void cdp_device_host_free(cdp_device *device, void *memory); /* NULL is fine */

/* The queue -------------------------------------------------------------------------------------------- */

/* Queue a copy between host and device memory, or inside the device. The host side must stay as it is until
 * the copy is done; only memory of cdp_device_host_alloc is sure not to hold up the caller. */
cdp_status cdp_device_copy_in(cdp_device *device, void *to, const void *from_host, uint64_t n_bytes);
cdp_status cdp_device_copy_out(cdp_device *device, void *to_host, const void *from, uint64_t n_bytes);
cdp_status cdp_device_copy(cdp_device *device, void *to, const void *from, uint64_t n_bytes);

/* The event that is reached when everything queued so far is done. */
cdp_event cdp_device_record(cdp_device *device);

/* True once the event is reached. Never blocks. On a device that has failed nothing is reached any more. */
bool cdp_device_reached(cdp_device *device, cdp_event event);

/* Sleep until the event is reached, at most timeout_ns. False: a device of this kind wakes nobody (a GPU),
 * and there was no sleep. */
bool cdp_device_sleep(cdp_device *device, cdp_event event, int64_t timeout_ns);

/* CDP_INTERNAL with the whole text once the device has failed for good: work that was queued is lost, and the
 * process is to end. Costs nothing while all is well; asked in every turn. */
cdp_status cdp_device_check(cdp_device *device);

/* Somebody else's work holds the device and will not end (a message whose peer is gone): from here on it
 * counts as failed, with this reason, and closing it waits for nothing. On the CPU nothing happens. */
void cdp_device_give_up(cdp_device *device, const char *why);

/* Pieces of work queued or done since the start: the watchdog's sign of life. Any thread. */
uint64_t cdp_device_progress(const cdp_device *device);

/* Seconds the device has spent computing (not waiting) since the start. */
double cdp_device_busy_s(const cdp_device *device);

/* Block until the queue is empty or the device has failed; for tests and teardown only. */
void cdp_device_drain(cdp_device *device);

/* What this device reaches now, for the ceilings beside a benchmark's figures: bytes per second (CPU: all
 * workers reading one buffer larger than the caches; GPU: a copy inside the device, read and written bytes
 * both counted), and operations per second (a multiply and an add are two) of what multiplies `weights` of
 * this dtype (CPU: all workers repeating the tier's instruction in registers; GPU: cuBLASLt, always bf16).
 * Takes about half a second; the queue must be empty. */
cdp_status cdp_device_measure(cdp_device *device, cdp_dtype weights, double *bytes_per_s_out,
                              double *flop_per_s_out);

/* Uploads: weights, by reader threads ------------------------------------------------------------------ */

enum { CDP_UPLOAD_LANES = 16 };

/* Start a copy from pinned memory to the device beside the queue, in `lane` (0 .. CDP_UPLOAD_LANES-1), of
 * which one thread at a time makes use. Any thread. On the CPU it is done on return. */
cdp_status cdp_device_upload(cdp_device *device, int lane, void *to, const void *from_host, uint64_t n_bytes);

/* Block until the lane's copies are done: their host memory may be written again, and work queued from here
 * on sees them. Any thread. */
cdp_status cdp_device_uploaded(cdp_device *device, int lane);

/* Loading is over: what the lanes hold on the device is given back. Main thread, when no other uploads. */
void cdp_device_end_uploads(cdp_device *device);

/* The host --------------------------------------------------------------------------------------------- */

/* The highest tier this processor has. The first call asks the kernel for the tiles of the matrix unit, so it
 * is made before threads start: they take the permission along. */
cdp_cpu_tier cdp_cpu_best_tier(void);
const char *cdp_cpu_tier_name(cdp_cpu_tier tier); /* "plain", "avx2", "avx512", "amx" */

/* Facts about the host: model name of the processor, cores this process may use (its affinity mask), whether
 * AMX bf16 is there, and memory free for new work = min(MemAvailable, what the cgroup leaves). */
const char *cdp_cpu_model_name(void);
int cdp_cpu_usable_cores(void);
bool cdp_cpu_has_amx(void);
uint64_t cdp_cpu_free_bytes(void);

/* Peak resident set of this process in bytes, from the operating system. */
uint64_t cdp_process_peak_bytes(void);
