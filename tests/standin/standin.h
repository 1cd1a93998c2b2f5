/* tests/standin/standin.h - a GPU made of the CPU: what tests and the other stand-ins ask of it.
 *
 * The product calls the CUDA runtime and cuBLASLt as ever; cudart*.cpp and cublaslt.cpp answer. Behind them:
 *
 *     host threads    enqueue(stream, work) ...   query(event)? query(event)?
 *     worker thread                 late, in any legal order: [work] [work] [event]
 *
 * Environment, read once at the first call:
 *
 *     STANDIN_GPUS=TOTAL[/FREE][:mig][@MAJOR.MINOR][,...]   fake GPUs in bytes, K, M, G, whole or a MIG
 *                                       instance, of a compute capability; default one of 2G with 2G free and
 *                                       9.0; "none": no driver
 *     STANDIN_DRIVER=N                  the driver is one for CUDA N, as 12020 for 12.2; default the headers'
 *     STANDIN_PTX=N                     kernels are compiled by the driver from PTX of capability N, as 80
 *     STANDIN_ORDER=ascending | descending | shuffled[:SEED]    threads of a block and blocks of a grid
 *     STANDIN_LATE_MS=N                 work nobody asks for runs after N ms (default 1; 0: at once)
 *     STANDIN_FAULT=[RANK:]POINT:KIND[:N][,...]   at the N-th passage (default 1; 0: each) of rank RANK
 *                                       (default any):
 *         launch:sticky     the launch is accepted, the kernel fails: every later call returns the error
 *         launch:refused    the launch itself returns an error
 *         launch:hang       the kernel never ends
 *         kernel:foreign    the build has no code of the kernel for this GPU
 *         malloc:memory     cudaMalloc finds none
 *         meminfo:overstated   cudaMemGetInfo calls all memory free
 *         host:memory       pinned host memory finds none
 *         product:none      cuBLASLt has no algorithm for the product
 *         graph:memory      cudaGraphInstantiate finds none     graph:upload    the first launch of a graph
 *         capture:refused   work for a stream that records is refused, and the recording is spoilt
 *         copy:corrupt      one byte of a copy between host and device arrives changed
 *         sync:sticky       a synchronisation or query finds the context dead
 *     STANDIN_TRACE=1                   a line on stderr for each launch, with its milliseconds
 *     STANDIN_REPORT=1                  at exit one line on stderr: launches, blocks, threads, meetings, s
 */
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum standin_order { STANDIN_ASCENDING, STANDIN_DESCENDING, STANDIN_SHUFFLED } standin_order;

/* In which order the threads of a block and the blocks of a grid run from now on. Waits for the queues first.
 */
void standin_set_order(standin_order order, uint64_t seed);

/* Work nobody asked for runs this many milliseconds after it was queued. */
void standin_set_late_ms(int ms);

/* Work for a stream's queue, written by another stand-in. `run` is called on the worker thread, without
 * locks, again and again until it says something else than NOT_YET; other streams go on meanwhile. `drop`
 * (may be NULL) frees `argument` when the work is done or thrown away. Work that fails makes the context
 * sticky, as a dead kernel does. */
typedef enum standin_progress { STANDIN_DONE, STANDIN_NOT_YET, STANDIN_FAILED } standin_progress;
cudaError_t standin_enqueue(cudaStream_t stream, const char *name, standin_progress (*run)(void *argument),
                            void *argument, void (*drop)(void *argument));

/* Streams that are open now. */
int standin_n_streams(void);
/* As cudaStreamCreateWithPriority was told: lower goes first. */
int standin_priority(cudaStream_t stream);

/* Everything that was counted since the start. */
typedef struct standin_counts {
    uint64_t launches, blocks, threads, meetings, copies, products;
    uint64_t late_kernels; /* loaded by their first launch */
    uint64_t faults;       /* faults the stand-in found by itself, each with a line on stderr */
} standin_counts;
standin_counts standin_count(void);

/* The last fault the stand-in found, "" if none: "FILE:LINE: KERNEL block (x,y,z): what is wrong". */
const char *standin_last_fault(void);

/* Forget a sticky error: the context is as new, memory stays. For tests only. */
void standin_recover(void);

/* Bytes of cudaMalloc held now on the current GPU, and the most it ever was. */
uint64_t standin_allocated(void);
uint64_t standin_peak(void);

#ifdef __cplusplus
}
#endif
