/* launcher/engine/schedule_parts.h - what schedule.c (who is at work) and schedule_step.c (what stands in the
 * next step) share.
 */
#pragma once

#include "launcher/engine/chunk.h"
#include "launcher/engine/schedule.h"

enum { NO_SLOT = -1 };

typedef struct sequence {
    cdp_request request;
    uint64_t order;  /* of submission: the older one goes first */
    int32_t *tokens; /* (limit) prompt, then answer */
    int n_tokens;    /* known */
    int n_fed;       /* in the KV cache, or on the way there */
    int n_heard;     /* rows whose logits have been handed out: positions below it are never wanted again */
    int n_awaited;   /* home rows on the way */
    int slot;        /* place in the block tables; NO_SLOT while waiting */
    int32_t *blocks; /* (n_blocks) of the cache, in order of position */
    int n_blocks, rope_list;
    bool closes_step; /* its row is the last decoding one of a step that is on the way */
    cdp_tap_set taps;
    int n_taps;
    bool is_cancelled, has_ended;
} sequence;

/* What an ended sequence left behind: it still has its slot, and the stages its block table. */
typedef struct kept_cache {
    int32_t *tokens; /* (n) whose keys and values are there; NULL: nothing is kept */
    int n;
    int32_t *blocks; /* (n_blocks) */
    int n_blocks, slot, rope_list;
} kept_cache;

struct cdp_schedule {
    const cdp_plan *plan;
    const cdp_rope_card *rope;
    cdp_step *step; /* the one being built, the caller's */
    int32_t *free_blocks;
    int64_t n_free_blocks;
    sequence **sequences; /* in order of submission; ended ones leave */
    int n_sequences, room;
    sequence **by_slot; /* (max_batch) */
    int n_tapped;       /* tapped home rows of the step being built */
    int n_layers;
    int n_decoding_steps; /* on the way, with decoding rows */
    bool holds;           /* answers wait */
    cdp_step_cost cost;
    kept_cache kept;
    uint64_t n_submitted, n_put_back, n_reused;
    bool has_said_rope[2]; /* longrope: which list is used */
};

/* Slot and blocks of what was kept, back. */
void cdp_schedule_drop_kept(cdp_schedule *all);

/* Slot and blocks of a sequence back, to wait and be computed again, or because it has ended. */
void cdp_schedule_release(cdp_schedule *all, sequence *s);

/* Ended sequences leave the list; the others keep their order. */
void cdp_schedule_sweep(cdp_schedule *all);
