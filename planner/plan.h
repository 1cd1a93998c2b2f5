/* planner/plan.h - who holds what: the decision every rank works by, and its three faces: the table for
 * people, JSON out, JSON in. A plan is a pure function of files and numbers; it is a plain struct that rank 0
 * sends to all.
 */
#pragma once

#include "planner/costs.h"
#include "planner/memory.h"
#include "planner/sizes.h"
#include "planner/split.h"
#include <cjson/cJSON.h>

/* A place a stage can live in, as its rank sees it. */
typedef struct cdp_place {
    char name[64];       /* "cuda:0" or "cpu" */
    char label[96];      /* for people: "GPU 0 NVIDIA L40S", "CPU 8 threads, avx512" */
    uint64_t free_bytes; /* measured before anyone allocates, or given by --gpus */
} cdp_place;

typedef struct cdp_plan_request {
    int n_places; /* ranks, or the GPUs of --gpus */
    cdp_place places[CDP_MAX_RANKS];
    int max_ranks;          /* --num-gpus: the first so many with a budget; 0: all */
    double memory_fraction; /* of free: 0.85 */
    int n_budgets;          /* --max-gpu-memory: 0 none, 1 for all, or n_places */
    cdp_size budgets[CDP_MAX_RANKS];
    const char *device_map; /* auto | balanced | balanced_low_0 | sequential | 10,12,10 | FILE.json */
    cdp_run_shape run;      /* ctx and max_batch wanted; 0: the largest that fits */
    cdp_costs costs;        /* measured times for `auto`; no stages: none */
    bool ctx_is_limit;      /* ctx is a wish (batch, chat): take what fits and say so, else refuse */
} cdp_plan_request;

typedef struct cdp_stage_plan {
    cdp_place place;
    int first_layer, end_layer;
    bool has_vocab, is_idle;
    uint64_t budget_bytes;
    cdp_stage_bytes bytes;
    double step_ms; /* by the costs given, else 0 */
} cdp_stage_plan;

typedef struct cdp_plan {
    char policy[32];   /* as asked: "auto", "sequential", "10,12,10", or the map file */
    cdp_run_shape run; /* ctx and max_batch as settled; n_ranks: that may take part, idle ones too */
    bool fits;
    int64_t n_blocks;          /* KV blocks that every stage holds for its layers */
    uint64_t bottleneck_bytes; /* largest total of a stage */
    double bottleneck_ms;      /* largest time of a stage where costs were given, else 0 */
    int n_stages;              /* ranks of the world, idle ones too */
    int n_active; /* ranks 0..n_active-1 of the ring are those that are not idle, in rank order */
    cdp_stage_plan stages[CDP_MAX_RANKS];
} cdp_plan;

/* Decide. A plan that does not fit is returned with fits = false and CDP_OK, so that it can be shown; call
 * cdp_plan_demand_fit to refuse it. CDP_USAGE for a wrong request, CDP_BAD_MODEL for a broken map file. */
cdp_status cdp_plan_make(cdp_plan *out, const cdp_model_card *card, const cdp_plan_request *request);

/* CDP_UNAVAILABLE with what is missing per stage and the nearest values that would fit (--ctx, --max-batch,
 * more budget, one more GPU); CDP_OK when it fits. */
cdp_status cdp_plan_demand_fit(const cdp_plan *plan, const cdp_model_card *card,
                               const cdp_plan_request *request);

/* The JSON object of the command plan; the caller deletes it. NULL: no memory. */
cJSON *cdp_plan_json(const cdp_plan *plan, const cdp_model_card *card);

/* What a stage holds, for people: "idle", "vocab", "layers 8-15" or "vocab, layers 0-7", in out. */
const char *cdp_stage_holds(char *out, size_t out_size, const cdp_stage_plan *stage);

/* The table for people (one `#` line a stage) and the device map, by cdp_note. Layer ranges are inclusive. */
void cdp_plan_print(const cdp_plan *plan, const cdp_model_card *card);

/* Write the plan's JSON to `path` (temp file and rename); an existing file must be a regular one. CDP_IO. */
cdp_status cdp_plan_save(const cdp_plan *plan, const cdp_model_card *card, const char *path);

/* Layer counts from a map file (ours, or accelerate style {"model.layers.0": 0, ...}); counts (n_ranks).
 * Not contiguous, a layer missed or a GPU that is not there: CDP_BAD_MODEL by name. */
cdp_status cdp_device_map_read(int *counts, int n_ranks, int n_layers, const char *path);
