/* tests/standin/kernel.h - the words of CUDA C++ for the host compiler: what a .cu file sees instead of nvcc.
 *
 *     grid     blocks one after another, in an order of the test's choosing
 *     block    one fiber a thread; a fiber runs until it meets others: barrier, shuffle, vote, tile
 *     shared   a static variable, filled with poison before each block
 *
 * Put in front of every .cu file by the build (-include). Everything here runs on the stand-in's one worker
 * thread (stream.h), so plain variables serve as registers, shared memory and atomics.
 */
#pragma once

#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>

#include "kernels/cuda/early.h"
#include "kernels/cuda/error.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)

/* Where the running fiber stands. */
typedef struct standin_place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
} standin_place;
extern standin_place standin_now;
#define threadIdx standin_now.thread
#define blockIdx standin_now.block
#define blockDim standin_now.block_dim
#define gridDim standin_now.grid_dim
static const int warpSize = 32;

/* The caller's line, for messages. */
#define STANDIN_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* ---- launch ---- */

typedef struct standin_launch {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes, parameter_bytes;
    bool is_programmatic;
    std::function<void()> body; /* one thread's run, arguments bound */
} standin_launch;

/* Check the launch as a GPU would and put it in the stream's queue. */
cudaError_t standin_enqueue_kernel(const standin_launch &launch, cudaStream_t stream);

template <typename... Parameters, typename... Arguments>
static inline cdp_status cdp_launch(const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                    size_t shared_bytes, cudaStream_t stream, bool is_programmatic,
                                    const Arguments &...arguments) {
    const std::tuple<Parameters...> bound(arguments...); /* by value, as a launch takes them */
    standin_launch launch = {name,
                             reinterpret_cast<const void *>(kernel),
                             grid,
                             block,
                             shared_bytes,
                             sizeof bound,
                             is_programmatic && cdp_launches_early(reinterpret_cast<const void *>(kernel)),
                             [kernel, bound] { std::apply(kernel, bound); }};
    return cdp_from_cuda(standin_enqueue_kernel(launch, stream), name);
}

/* The running block's dynamic shared memory, its size as launched. */
void *standin_dynamic_shared(void);
#define CDP_DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(standin_dynamic_shared())

/* ---- meetings of a block or a warp ---- */

void standin_block_meet(const char *file, int line);
/* n_threads of the block, whole warps, meet at barrier `number`. */
void standin_part_meet(int number, int n_threads, const char *file, int line);
/* Where a thread waits, and what it brings and takes; it lies in the frame that waits. */
typedef struct standin_wait {
    const char *what, *file;
    int line;
    unsigned mask; /* of lanes; of a part's barrier its number and threads */
    const void *in;
    void *out;
    int extra;
    size_t n_bytes;
} standin_wait;

/* All lanes of here.mask meet at this line. The last to arrive runs `combine` (may be NULL) over where they
 * wait (NULL for lanes outside the mask); then all go on. */
typedef void standin_combine(const standin_wait *const at[32]);
void standin_warp_meet(const standin_wait &here, standin_combine *combine);
int standin_lane(void);
standin_combine standin_combine_shuffle, standin_combine_ballot;

static inline void __syncthreads(STANDIN_SITE) {
    standin_block_meet(file, line);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, STANDIN_SITE) {
    standin_warp_meet({"__syncwarp", file, line, mask, nullptr, nullptr, 0, 0}, nullptr);
}

