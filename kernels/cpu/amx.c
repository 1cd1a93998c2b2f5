/* The AMX tier: bf16 weights on the matrix unit, all else as the AVX-512 tier. Compiled with those flags,
 * chosen at run time where the processor has the unit and the kernel permits it (host.c). */
#if defined(__AMX_BF16__) || defined(CDP_TILES_TWIN)
#define TIER_HAS_TILES
#ifndef TIER_OPS
#define TIER_OPS cdp_ops_amx
#define TIER_NAME "amx"
#endif
#include "kernels/cpu/tier.h"
#endif
