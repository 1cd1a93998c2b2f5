/* launcher/loading.h - the weights of all ranks come in at once; rank 0 shows how far they are.
 *
 *     [##########..............] weights: 1.05 of 2.47 GB, 0.95 GB/s, rank 2 is at 38 %
 *
 * A bar on a terminal, else a `#` line every 10 s; nothing of a load that takes less than a second. Ranks
 * tell each other how far they are five times a second, so a rank that fails ends the load of all.
 */
#pragma once

#include "comm/world.h"
#include "stage/loader.h"

/* Start the loader and wait until every rank has what it holds, or one has failed: the status is this rank's
 * own, to be agreed on. `loader` is NULL on a rank that holds nothing; first and end: its layers, for the
 * watchdog. Collective. */
cdp_status cdp_loading_run(cdp_world *world, cdp_loader *loader, int first_layer, int end_layer);
