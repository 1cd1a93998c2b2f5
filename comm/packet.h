/* comm/packet.h - the step header as bytes. It travels by MPI a little ahead of the data, so that the next
 * rank can post its receive early. Little-endian int32 words, one version word first; nothing in it is a
 * pointer, and every index is checked against the limits of the receiver before use. */
#pragma once

#include "kernels/status.h"
#include "kernels/step.h"

typedef struct cdp_packet_limits {
    int max_rows;     /* of a step */
    int max_slots;    /* sequences */
    int max_commands; /* KV commands of one step */
    int max_blocks;   /* of a sequence's table */
    int n_blocks;     /* that the stage holds */
    int ctx;          /* positions a sequence may reach */
    int n_layers;     /* of the model: the states that can be tapped */
    int max_taps;     /* tapped rows of a step */
} cdp_packet_limits;

/* Bytes of the largest packet under these limits. */
size_t cdp_packet_max_bytes(const cdp_packet_limits *limits);

/* Encode into out (room for cdp_packet_max_bytes); returns the bytes used. */
size_t cdp_packet_encode(void *out, const cdp_step *step);

/* Decode n bytes into *step, whose arrays have room for the limits. A word out of range: CDP_INTERNAL with
 * the field, found and allowed. */
cdp_status cdp_packet_decode(cdp_step *step, const void *bytes, size_t n, const cdp_packet_limits *limits);

/* A step with room for the limits; cdp_step_free gives its arrays back. */
cdp_status cdp_step_alloc(cdp_step *out, const cdp_packet_limits *limits);
void cdp_step_free(cdp_step *step);

/* Copy *from into *to, whose own arrays have room for it. */
void cdp_step_copy(cdp_step *to, const cdp_step *from);
