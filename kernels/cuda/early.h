/* kernels/cuda/early.h - may a kernel begin while the one before it in the stream still runs?
 *
 *     CDP_LAUNCH_PDL  -- yes --> programmatic launch: the kernel waits itself, by ptx_wait_previous()
 *                     -- no ---> plain launch
 *
 * Three things must be there. The kernel's code must have the wait, which is compiled for compute
 * capability 9.0 and up: PTX of 8.0 that the driver of a newer GPU compiles has none, and would read what
 * is not written yet. The driver must know such launches inside recorded steps (CUDA 12.3). And nobody
 * must have switched it off.
 */
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Asked once, with the first kernel: all kernels of a build are compiled for the same GPUs. Main thread. */
bool cdp_launches_early(const void *kernel);

/* For measurements. Steps that are recorded already stay as they are. */
void cdp_launch_early(bool is_wanted);

#ifdef __cplusplus
}
#endif
