/* The AVX2 tier: 8 lanes, FMA, F16C. Compiled with those flags, chosen at run time. */
#if defined(__AVX2__)
#define TIER_OPS cdp_ops_avx2
#define TIER_NAME "avx2"
#include "kernels/cpu/tier.h"
#endif
