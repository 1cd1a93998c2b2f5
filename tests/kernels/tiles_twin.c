/* The AMX tier with its instructions in plain C (kernels/cpu/tiles.h): the same kernels on any AVX-512
 * processor, so that the tier is right when it first meets a matrix unit. */
#define CDP_TILES_TWIN
#define TIER_OPS cdp_ops_tiles_twin
#define TIER_NAME "amx twin"
#include "kernels/cpu/amx.c"
