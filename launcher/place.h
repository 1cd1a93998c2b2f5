/* launcher/place.h - which device this rank gets, as --device, --device-id, --num-gpus and the machine say.
 *
 *     words -> kind of all ranks -> this rank's GPU -> no GPU twice -> free memory
 *
 * A GPU is given by local rank among the visible ones; with one visible (a scheduler's binding) every rank
 * takes that, and equal UUIDs show whether it is the same. Free memory is read when every rank has its
 * context and before anyone allocates.
 */
#pragma once

#include "comm/world.h"
#include "kernels/cores.h"
#include "kernels/device.h"
#include "kernels/gpu.h"
#include "launcher/options/options.h"
#include "planner/plan.h"

/* A rank's device before it is opened. */
typedef struct cdp_choice {
    cdp_device_kind kind;
    bool is_idle; /* left out by --num-gpus: holds nothing */
    cdp_gpu gpu;  /* of CDP_DEVICE_CUDA */
} cdp_choice;

/* Check the words of --device and --device-id and what CUDA_VISIBLE_DEVICES says, and tell the kind of device
 * this rank would take: CUDA where GPUs are asked for, or where nothing is asked for and one is visible.
 * world may be NULL (plan, devices). CDP_USAGE for wrong words, CDP_UNAVAILABLE when GPUs are asked for and
 * there is none. */
cdp_status cdp_place_kind(cdp_device_kind *out, const cdp_options *options, const cdp_world *world);

/* This rank's device of a kind that all ranks have agreed on. CDP_UNAVAILABLE with more ranks than GPUs. */
cdp_status cdp_place_choose(cdp_choice *out, const cdp_options *options, const cdp_world *world,
                            cdp_device_kind kind);

/* How many ranks have this rank's GPU (1 when it has none). Two of a GPU: CDP_UNAVAILABLE that names them
 * (but with --allow-shared-gpu). Collective. */
cdp_status cdp_place_share(int *n_sharing_out, const cdp_options *options, cdp_world *world,
                           const cdp_choice *choice);

/* Name and label of the place; its free memory is free_bytes, shared by n_sharing ranks. */
void cdp_place_fill(cdp_place *out, const cdp_choice *choice, int n_threads, cdp_cpu_tier tier,
                    uint64_t free_bytes, int n_sharing);

/* Every place this process sees, for commands without a world: the GPUs that --device means, or the CPU.
 * Makes a context on each GPU. At most `room`. */
cdp_status cdp_place_list(cdp_place *places, int room, int *n_out, cdp_device_kind *kind_out,
                          const cdp_options *options);

/* The cores this rank computes on: its share of those that the ranks of its host may use, one thread each, or
 * as many of them as --threads says. world may be NULL; else collective. */
cdp_status cdp_place_cores(cdp_core_share *out, const cdp_options *options, cdp_world *world);

/* --cpu-tier, or the best of this processor; CDP_UNAVAILABLE when the processor lacks it. */
cdp_status cdp_place_tier(cdp_cpu_tier *out, const cdp_options *options);

/* Prompt tokens of a step where --chunk does not say: on the CPU some 50 MB of scratch at 8 B, on a GPU
 * enough rows for its matrix units; long enough that weights are read once for many rows. */
int cdp_place_chunk(const cdp_options *options, cdp_device_kind kind);

/* Processes to start for --num-gpus outside mpirun: all visible GPUs, or N of them; 0 when it was not given.
 * CDP_UNAVAILABLE when there are not so many. */
cdp_status cdp_place_n_gpus(int *out, const cdp_options *options);
