#include "launcher/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/visible.h"

enum { CHUNK_CPU = 128, CHUNK_GPU = 512 };

/* What every rank brings, to know the ranks of its host. */
typedef struct neighbour {
    int host_leader;
    cdp_cores cores;
} neighbour;

static void share_host(cdp_core_share *out, const neighbour *all, int size, int rank, cdp_cores *local) {
    int n = 0, mine = 0, core_of[CPU_SETSIZE];
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (int i = 0; i < size; i++) {
        if (all[i].host_leader != all[rank].host_leader)
            continue;
        mine = i == rank ? n : mine;
        local[n++] = all[i].cores;
        CPU_OR(&cpus, &cpus, &all[i].cores.mask);
    }
    cdp_cores_topology(core_of, &cpus, /*root=*/"");
    cdp_cores_share(out, local, n, mine, core_of);
}

cdp_status cdp_place_cores(cdp_core_share *out, const cdp_options *options, cdp_world *world) {
    const int size = world != NULL ? cdp_world_size(world) : 1;
    const int rank = world != NULL ? cdp_world_rank(world) : 0;
    neighbour mine = {0}, *all = calloc((size_t)size, sizeof *all);
    cdp_cores *local = calloc((size_t)size, sizeof *local);
    cdp_status st =
        all != NULL && local != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d ranks", size);
    if (world != NULL)
        CDP_TRY_GOTO(cdp_world_agree(world, st), st, done);
    if (st != CDP_OK)
        goto done;
    cdp_cores_read(&mine.cores, /*root=*/"");
    mine.host_leader = world != NULL ? cdp_world_host_leader(world) : 0;
    all[0] = mine;
    if (world != NULL)
        CDP_TRY_GOTO(cdp_world_gather(world, all, &mine, sizeof mine), st, done);
    share_host(out, all, size, rank, local);
    if (options->threads > 0)
        cdp_cores_ask(out, options->threads, &mine.cores.mask);
done:
    free(local);
    free(all);
    return st;
}

int cdp_place_chunk(const cdp_options *options, cdp_device_kind kind) {
    return options->chunk > 0 ? options->chunk : kind == CDP_DEVICE_CUDA ? CHUNK_GPU : CHUNK_CPU;
}

cdp_status cdp_place_tier(cdp_cpu_tier *out, const cdp_options *options) {
    *out = cdp_cpu_best_tier();
    if (strcmp(options->cpu_tier, "auto") == 0) {
        if (*out < CDP_TIER_AMX && cdp_cpu_has_amx())
            cdp_note(
                "this processor has AMX, but its tiles are refused (by the kernel, or a sandbox): %s is used",
                cdp_cpu_tier_name(*out));
        return CDP_OK;
    }
    for (int t = CDP_TIER_PLAIN; t < CDP_N_TIERS; t++)
        if (strcmp(options->cpu_tier, cdp_cpu_tier_name((cdp_cpu_tier)t)) == 0) {
            if (t > (int)*out && t == CDP_TIER_AMX && cdp_cpu_has_amx())
                return cdp_fail(CDP_UNAVAILABLE,
                                "--cpu-tier amx: this processor (%s) has AMX, but its tiles are refused (by "
                                "the kernel, or a sandbox): it has %s at most",
                                cdp_cpu_model_name(), cdp_cpu_tier_name(*out));
            if (t > (int)*out)
                return cdp_fail(CDP_UNAVAILABLE, "--cpu-tier %s: this processor (%s) has %s at most",
                                options->cpu_tier, cdp_cpu_model_name(), cdp_cpu_tier_name(*out));
            *out = (cdp_cpu_tier)t;
        }
    return CDP_OK;
}

/* The kind -------------------------------------------------------------------------------------------- */

/* The N of --device cuda:N, or of --device-id, which goes before; -1: not given. */
static int index_asked(const cdp_options *o) {
    if (o->device_id >= 0)
        return o->device_id;
    return o->device != NULL && strncmp(o->device, "cuda:", 5) == 0 ? atoi(o->device + 5) : -1;
}

