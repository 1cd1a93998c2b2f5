/* The AVX-512 tier: 16 lanes, FMA. Compiled with those flags, chosen at run time. */
#if defined(__AVX512F__)
#define TIER_OPS cdp_ops_avx512
#define TIER_NAME "avx512"
#include "kernels/cpu/tier.h"
#endif
