/* The program twin_cdpipe: cdpipe on a processor that has the matrix unit, which is its twin (AVX2 is
 * needed). Every call of these two functions from another file comes here (the linker's --wrap). TWIN_REFUSED
 * in the environment: the kernel refuses the tiles. */
#include <stdlib.h>

#include "kernels/device.h"

cdp_cpu_tier __real_cdp_cpu_best_tier(void);
cdp_cpu_tier __wrap_cdp_cpu_best_tier(void);
bool __wrap_cdp_cpu_has_amx(void);

bool __wrap_cdp_cpu_has_amx(void) {
    return true;
}

cdp_cpu_tier __wrap_cdp_cpu_best_tier(void) {
    const cdp_cpu_tier here = __real_cdp_cpu_best_tier();
    if (getenv("TWIN_REFUSED") != NULL)
        return here < CDP_TIER_AVX512 ? here : CDP_TIER_AVX512;
    return here < CDP_TIER_AVX2 ? here : CDP_TIER_AMX;
}