/* "cpu", "cuda", "cuda:N"; *asks_gpu_out: the words mean a GPU. */
static cdp_status check_words(const cdp_options *o, const cdp_world *world, bool *asks_gpu_out) {
    const int size = world != NULL ? cdp_world_size(world) : 1;
    *asks_gpu_out = o->device_id >= 0 || o->num_gpus != 0;
    if (o->device != NULL) {
        const size_t n_digits = strncmp(o->device, "cuda:", 5) == 0 ? strspn(o->device + 5, "0123456789") : 0;
        const bool has_index = n_digits > 0 && n_digits < 5 && o->device[5 + n_digits] == '\0';
        *asks_gpu_out = strcmp(o->device, "cuda") == 0 || has_index;
        if (!*asks_gpu_out && strcmp(o->device, "cpu") != 0) {
            char shown[128];
            return cdp_fail(CDP_USAGE, "--device is \"%s\", expected cuda, cuda:N or cpu",
                            cdp_escape(shown, sizeof shown, o->device, strlen(o->device)));
        }
        if (has_index && size > 1)
            return cdp_fail(CDP_USAGE, "--device %s names one GPU, but there are %d ranks: use --device cuda",
                            o->device, size);
    }
    if (o->device_id >= 0 && size > 1)
        return cdp_fail(CDP_USAGE, "--device-id %d names one GPU, but there are %d ranks", o->device_id,
                        size);
    return CDP_OK;
}

cdp_status cdp_place_kind(cdp_device_kind *out, const cdp_options *options, const cdp_world *world) {
    bool asks_gpu;
    int n_shown = 0;
    char why[160];
    *out = CDP_DEVICE_CPU;
    CDP_TRY(check_words(options, world, &asks_gpu));
    if (!asks_gpu && options->device != NULL)
        return CDP_OK; /* the CPU was asked for: what else is there is nobody's business */
    cdp_gpu_count(&n_shown, why, sizeof why);
    if (n_shown > 0)
        *out = CDP_DEVICE_CUDA;
    if (!asks_gpu && n_shown == 0)
        return CDP_OK;
    /* Where there is no driver nobody has looked at the list: only its looks can be judged. */
    const bool was_read = n_shown > 0 || cdp_cuda_versions_of().driver > 0;
    CDP_TRY(cdp_visible_check(getenv("CUDA_VISIBLE_DEVICES"), was_read ? n_shown : INT32_MAX));
    return n_shown > 0 ? CDP_OK : cdp_fail(CDP_UNAVAILABLE, "no GPU: %s (--device cpu works)", why);
}

/* This rank's GPU ------------------------------------------------------------------------------------- */

static cdp_status check_index(int index, int n_shown) {
    return index < n_shown
               ? CDP_OK
               : cdp_fail(CDP_UNAVAILABLE, "GPU %d is not there: %d GPU%s visible, counted from 0", index,
                          n_shown, n_shown == 1 ? " is" : "s are");
}

static cdp_status choose_gpu(int *out, const cdp_options *o, const cdp_world *world) {
    int n_shown = 0;
    char why[160];
    cdp_gpu_count(&n_shown, why, sizeof why);
    const int asked = index_asked(o), local = world != NULL ? cdp_world_local_rank(world) : 0;
    *out = asked >= 0 ? asked : 0;
    if (n_shown == 0)
        return cdp_fail(CDP_UNAVAILABLE, "no GPU: %s (--device cpu works)", why);
    if (asked >= 0 || n_shown == 1)
        return check_index(*out, n_shown);
    if (local >= n_shown && !o->allow_shared_gpu)
        return cdp_fail(
            CDP_UNAVAILABLE,
            "%d ranks on %s, but %d GPUs are visible: start %d, or --num-gpus %d leaves the others "
            "idle",
            cdp_world_local_size(world), cdp_world_host(world), n_shown, n_shown, n_shown);
    *out = local % n_shown;
    return CDP_OK;
}

cdp_status cdp_place_choose(cdp_choice *out, const cdp_options *options, const cdp_world *world,
                            cdp_device_kind kind) {
    int index;
    *out = (cdp_choice){.kind = kind};
    if (kind == CDP_DEVICE_CPU)
        return CDP_OK;
    if (options->num_gpus > 0 && world != NULL && cdp_world_rank(world) >= options->num_gpus) {
        out->is_idle = true;
        return CDP_OK;
    }
    CDP_TRY(choose_gpu(&index, options, world));
    return cdp_gpu_read(&out->gpu, index);
}

/* Who has which GPU: equal on all ranks of one host are the host's name and the UUID. */
typedef struct holder {
    char host[64], uuid[48];
} holder;

static bool is_same_gpu(const holder *a, const holder *b) {
    return a->uuid[0] != '\0' && strcmp(a->uuid, b->uuid) == 0 && strcmp(a->host, b->host) == 0;
}

static cdp_status judge_share(int *n_sharing_out, const cdp_options *o, const holder *all, int size,
                              int rank) {
    for (int i = 0; i < size; i++)
        for (int j = i + 1; j < size; j++)
            if (is_same_gpu(&all[i], &all[j]) && !o->allow_shared_gpu)
                return cdp_fail(
                    CDP_UNAVAILABLE,
                    "ranks %d and %d both got GPU %s of %s: one rank a GPU (--allow-shared-gpu, for "
                    "tests, lets them share)",
                    i, j, all[i].uuid, all[i].host);
    for (int i = 0; i < size; i++)
        *n_sharing_out += i != rank && is_same_gpu(&all[i], &all[rank]) ? 1 : 0;
    return CDP_OK;
}

