/* launcher/engine/pipeline_inside.h - the seats of a pipeline, for pipeline.c (what happens) and
 * pipeline_wait.c (how to wait for it).
 */
#pragma once

#include "comm/packet.h"
#include "launcher/engine/pipeline.h"
#include "stage/seat.h"

/* A seat's way through a step:
 *
 *     rank 0   FREE -> ON_THE_WAY -> (home rows here) HEAD -> FREE        a step without home rows skips HEAD
 *     others   FREE -> COMING -> (hidden here) ON_THE_WAY -> FREE
 */
typedef enum seat_state { FREE, COMING, ON_THE_WAY, HEAD } seat_state;

typedef struct pipeline_seat {
    seat_state state;
    int number; /* of the seat, the link's too */
    cdp_step step;
    cdp_seat stage;       /* arrays and hidden states on the device */
    cdp_event done;       /* the stage's work, or the head's present block */
    cdp_home home;        /* rank 0: what came home, and the head's present block */
    uint8_t (*n_seen)[2]; /* rank 0: (max_rows + 1) steps of so many rows that do not tap, that do; counted up
                           * to CDP_LOADING_STEPS */
    const float *logits;
    bool is_done; /* `done` has been seen to be reached */
    cdp_step_span span;
} pipeline_seat;

struct cdp_pipeline {
    cdp_pipeline_options options;
    cdp_packet_limits limits;
    size_t row_bytes;
    bool is_first, is_last;
    cdp_link *link;
    int n_seats;
    pipeline_seat *seats;
    unsigned char *packet;
    uint64_t next_step;    /* rank 0: id of the next begin; others: id of the next header */
    uint64_t next_forward; /* steps reach the stage in the order of their ids */
    uint64_t next_home;    /* and the head in the same order */
    uint64_t n_ready;      /* the stage's work of the steps before this one is done */
    bool is_stopping, is_broken, has_sink_failed;
    cdp_logits_sink sink;
    void *sink_of;
    cdp_times times;
};

static inline pipeline_seat *cdp_pipeline_seat_of(const cdp_pipeline *p, uint64_t id) {
    return &p->seats[id % (uint64_t)p->n_seats];
}

/* What this rank waits for now. */
cdp_wait cdp_pipeline_waits_for(const cdp_pipeline *p);

/* Nothing moved in this turn: sleep until something may. */
void cdp_pipeline_rest(cdp_pipeline *p);

/* Rank 0, before a step that this seat has taken: turns until the device may load what it needs for it. */
cdp_status cdp_pipeline_wait_to_load(cdp_pipeline *p, pipeline_seat *seat);

/* Tell the watchdog what this rank does and which message it waits for. */
void cdp_pipeline_note(const cdp_pipeline *p);
