#include "launcher/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/log.h"

int cdp_place_threads(const cdp_options *options, const cdp_world *world) {
    if (options->threads > 0)
        return options->threads;
    const int n = cdp_cpu_usable_cores() / (world != NULL ? cdp_world_local_size(world) : 1);
    return n < 1 ? 1 : n;
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
            if (t > (int)*out)
                return cdp_fail(CDP_UNAVAILABLE, "--cpu-tier %s: this processor (%s) has %s at most",
                                options->cpu_tier, cdp_cpu_model_name(), cdp_cpu_tier_name(*out));
            *out = (cdp_cpu_tier)t;
        }
    return CDP_OK;
}

/* "cpu", "cuda", "cuda:N"; *is_cuda_out tells which kind is meant. */
static cdp_status check_words(const cdp_options *o, const cdp_world *world, bool *is_cuda_out) {
    *is_cuda_out = o->device_id >= 0 || o->num_gpus != 0;
    if (o->device != NULL) {
        const bool has_index = strncmp(o->device, "cuda:", 5) == 0 && o->device[5] != '\0' &&
                               o->device[5 + strspn(o->device + 5, "0123456789")] == '\0';
        *is_cuda_out = strcmp(o->device, "cuda") == 0 || has_index;
        if (!*is_cuda_out && strcmp(o->device, "cpu") != 0) {
            char shown[128];
            return cdp_fail(CDP_USAGE, "--device is \"%s\", expected cuda, cuda:N or cpu",
                            cdp_escape(shown, sizeof shown, o->device, strlen(o->device)));
        }
        if (has_index && world != NULL && cdp_world_size(world) > 1)
            return cdp_fail(CDP_USAGE, "--device %s names one GPU, but there are %d ranks: use --device cuda",
                            o->device, cdp_world_size(world));
    }
    if (o->device_id >= 0 && world != NULL && cdp_world_size(world) > 1)
        return cdp_fail(CDP_USAGE, "--device-id %d names one GPU, but there are %d ranks", o->device_id,
                        cdp_world_size(world));
    return CDP_OK;
}

cdp_status cdp_place_find(cdp_place *out, const cdp_options *options, const cdp_world *world, int n_threads,
                          cdp_cpu_tier tier) {
    *out = (cdp_place){.name = "cpu"};
    bool is_cuda;
    CDP_TRY(check_words(options, world, &is_cuda));
    if (is_cuda) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        if (visible != NULL && *visible == '\0')
            return cdp_fail(CDP_UNAVAILABLE,
                            "CUDA_VISIBLE_DEVICES is empty: no GPU visible (--device cpu works)");
        return cdp_fail(CDP_UNAVAILABLE, "this build computes on the CPU only: use --device cpu");
    }
    const int n_local = world != NULL ? cdp_world_local_size(world) : 1;
    out->free_bytes = cdp_cpu_free_bytes() / (uint64_t)n_local;
    snprintf(out->label, sizeof out->label, "CPU %d thread%s, %s", n_threads, n_threads == 1 ? "" : "s",
             cdp_cpu_tier_name(tier));
    return CDP_OK;
}
