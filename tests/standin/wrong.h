/* tests/standin/wrong.h - kernels with one fault each, to see the stand-in catch them. All run one block or a
 * few on the default stream. Never compiled for a GPU. */
#pragma once

#include "kernels/status.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { WRONG_THREADS = 256 };

/* out[i] = sum of x[0..256): the barrier between the warps' parts and their sum is missing. */
cdp_status wrong_no_barrier(float *out, const float *x);
/* Half a warp shuffles and names all of it; the other half goes home, or to a barrier. */
cdp_status wrong_mask_left(float *out, const float *x);
cdp_status wrong_mask_elsewhere(float *out, const float *x);
/* All lanes, half of them at another line. */
cdp_status wrong_mask_two_lines(float *out, const float *x);
/* A lane reads from one that the mask does not name. */
cdp_status wrong_source(float *out, const float *x);
/* Threads of one block at two barriers. */
cdp_status wrong_two_barriers(float *out, const float *x);
/* A barrier for part of a block: with too few threads, and with two counts of them. */
cdp_status wrong_part_short(float *out, const float *x);
cdp_status wrong_part_two_sizes(float *out, const float *x);
/* out[i] = x[i] for i <= n: one too far. */
cdp_status wrong_off_by_one(float *out, const float *x, int n);
/* The same in shared memory, static and dynamic, by `n` elements. */
cdp_status wrong_beyond_shared(float *out, const float *x, int n, bool is_dynamic);
/* out[0..4) = four values copied to shared memory; not waited for, or not committed. */
cdp_status wrong_unwaited_copy(float *out, const float *x, bool is_committed);
/* out[i] = a shared value that nobody has written. */
cdp_status wrong_unwritten(float *out);
/* 16 bytes from an address that is a multiple of 4. */
cdp_status wrong_alignment(float *out, const float *x);
/* out[0] = the number of the block that came last, without an atomic operation: blocks race. */
cdp_status wrong_race_of_blocks(float *out, int n_blocks);
/* Launched to overlap the one before, without waiting for it. */
cdp_status wrong_overlap(float *out, const float *x);
/* The same, but reading x, or writing out, before it waits. Seen by traced kernels only; reading is right
 * where no kernel wrote x. */
cdp_status wrong_early_read(float *out, const float *x);
cdp_status wrong_early_write(float *out, const float *x);
/* A launch that a GPU refuses: more threads, or more shared memory, than a block has. */
cdp_status wrong_launch(float *out, int n_threads, size_t shared_bytes);
/* What is right: out[i] = x[i] for i < 256. */
cdp_status right_copy(float *out, const float *x, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