cdp_status cdp_place_share(int *n_sharing_out, const cdp_options *options, cdp_world *world,
                           const cdp_choice *choice) {
    const int size = cdp_world_size(world);
    holder mine = {0}, *all = calloc((size_t)size, sizeof *all);
    *n_sharing_out = 1;
    snprintf(mine.host, sizeof mine.host, "%s", cdp_world_host(world));
    snprintf(mine.uuid, sizeof mine.uuid, "%s", choice->gpu.uuid);
    CDP_TRY(
        cdp_world_agree(world, all != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for %d ranks", size)));
    cdp_status st = cdp_world_gather(world, all, &mine, sizeof mine);
    if (st == CDP_OK)
        st = judge_share(n_sharing_out, options, all, size, cdp_world_rank(world));
    free(all);
    return st;
}

/* The place ------------------------------------------------------------------------------------------- */

void cdp_place_fill(cdp_place *out, const cdp_choice *choice, int n_threads, cdp_cpu_tier tier,
                    uint64_t free_bytes, int n_sharing) {
    *out = (cdp_place){.free_bytes = free_bytes / (uint64_t)n_sharing};
    if (choice->is_idle) {
        snprintf(out->name, sizeof out->name, "none");
        snprintf(out->label, sizeof out->label, "left out by --num-gpus");
    } else if (choice->kind == CDP_DEVICE_CUDA) {
        snprintf(out->name, sizeof out->name, "cuda:%d", choice->gpu.index);
        snprintf(out->label, sizeof out->label, "GPU %d %s", choice->gpu.index, choice->gpu.name);
    } else {
        snprintf(out->name, sizeof out->name, "cpu");
        snprintf(out->label, sizeof out->label, "CPU %d thread%s, %s", n_threads, n_threads == 1 ? "" : "s",
                 cdp_cpu_tier_name(tier));
    }
}

static cdp_status list_gpu(cdp_place *out, int index) {
    cdp_choice choice = {.kind = CDP_DEVICE_CUDA};
    uint64_t free_bytes;
    CDP_TRY(cdp_gpu_read(&choice.gpu, index));
    CDP_TRY(cdp_gpu_free_bytes(&free_bytes, index));
    cdp_place_fill(out, &choice, 0, CDP_TIER_PLAIN, free_bytes, 1);
    return CDP_OK;
}

cdp_status cdp_place_list(cdp_place *places, int room, int *n_out, cdp_device_kind *kind_out,
                          const cdp_options *options) {
    int n_shown = 0;
    char why[160];
    *n_out = 0;
    CDP_TRY(cdp_place_kind(kind_out, options, NULL));
    if (*kind_out == CDP_DEVICE_CPU) {
        cdp_cpu_tier tier;
        CDP_TRY(cdp_place_tier(&tier, options));
        *n_out = 1;
        cdp_core_share cores;
        CDP_TRY(cdp_place_cores(&cores, options, NULL));
        cdp_place_fill(places, &(cdp_choice){.kind = CDP_DEVICE_CPU}, cores.n, tier, cdp_cpu_free_bytes(), 1);
        return CDP_OK;
    }
    cdp_gpu_count(&n_shown, why, sizeof why);
    const int asked = index_asked(options);
    if (asked >= 0) {
        *n_out = 1;
        CDP_TRY(check_index(asked, n_shown));
        return list_gpu(places, asked);
    }
    for (; *n_out < n_shown && *n_out < room; ++*n_out)
        CDP_TRY(list_gpu(&places[*n_out], *n_out));
    return CDP_OK;
}

cdp_status cdp_place_n_gpus(int *out, const cdp_options *options) {
    int n_shown = 0;
    char why[160];
    cdp_device_kind kind;
    *out = 0;
    if (options->num_gpus == 0)
        return CDP_OK;
    CDP_TRY(cdp_place_kind(&kind, options, NULL)); /* asks for GPUs: an error where there is none */
    cdp_gpu_count(&n_shown, why, sizeof why);
    *out = options->num_gpus > 0 ? options->num_gpus : n_shown;
    return *out <= n_shown ? CDP_OK
                           : cdp_fail(CDP_UNAVAILABLE, "--num-gpus %d, but %d GPU%s visible", *out, n_shown,
                                      n_shown == 1 ? " is" : "s are");
}
