/* devices under mpirun: which rank gets what, and a test of every link of the ring. */
#include "launcher/jobs/devices.h"

#include <stdio.h>
#include <stdlib.h>

#include "comm/link.h"
#include "launcher/place.h"

enum { TEST_BYTES = 1 << 20 };

/* What a rank tells rank 0. */
typedef struct rank_line {
    cdp_place place;
    char host[64], uuid[48], road[16];
    cdp_link_figures figures;
} rank_line;

typedef struct ring {
    cdp_choice choice;
    cdp_device *device;
    cdp_link *link;
    int n_sharing;
    rank_line mine;
    cdp_core_share cores;
} ring;

#define AGREE(world, call)                                                                                   \
    do {                                                                                                     \
        cdp_status agreed_ = cdp_world_agree((world), (call));                                               \
        if (agreed_ != CDP_OK)                                                                               \
            return agreed_;                                                                                  \
    } while (0)

static cdp_status open_device(ring *r, const cdp_options *o, cdp_world *world) {
    cdp_cpu_tier tier;
    CDP_TRY(cdp_place_tier(&tier, o));
    CDP_TRY(cdp_place_choose(&r->choice, o, world, r->choice.kind));
    if (r->choice.kind == CDP_DEVICE_CUDA)
        return cdp_device_open_cuda(&r->device, &(cdp_cuda_options){.index = r->choice.gpu.index});
    return cdp_device_open_cpu(&r->device,
                               &(cdp_cpu_options){.n_threads = r->cores.n,
                                                  .tier = tier,
                                                  .cpus = r->cores.is_own ? &r->cores.cpus : NULL});
}

static cdp_status find_place(ring *r, const cdp_options *o, cdp_world *world) {
    uint64_t free_bytes = 0;
    cdp_cpu_tier tier;
    CDP_TRY(cdp_place_tier(&tier, o));
    CDP_TRY(cdp_device_free_bytes(r->device, &free_bytes));
    const bool is_cpu = r->choice.kind == CDP_DEVICE_CPU;
    cdp_place_fill(&r->mine.place, &r->choice, r->cores.n, tier, free_bytes,
                   is_cpu ? cdp_world_local_size(world) : r->n_sharing);
    snprintf(r->mine.host, sizeof r->mine.host, "%s", cdp_world_host(world));
    snprintf(r->mine.uuid, sizeof r->mine.uuid, "%s", r->choice.gpu.uuid);
    return CDP_OK;
}

static cdp_status open_link(ring *r, const cdp_options *o, cdp_world *world) {
    const int n = cdp_world_size(world);
    int *active = calloc((size_t)n, sizeof *active);
    AGREE(world, active != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d ranks", n));
    for (int i = 0; i < n; i++)
        active[i] = i;
    const cdp_link_options link = {.device = r->device,
                                   .n_active = n,
                                   .active = active,
                                   .n_seats = 2,
                                   .max_header_bytes = 64,
                                   .max_data_bytes = TEST_BYTES,
                                   .on_gpu = r->choice.kind == CDP_DEVICE_CUDA,
                                   .road = o->road,
                                   .timeout_s = 60};
    const cdp_status st = cdp_link_open(&r->link, world, &link);
    free(active);
    if (st != CDP_OK)
        return st;
    r->mine.figures = cdp_link_figures_of(r->link);
    snprintf(r->mine.road, sizeof r->mine.road, "%s", cdp_link_road(r->link));
    return CDP_OK;
}

static void print_lines(const rank_line *all, int n) {
    for (int i = 0; i < n; i++)
        printf("rank %d on %s: %s%s%s, %.2f GiB free\n", i, all[i].host, all[i].place.label,
               all[i].uuid[0] != '\0' ? ", " : "", all[i].uuid, (double)all[i].place.free_bytes / 0x1p30);
    for (int i = 0; i < n; i++)
        printf("link rank %d -> rank %d: road %s, every byte arrived, %.1f us, %.2f GB/s\n",
               all[i].figures.previous, i, all[i].road, 1e6 * all[i].figures.latency_s,
               1e-9 * all[i].figures.bytes_per_s);
}

static void print_lines_json(const rank_line *all, int n) {
    printf(", \"ranks\": [");
    for (int i = 0; i < n; i++) {
        printf("%s{\"rank\": %d, \"host\": ", i > 0 ? ", " : "", i);
        cdp_print_quoted(all[i].host);
        printf(", \"device\": \"%s\", \"label\": ", all[i].place.name);
        cdp_print_quoted(all[i].place.label);
        printf(", \"uuid\": \"%s\", \"free_bytes\": %llu}", all[i].uuid,
               (unsigned long long)all[i].place.free_bytes);
    }
    printf("], \"links\": [");
    for (int i = 0; i < n; i++)
        printf("%s{\"from\": %d, \"to\": %d, \"road\": \"%s\", \"latency_s\": %.9f, \"bytes_per_s\": %.0f}",
               i > 0 ? ", " : "", all[i].figures.previous, i, all[i].road, all[i].figures.latency_s,
               all[i].figures.bytes_per_s);
    printf("]");
}

static cdp_status show(const ring *r, const cdp_options *o, cdp_world *world) {
    const int n = cdp_world_size(world);
    rank_line *all = calloc((size_t)n, sizeof *all);
    AGREE(world, all != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d ranks", n));
    const cdp_status st = cdp_world_gather(world, all, &r->mine, sizeof r->mine);
    if (st == CDP_OK && cdp_world_rank(world) == 0)
        (o->json ? print_lines_json : print_lines)(all, n);
    free(all);
    return st;
}

static cdp_status open_and_show(ring *r, const cdp_options *o, cdp_world *world) {
    int64_t kind;
    AGREE(world, cdp_place_kind(&r->choice.kind, o, world));
    kind = r->choice.kind;
    CDP_TRY(cdp_world_min(world, &kind));
    r->choice.kind = (cdp_device_kind)kind;
    AGREE(world, cdp_place_cores(&r->cores, o, world));
    AGREE(world, open_device(r, o, world));
    AGREE(world, cdp_place_share(&r->n_sharing, o, world, &r->choice));
    AGREE(world, find_place(r, o, world));
    CDP_TRY(open_link(r, o, world));
    return show(r, o, world);
}

cdp_status cdp_devices_ring(const cdp_options *options, cdp_world *world) {
    ring r = {0};
    const cdp_status st = open_and_show(&r, options, world);
    cdp_link_close(r.link);
    cdp_device_close(r.device);
    return st;
}
