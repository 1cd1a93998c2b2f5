/* The tier for any processor: 16-byte generic vectors (SSE2, NEON or plain C, as the compiler has them). */
#define TIER_OPS cdp_ops_plain
#define TIER_NAME "plain"
#include "kernels/cpu/tier.h"
