/* A build without NCCL: a road that fits no ring. */
#include "comm/link_road.h"

static const char *unfit(const cdp_link_options *options) {
    return options->on_gpu ? "NCCL was not there when cdpipe was built" : "it connects GPUs";
}

const cdp_road cdp_road_nccl = {.name = "nccl", .is_on_device = true, .unfit = unfit};

void cdp_nccl_versions(int *build_out, int *run_out) {
    *build_out = *run_out = 0;
}
