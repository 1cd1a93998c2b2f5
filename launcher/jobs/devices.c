/* devices: what cdpipe sees on this machine, and under mpirun which rank gets what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu.h"
#include "launcher/jobs/devices.h"
#include "launcher/jobs/jobs.h"
#include "launcher/place.h"
#include "launcher/streams.h"
#include "launcher/visible.h"
#include "planner/json.h"

void cdp_print_quoted(const char *text) {
    cdp_json_write_quoted(stdout, text, strlen(text));
}

/* A GPU as it is shown: what cannot be asked stays empty, with the reason. */
typedef struct gpu_line {
    cdp_gpu gpu;
    uint64_t free_bytes;
    char why[256]; /* "" when free_bytes is known */
} gpu_line;

static gpu_line look_at(int index) {
    gpu_line line = {0};
    cdp_status st = cdp_gpu_read(&line.gpu, index);
    if (st == CDP_OK)
        st = cdp_gpu_free_bytes(&line.free_bytes, index);
    if (st != CDP_OK)
        snprintf(line.why, sizeof line.why, "%s", cdp_error_message());
    cdp_error_clear();
    return line;
}

static void print_gpu_json(const gpu_line *line) {
    const cdp_gpu *g = &line->gpu;
    printf("{\"id\": %d, \"name\": ", g->index);
    cdp_print_quoted(g->name);
    printf(", \"total_bytes\": %llu, \"free_bytes\": ", (unsigned long long)g->total_bytes);
    if (line->why[0] == '\0')
        printf("%llu", (unsigned long long)line->free_bytes);
    else
        printf("null");
    printf(", \"compute_capability\": \"%d.%d\", \"multiprocessors\": %d, \"bus\": \"%s\", \"uuid\": \"%s\", "
           "\"note\": ",
           g->major, g->minor, g->n_sms, g->bus, g->uuid);
    cdp_print_quoted(line->why); /* "" for a GPU that can be used */
    printf("}");
}

static void print_version_json(const char *key, int version) {
    if (version > 0)
        printf("\"%s\": \"%d.%d\"", key, version / 1000, version % 1000 / 10);
    else
        printf("\"%s\": null", key);
}

/* All but the closing brace: the ring may follow. */
static void print_json(int n_gpus, const char *why, int n_threads) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    const cdp_cuda_versions v = cdp_cuda_versions_of();
    printf("{\"cuda_visible_devices\": ");
    if (visible != NULL)
        cdp_print_quoted(visible);
    else
        printf("null");
    printf(", \"cuda\": {");
    print_version_json("build", v.build);
    printf(", ");
    print_version_json("runtime", v.runtime);
    printf(", ");
    print_version_json("driver", v.driver);
    printf(", \"note\": ");
    cdp_print_quoted(why);
    printf("}, \"gpus\": [");
    for (int i = 0; i < n_gpus; i++) {
        const gpu_line line = look_at(i);
        printf("%s", i > 0 ? ", " : "");
        print_gpu_json(&line);
    }
    printf("], \"cpu\": {\"name\": ");
    cdp_print_quoted(cdp_cpu_model_name());
    printf(", \"cores\": %d, \"threads\": %d, \"tiers\": [", cdp_cpu_usable_cores(), n_threads);
    for (int t = CDP_TIER_PLAIN; t <= (int)cdp_cpu_best_tier(); t++)
        printf("%s\"%s\"", t > 0 ? ", " : "", cdp_cpu_tier_name((cdp_cpu_tier)t));
    printf("], \"free_bytes\": %llu}", (unsigned long long)cdp_cpu_free_bytes());
}

static void print_gpu(const gpu_line *line) {
    const cdp_gpu *g = &line->gpu;
    printf("  GPU %-4d %s, %.2f GiB", g->index, g->name, (double)g->total_bytes / 0x1p30);
    if (line->why[0] == '\0')
        printf(", %.2f GiB free", (double)line->free_bytes / 0x1p30);
    printf(", compute capability %d.%d, %d multiprocessors, bus %s, %s\n", g->major, g->minor, g->n_sms,
           g->bus, g->uuid);
    if (line->why[0] != '\0')
        printf("           cannot be used: %s\n", line->why);
}

static void print_cuda(void) {
    const cdp_cuda_versions v = cdp_cuda_versions_of();
    if (v.build == 0)
        return;
    printf("  CUDA                  runtime %d.%d, ", v.runtime / 1000, v.runtime % 1000 / 10);
    if (v.driver > 0)
        printf("driver for up to %d.%d\n", v.driver / 1000, v.driver % 1000 / 10);
    else
        printf("no driver\n");
}

static void print_banner(int n_gpus, const char *why) {
    char visible[256];
    printf("GPU configuration\n");
    printf("  CUDA_VISIBLE_DEVICES  %s\n",
           cdp_visible_words(visible, sizeof visible, getenv("CUDA_VISIBLE_DEVICES")));
    print_cuda();
    if (n_gpus > 0)
        printf("  GPU count             %d\n", n_gpus);
    else
        printf("  GPU count             0 (%s)\n", why);
    if (n_gpus > 0 && why[0] != '\0')
        printf("  warning               %s\n", why);
    for (int i = 0; i < n_gpus; i++) {
        const gpu_line line = look_at(i);
        print_gpu(&line);
    }
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

/* Why there are none, or that there are fewer than the variable names: CUDA does not say so. */
static void count_gpus(int *out, char *why, size_t why_size) {
    cdp_gpu_count(out, why, why_size);
    if (*out > 0 && cdp_visible_check(getenv("CUDA_VISIBLE_DEVICES"), *out) != CDP_OK)
        snprintf(why, why_size, "%s", cdp_error_message());
    cdp_error_clear();
}

cdp_status cdp_job_devices(cdp_options *options, cdp_world *world) {
    const bool speaks = world == NULL || cdp_world_rank(world) == 0;
    int n_gpus = 0;
    char why[512] = "";
    if (speaks)
        count_gpus(&n_gpus, why, sizeof why);
    cdp_core_share cores;
    cdp_status st = cdp_place_cores(&cores, options, world);
    if (st != CDP_OK)
        return st;
    if (speaks && options->json)
        print_json(n_gpus, why, cores.n);
    else if (speaks)
        print_banner(n_gpus, why);
    if (world != NULL && cdp_world_size(world) > 1) {
        fflush(stdout); /* what is known is shown, whatever the ring says */
        st = cdp_devices_ring(options, world);
    }
    if (speaks && options->json)
        printf("}\n");
    if (fflush(stdout) != 0 && st == CDP_OK)
        st = cdp_stream_failed("the result");
    return st;
}
