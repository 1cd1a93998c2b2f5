/* kernels/cuda/ptx.h - every instruction that CUDA C++ has no word for, each with a plain twin for the
 * stand-in.
 *
 *     memory   ptx_load16  _nc  _early  ptx_store16          16 bytes a thread, at a multiple of 16
 *     copies   ptx_copy16_async  _commit  _wait<N>           global -> shared, done at the wait, not before
 *     product  ptx_mma_bf16  ptx_mma_f16                     d (16x8) += a (16x16) b (16x8), sums in f32
 *     number   ptx_exp2                                      2^x, 2 bits short of exact, tiny results are 0
 *     order    ptx_part_sync                                 a barrier for some warps of a block
 *              ptx_wait_previous  ptx_launch_next            programmatic dependent launch
 *
 * Fragments of one warp (PTX ISA, m16n8k16), g = lane / 4, t = lane % 4, two 16-bit values a register:
 *
 *     a[0] row g,   k 2t, 2t+1      a[2] row g,   k 2t+8, 2t+9      b[0] k 2t, 2t+1,   column g
 *     a[1] row g+8, k 2t, 2t+1      a[3] row g+8, k 2t+8, 2t+9      b[1] k 2t+8, 2t+9, column g
 *     d[0], d[1] row g, columns 2t, 2t+1        d[2], d[3] row g+8, columns 2t, 2t+1
 */
#pragma once

#include "kernels/cuda/launch.h"

#ifdef __CUDACC__
#define PTX_SITE
/* The address as the shared-memory instructions want it. */
__device__ __forceinline__ unsigned ptx_shared_address(const void *shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}
#else /* the twins name the line that called them when something is wrong */
#define PTX_SITE , const char *file = __builtin_FILE(), int line = __builtin_LINE()
#endif

/* 16 bytes from global or shared memory. */
__device__ __forceinline__ uint4 ptx_load16(const void *from PTX_SITE) {
#ifndef __CUDACC__
    standin_check_aligned(from, 16, file, line);
#endif
    return *static_cast<const uint4 *>(from);
}

/* 16 bytes that nobody writes while the kernel runs, past the first-level cache: weights, read once. */
__device__ __forceinline__ uint4 ptx_load16_nc(const void *from PTX_SITE) {
#ifdef __CUDACC__
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
#else
    standin_check_aligned(from, 16, file, line);
    return *static_cast<const uint4 *>(from);
#endif
}

/* The same for a load that begins before ptx_wait_previous() and stays there. One by .nc does not: ptxas
 * (13.0) takes it for free to move, and puts the wait before all of them. */
__device__ __forceinline__ uint4 ptx_load16_early(const void *from PTX_SITE) {
#ifdef __CUDACC__
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from)
                 : "memory");
    return v;
#else
    standin_check_aligned(from, 16, file, line);
    return *static_cast<const uint4 *>(from);
#endif
}

__device__ __forceinline__ void ptx_store16(void *to, uint4 v PTX_SITE) {
#ifndef __CUDACC__
    standin_check_aligned(to, 16, file, line);
#endif
    *static_cast<uint4 *>(to) = v;
}

/* Start to copy 16 bytes to shared memory; where !is_there the 16 bytes become zero and nothing is read (the
 * address must still be a valid one). */
__device__ __forceinline__ void ptx_copy16_async(void *to_shared, const void *from_global,
                                                 bool is_there = true PTX_SITE) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ptx_shared_address(to_shared)),
                 "l"(from_global), "r"(is_there ? 16 : 0)
                 : "memory");
#else
    standin_check_aligned(to_shared, 16, file, line);
    standin_check_aligned(from_global, 16, file, line);
    standin_copy_later(to_shared, is_there ? from_global : nullptr, 16);
#endif
}

/* Close a group: the copies of this thread since the last commit. */
__device__ __forceinline__ void ptx_copy_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    standin_copy_commit();
#endif
}

/* Wait until at most the N newest groups of this thread are unfinished. Others see the bytes after a barrier.
 */
template <int N> __device__ __forceinline__ void ptx_copy_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
    standin_copy_wait(N);
#endif
}

/* d += a b for one warp, all 32 lanes. */
__device__ __forceinline__ void ptx_mma_bf16(float (&d)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2] PTX_SITE) {
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    standin_multiply_tiles(d, a, b, true, file, line);
#endif
}
__device__ __forceinline__ void ptx_mma_f16(float (&d)[4], const unsigned (&a)[4],
                                            const unsigned (&b)[2] PTX_SITE) {
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    standin_multiply_tiles(d, a, b, false, file, line);
#endif
}

__device__ __forceinline__ float ptx_exp2(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

/* Wait for n_threads threads of the block, whole warps, at barrier `number` of 1 to 15; what they wrote
 * before is seen after. */
__device__ __forceinline__ void ptx_part_sync(int number, int n_threads PTX_SITE) {
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(n_threads) : "memory");
#else
    standin_part_meet(number, n_threads, file, line);
#endif
}

/* Wait until the kernels before this one are done and their writes are seen. Nothing in a plain launch. */
__device__ __forceinline__ void ptx_wait_previous() {
#ifndef __CUDACC__
    standin_wait_previous();
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel in the stream may begin (what it reads of ours it sees only after its own wait). */
__device__ __forceinline__ void ptx_launch_next() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
