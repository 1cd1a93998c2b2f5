/* launcher/place.h - which device this rank gets, as --device, --device-id and the machine say. */
#pragma once

#include "comm/world.h"
#include "kernels/device.h"
#include "launcher/options.h"
#include "planner/plan.h"

/* Check the words of --device and --device-id, and describe this rank's place: the CPU with n_threads
 * workers, free memory shared by the ranks of this host. world may be NULL (plan, devices). CDP_USAGE for
 * wrong words, CDP_UNAVAILABLE when the device is not there. */
cdp_status cdp_place_find(cdp_place *out, const cdp_options *options, const cdp_world *world, int n_threads,
                          cdp_cpu_tier tier);

/* --threads, or cores / local ranks. */
int cdp_place_threads(const cdp_options *options, const cdp_world *world);

/* --cpu-tier, or the best of this processor; CDP_UNAVAILABLE when the processor lacks it. */
cdp_status cdp_place_tier(cdp_cpu_tier *out, const cdp_options *options);
