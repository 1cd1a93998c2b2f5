/* devices: what cdpipe sees on this machine, and under mpirun which rank gets what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/jobs/jobs.h"
#include "launcher/place.h"
#include "planner/json.h"

static void print_json(const cdp_options *o, int n_threads) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    printf("{\"cuda_visible_devices\": ");
    if (visible != NULL) {
        printf("\"");
        cdp_json_write_string(stdout, visible, strlen(visible));
        printf("\"");
    } else {
        printf("null");
    }
    printf(", \"gpus\": [], \"cpu\": {\"name\": \"");
    cdp_json_write_string(stdout, cdp_cpu_model_name(), strlen(cdp_cpu_model_name()));
    printf("\", \"cores\": %d, \"threads\": %d, \"tiers\": [", cdp_cpu_usable_cores(), n_threads);
    for (int t = CDP_TIER_PLAIN; t <= (int)cdp_cpu_best_tier(); t++)
        printf("%s\"%s\"", t > 0 ? ", " : "", cdp_cpu_tier_name((cdp_cpu_tier)t));
    printf("], \"free_bytes\": %llu}}\n", (unsigned long long)cdp_cpu_free_bytes());
    (void)o;
}

static void print_banner(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    printf("GPU configuration\n");
    printf("  CUDA_VISIBLE_DEVICES  %s\n", visible != NULL ? visible : "not set");
    printf("  GPU count             0 (this build computes on the CPU)\n");
    printf("CPU\n");
    printf("  model                 %s\n", cdp_cpu_model_name());
    printf("  cores usable          %d\n", cdp_cpu_usable_cores());
    printf("  instruction tiers    ");
    for (int t = CDP_TIER_PLAIN; t <= (int)cdp_cpu_best_tier(); t++)
        printf(" %s", cdp_cpu_tier_name((cdp_cpu_tier)t));
    printf("%s\n", cdp_cpu_has_amx() && cdp_cpu_best_tier() != CDP_TIER_AMX
                       ? " (amx is there, but the kernel refuses its tiles)"
                       : "");
    printf("  memory free           %.2f GiB\n", (double)cdp_cpu_free_bytes() / 0x1p30);
}

/* One line a rank, gathered to rank 0. */
static cdp_status print_ranks(const cdp_options *o, cdp_world *world) {
    cdp_place mine;
    cdp_cpu_tier tier;
    char line[256] = "";
    const int size = cdp_world_size(world), n_threads = cdp_place_threads(o, world);
    CDP_TRY(cdp_place_tier(&tier, o));
    CDP_TRY(cdp_place_find(&mine, o, world, n_threads, tier));
    snprintf(line, sizeof line, "rank %d on %.64s: %s, %.2f GiB free", cdp_world_rank(world),
             cdp_world_host(world), mine.label, (double)mine.free_bytes / 0x1p30);
    char *all = calloc((size_t)size, sizeof line);
    if (all == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d ranks", size);
    const cdp_status st = cdp_world_gather(world, all, line, sizeof line);
    for (int i = 0; st == CDP_OK && cdp_world_rank(world) == 0 && !o->json && i < size; i++)
        printf("%s\n", all + (size_t)i * sizeof line);
    free(all);
    return st;
}

cdp_status cdp_job_devices(const cdp_options *options, cdp_world *world) {
    const bool speaks = world == NULL || cdp_world_rank(world) == 0;
    if (speaks && options->json)
        print_json(options, cdp_place_threads(options, world));
    else if (speaks)
        print_banner();
    cdp_status st = world != NULL && cdp_world_size(world) > 1 ? print_ranks(options, world) : CDP_OK;
    if (world != NULL)
        st = cdp_world_agree(world, st);
    if (st == CDP_OK && fflush(stdout) != 0)
        st = cdp_fail(CDP_IO, "writing the result failed");
    return st;
}
