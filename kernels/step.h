/* kernels/step.h - a step: one micro-batch on its way round the ring. Plain facts that all may read.
 *
 *     rows      {slot, position, token, wants_home}   one a token; a prompt chunk is many rows of one slot
 *     slots     {slot, rope_list, tap set}            the sequences that appear in the rows
 *     commands  append, copy KV blocks                what happened to block tables since the last step
 *
 * Rank 0 decides everything; the stages only keep the tables that the commands describe. So fork, rollback
 * and speculation need no other protocol. `slot` numbers a sequence's place in the block tables; the step
 * itself sits in seat `id` modulo the number of steps in flight.
 *
 * Taps. State s of a row is what enters layer s: state 0 leaves the embedding, state s the layer s-1. A home
 * row brings the last state, which leaves the last layer, and also those that its sequence's tap set names:
 *
 *     embed -> state 0 -> [layer 0] -> state 1 -> ... -> state n_layers-1 -> [last layer] -> home
 *
 * Tapped rows travel behind the hidden rows, sorted by state and, within a state, as the rows of the step;
 * each stage picks the states that enter its own layers, and the last one adds the home rows behind them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { CDP_MAX_STATES = 1024, CDP_TAP_WORDS = CDP_MAX_STATES / 32 };

/* A set of states, a bit each; all zero taps nothing. */
typedef struct cdp_tap_set {
    uint32_t words[CDP_TAP_WORDS];
} cdp_tap_set;

static inline bool cdp_taps_has(const cdp_tap_set *set, int state) {
    return (set->words[state / 32] >> (state % 32) & 1u) != 0;
}
static inline void cdp_taps_add(cdp_tap_set *set, int state) {
    set->words[state / 32] |= 1u << (state % 32);
}
/* States of the set in [first, end). */
int cdp_taps_count(const cdp_tap_set *set, int first, int end);

typedef struct cdp_row {
    int32_t slot;       /* sequence */
    int32_t position;   /* in its sequence, from 0 */
    int32_t token;      /* id; only rank 0 reads it */
    int32_t wants_home; /* 1: rank 0 wants this row's logits */
} cdp_row;

/* How rank 0's head takes the tapped rows of a sequence; the last state always goes the model's own way. */
enum {
    CDP_HEAD_NO_NORM = 1,  /* without the final norm */
    CDP_HEAD_NO_SCALE = 2, /* without the logit scale */
    CDP_HEAD_LAZY = 4,     /* the two deepest states, then only what is asked for */
    CDP_HEAD_HIDDEN = 8,   /* the last state too: its hidden row comes along with its logits */
};

typedef struct cdp_step_slot {
    int32_t slot;
    int32_t rope_list; /* longrope: 0 short, 1 long, chosen once per request; else 0 */
    cdp_tap_set taps;  /* what its home rows bring along; looked at where the step has tap words */
    int32_t head;      /* CDP_HEAD_ bits; only rank 0 reads them, they do not travel */
} cdp_step_slot;

typedef enum cdp_kv_verb {
    CDP_KV_APPEND, /* table[slot][index] = block */
    CDP_KV_COPY,   /* copy the contents of block `from` to `block`, in every layer */
    CDP_N_KV_VERBS,
} cdp_kv_verb;

typedef struct cdp_kv_command {
    int32_t verb;  /* cdp_kv_verb */
    int32_t group; /* block group; 0 is the only one today */
    int32_t slot, index, block, from;
} cdp_kv_command;

typedef enum cdp_step_kind {
    CDP_STEP_RUN,
    CDP_STEP_MARK, /* no rows: every rank notes how its time went so far */
    CDP_STEP_STOP, /* no rows: the job is over */
} cdp_step_kind;

typedef struct cdp_step {
    uint64_t id; /* 0, 1, 2, ...: the order on every rank */
    int32_t kind;
    int32_t n_rows, n_home, n_slots, n_commands; /* n_home: rows that want home */
    int32_t n_tap_words; /* words of each tap set that are in use; 0: nothing is tapped in this step */
    cdp_row *rows;
    cdp_step_slot *slots;
    cdp_kv_command *commands;
} cdp_step;

/* The slot's entry in step->slots, or NULL. */
const cdp_step_slot *cdp_step_slot_of(const cdp_step *step, int32_t slot);

/* The set by which row `i` is tapped: NULL when it stays, or when nothing of it is tapped. */
const cdp_tap_set *cdp_step_taps_of(const cdp_step *step, int i);

/* Tapped rows of the step with states in [first, end). */
int cdp_step_count_taps(const cdp_step *step, int first, int end);

/* Words that a tap set of a model with so many layers uses. */
static inline int cdp_tap_words(int n_layers) {
    return (n_layers + 31) / 32;
}
