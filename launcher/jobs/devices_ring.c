/* devices under mpirun: which rank gets what, and a test of every link of the ring. */
#include "launcher/jobs/devices.h"

#include <stdio.h>
#include <stdlib.h>

#include "comm/link.h"
#include "launcher/run.h"

enum { TEST_BYTES = 1 << 20 };

/* What a rank tells rank 0. */
typedef struct rank_line {
    cdp_place place;
    char host[64], uuid[48], road[16];
    cdp_link_figures figures;
} rank_line;

static cdp_status open_link(cdp_run *run) {
    int *active = calloc((size_t)run->size, sizeof *active);
    CDP_TRY(cdp_world_agree(
        run->world, active != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d ranks", run->size)));
    for (int i = 0; i < run->size; i++)
        active[i] = i;
    const cdp_link_options link = {.device = run->device,
                                   .n_active = run->size,
                                   .active = active,
                                   .n_seats = 2,
                                   .max_header_bytes = 64,
                                   .max_data_bytes = TEST_BYTES,
                                   .on_gpu = run->choice.kind == CDP_DEVICE_CUDA,
                                   .road = run->options->road,
                                   .timeout_s = 60};
    const cdp_status st = cdp_link_open(&run->link, run->world, &link);
    free(active);
    return st;
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

static cdp_status show(cdp_run *run, const cdp_place *place) {
    rank_line mine = {.place = *place, .figures = cdp_link_figures_of(run->link)};
    snprintf(mine.host, sizeof mine.host, "%s", cdp_world_host(run->world));
    snprintf(mine.uuid, sizeof mine.uuid, "%s", run->choice.gpu.uuid);
    snprintf(mine.road, sizeof mine.road, "%s", cdp_link_road(run->link));
    rank_line *all = calloc((size_t)run->size, sizeof *all);
    CDP_TRY(cdp_world_agree(
        run->world, all != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d ranks", run->size)));
    const cdp_status st = cdp_world_gather(run->world, all, &mine, sizeof mine);
    if (st == CDP_OK && run->rank == 0)
        (run->options->json ? print_lines_json : print_lines)(all, run->size);
    free(all);
    return st;
}

static cdp_status open_and_show(cdp_run *run) {
    cdp_place place;
    CDP_TRY(cdp_run_find_place(run, &place));
    CDP_TRY(cdp_world_agree(run->world, cdp_run_open_cpu(run)));
    CDP_TRY(open_link(run));
    return show(run, &place);
}

cdp_status cdp_devices_ring(cdp_options *options, cdp_world *world) {
    cdp_run run = {
        .options = options, .world = world, .rank = cdp_world_rank(world), .size = cdp_world_size(world)};
    const cdp_status st = open_and_show(&run);
    cdp_run_close(&run);
    return st;
}
