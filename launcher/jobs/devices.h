/* launcher/jobs/devices.h - the two halves of the command devices. */
#pragma once

#include "comm/world.h"
#include "launcher/options/options.h"

/* Text as a JSON string on stdout. */
void cdp_print_quoted(const char *text);

/* Give every rank its device as a run would, open the ring, and print on rank 0 a line a rank and a line a
 * link with what its test measured; with --json the members "ranks" and "links". Collective; the status is
 * the rank's own. */
cdp_status cdp_devices_ring(cdp_options *options, cdp_world *world);