template <typename T>
static inline T standin_shuffle(const char *what, unsigned mask, T value, int source, const char *file,
                                int line) {
    T result = value;
    standin_warp_meet({what, file, line, mask, &value, &result, source, sizeof value},
                      standin_combine_shuffle);
    return result;
}
template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, STANDIN_SITE) {
    const int base = standin_lane() & ~(width - 1);
    return standin_shuffle("__shfl_sync", mask, value, base + (from & (width - 1)), file, line);
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, STANDIN_SITE) {
    const int lane = standin_lane(), from = lane ^ bits, base = lane & ~(width - 1);
    return standin_shuffle("__shfl_xor_sync", mask, value, from >= base + width ? lane : from, file, line);
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, STANDIN_SITE) {
    const int lane = standin_lane(), from = lane + (int)by, base = lane & ~(width - 1);
    return standin_shuffle("__shfl_down_sync", mask, value, from >= base + width ? lane : from, file, line);
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, STANDIN_SITE) {
    const int lane = standin_lane(), from = lane - (int)by, base = lane & ~(width - 1);
    return standin_shuffle("__shfl_up_sync", mask, value, from < base ? lane : from, file, line);
}
static inline unsigned standin_ballot(const char *what, unsigned mask, int is_set, const char *file,
                                      int line) {
    unsigned result = 0;
    standin_warp_meet({what, file, line, mask, &is_set, &result, 0, 0}, standin_combine_ballot);
    return result;
}
static inline unsigned __ballot_sync(unsigned mask, int is_set, STANDIN_SITE) {
    return standin_ballot("__ballot_sync", mask, is_set != 0, file, line);
}
static inline int __any_sync(unsigned mask, int is_set, STANDIN_SITE) {
    return standin_ballot("__any_sync", mask, is_set != 0, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int is_set, STANDIN_SITE) {
    return standin_ballot("__all_sync", mask, is_set != 0, file, line) == mask;
}

/* ---- what kernels/cuda/ptx.h builds its twins from ---- */

void standin_misaligned(const void *address, size_t alignment, const char *file, int line);
static inline void standin_check_aligned(const void *address, size_t alignment, const char *file, int line) {
    if (reinterpret_cast<uintptr_t>(address) % alignment != 0)
        standin_misaligned(address, alignment, file, line);
}
/* Note a copy of this thread; it is done by the wait that covers its group. NULL copies zeros. */
void standin_copy_later(void *to_shared, const void *from_global, size_t n_bytes);
void standin_copy_commit(void);
void standin_copy_wait(int n_newest_left);
/* mma.sync of a whole warp; the fragment layout is drawn in ptx.h. */
void standin_multiply_tiles(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool is_bf16,
                            const char *file, int line);
void standin_wait_previous(void);

/* ---- small words ---- */

template <typename T> static inline T __ldg(const T *from) {
    return *from;
}
template <typename T, typename V> static inline T atomicAdd(T *at, V by) {
    const T old = *at;
    *at = old + (T)by;
    return old;
}
template <typename T, typename V> static inline T atomicExch(T *at, V value) {
    const T old = *at;
    *at = (T)value;
    return old;
}
template <typename T, typename V> static inline T atomicMax(T *at, V value) {
    const T old = *at;
    *at = old < (T)value ? (T)value : old;
    return old;
}
template <typename T, typename V> static inline T atomicMin(T *at, V value) {
    const T old = *at;
    *at = (T)value < old ? (T)value : old;
    return old;
}
template <typename T, typename C, typename V> static inline T atomicCAS(T *at, C expected, V value) {
    const T old = *at;
    if (old == (T)expected)
        *at = (T)value;
    return old;
}
template <typename T, typename C> static inline T atomicInc(T *at, C limit) {
    const T old = *at;
    *at = old >= (T)limit ? 0 : old + 1;
    return old;
}
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}
template <typename A, typename B> static inline auto min(A a, B b) -> decltype(a + b) {
    return a < b ? a : b;
}
template <typename A, typename B> static inline auto max(A a, B b) -> decltype(a + b) {
    return a < b ? b : a;
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
#define __expf expf /* the C library declares functions of these names, so macros */
#define __logf logf
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __frcp_rn(float x) {
    return 1.0f / x;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float __int_as_float(int bits) {
    return __uint_as_float((unsigned)bits);
}
static inline int __float_as_int(float value) {
    return (int)__float_as_uint(value);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __clz(int x) {
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
