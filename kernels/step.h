/* kernels/step.h - a step: one micro-batch on its way round the ring. Plain facts that all may read.
 *
 *     rows      {slot, position, token, wants_home}   one a token; a prompt chunk is many rows of one slot
 *     slots     {slot, rope_list}                     the sequences that appear in the rows
 *     commands  append, copy, free KV blocks          what happened to block tables since the last step
 *
 * Rank 0 decides everything; the stages only keep the tables that the commands describe. So fork, rollback
 * and speculation need no other protocol. `slot` numbers a sequence's place in the block tables; the place of
 * the step itself in the ring is `id` modulo the number of steps in flight.
 */
#pragma once

#include <stdint.h>

typedef struct cdp_row {
    int32_t slot;       /* sequence */
    int32_t position;   /* in its sequence, from 0 */
    int32_t token;      /* id; only rank 0 reads it */
    int32_t wants_home; /* 1: rank 0 wants this row's logits */
} cdp_row;

typedef struct cdp_step_slot {
    int32_t slot;
    int32_t rope_list; /* longrope: 0 short, 1 long, chosen once per request; else 0 */
} cdp_step_slot;

typedef enum cdp_kv_verb {
    CDP_KV_APPEND, /* table[slot][index] = block */
    CDP_KV_COPY,   /* copy the contents of block `from` to `block`, in every layer */
    CDP_KV_FREE,   /* forget the table of `slot` */
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
    cdp_row *rows;
    cdp_step_slot *slots;
    cdp_kv_command *commands;
} cdp_step;
