/* planner/sizes.h - "20GiB", "1.5GB", "85%", "3x24GiB": sizes as people write them. */
#pragma once

#include "kernels/status.h"
#include <stdint.h>

/* A budget: bytes, or a share of the free memory. */
typedef struct cdp_size {
    bool is_share;
    double share;   /* 0..1, when is_share */
    uint64_t bytes; /* when not */
} cdp_size;

/* GiB MiB KiB TiB and a bare T G M K count by 1024, TB GB MB KB by 1000 (any case), but a small final b after
 * a unit ("20Gb", "20gb") means bits elsewhere and is refused with that advice. "85%" is a share, "0" means:
 * do not use this GPU, a bare number of digits is bytes. White space around and before the unit is fine. NaN,
 * inf, negative, overflow, anything else: CDP_USAGE. */
cdp_status cdp_size_parse(cdp_size *out, const char *text);

/* A comma list, entries may be "3x24GiB". *n_out entries, at most max. CDP_USAGE when broken or too long. */
cdp_status cdp_size_parse_list(cdp_size *out, int max, int *n_out, const char *text);

/* "20.00 GiB" into out; what is less in MiB, KiB or "512 bytes". */
const char *cdp_size_text(char *out, size_t out_size, uint64_t bytes);
