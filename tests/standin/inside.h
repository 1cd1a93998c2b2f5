/* tests/standin/inside.h - what the files of the stand-in say to each other. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include <atomic>
#include <functional>
#include <string>

#include "tests/standin/kernel.h"
#include "tests/standin/standin.h"

/* ---- block.cpp: run a grid on the worker thread ---- */

/* Run every thread of every block. False when the stand-in found a fault (already reported). */
bool standin_run_grid(const standin_launch &launch);
void standin_set_block_order(standin_order order, uint64_t seed);

/* Told of the loads and stores of kernels, where they are traced (traced/accesses.cpp), else NULL. */
extern void (*standin_on_access)(const void *address, size_t n_bytes, bool is_write);
/* From any thread; only kernels' count. */
void standin_access(const void *address, size_t n_bytes, bool is_write);

/* A library's kernel has written n times n_bytes, `apart` from each other: it is one of those that the next
 * kernel may overlap with. */
void standin_library_wrote(const char *name, const void *memory, size_t n_bytes, size_t apart, size_t n);

/* What runs now is no kernel: those before it are done, and the next does not overlap with them. */
void standin_end_chain(void);

/* ---- shared.cpp: the static shared memory of kernels ---- */

/* The kernel whose blocks run now; fill the shared variables it may use with poison. */
void standin_use_shared(const void *kernel);
void standin_poison_shared(void);
size_t standin_shared_bytes(const void *kernel);

/* ---- memory.cpp: device memory ---- */

cudaError_t standin_memory_alloc(void **out, size_t n_bytes);
/* False when the address is not the start of an allocation. */
bool standin_memory_free(void *memory);
/* memset, cheap for much zero. */
void standin_memory_set(void *memory, int value, size_t n_bytes);
/* Whether [address, address + n_bytes) lies in one allocation. */
bool standin_memory_has(const void *address, size_t n_bytes);
bool standin_memory_is_device(const void *address);
/* Device memory can be touched only between these two: the host that reads it by pointer dies as on a real
 * machine. */
void standin_memory_open(void);
void standin_memory_close(void);

/* ---- gpus.cpp: facts, environment, faults on demand ---- */

typedef struct standin_gpu {
    uint64_t total, free_at_start, allocated, peak;
    int major, minor; /* compute capability */
    bool is_mig;
} standin_gpu;
int standin_n_gpus(void); /* visible ones; -1: no driver */
standin_gpu *standin_gpu_at(int visible);
int standin_n_queues(void);          /* CUDA_DEVICE_MAX_CONNECTIONS as it was at CUDA's first call */
int standin_gpu_number(int visible); /* its number on the machine */
int standin_rank(void);              /* of the world, by Open MPI; 0 alone */
int standin_current(void);
void standin_set_current(int visible);
/* A call that needs a context. False, and said, when it would make one on GPU 0, because its thread has not
 * chosen, while the process uses another: the real one succeeds, and takes memory from another rank. */
bool standin_touch_context(const char *what);
/* Pass a point; true when the fault of this kind is due now. */
bool standin_fault_due(const char *point, const char *kind);

/* ---- launch.cpp: code is loaded when it is first used ---- */

extern std::atomic<int> standin_receives; /* of NCCL, asked for and not over: kernels that spin */

/* Before `key` (a kernel, a product of a library, a graph) is used: the first time is counted, and waits
 * until nothing runs on the GPU, as loading may. False, and said, when that does not come. On rank 0 it is a
 * fault while a receive waits: where the ring begins, nothing may wait for its end. */
bool standin_load(const char *name, const std::string &key, uint64_t *n_loads = nullptr);

/* ---- stream.cpp: queues ---- */

using standin_work = std::function<standin_progress()>;
cudaError_t standin_queue_work(cudaStream_t stream, const char *name, standin_work work);
/* Wait for everything that is queued now. False when it took longer. */
bool standin_wait_all(double most_ms = 1e9);
cudaError_t standin_sticky(void);
void standin_make_sticky(cudaError_t code);
/* capture.cpp: cudaErrorStreamCaptureUnsupported while a capture forbids calls that could synchronise, else
 * cudaSuccess. */
cudaError_t standin_forbidden_in_capture(void);

/* ---- report.cpp ---- */

extern standin_counts standin_counted;
extern std::atomic<bool> standin_is_aborting; /* ncclCommAbort hangs: exit() would be a fault */
/* With STANDIN_TRACE a line on stderr for each launch. */
void standin_trace(const standin_launch &launch, double ms);
double standin_now_ms(void);
/* Say what is wrong on stderr and keep it for standin_last_fault(). */
void standin_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
