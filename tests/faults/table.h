/* tests/faults/table.h - the one table of faults: where a run passes, what may happen there, how it must end.
 * test_ranks.c runs it at --device cpu, and again on the stand-in for GPUs at --device cuda.
 *
 *     kinds x points        CDPIPE_FAULT (kernels/fault.h), on either device
 *     compute at cuda       the GPU computes, and no thread of ours: what the stand-in calls it, or why not
 *     gpu_rows              what only a GPU can do wrong: STANDIN_FAULT (tests/standin/standin.h)
 *
 * Roads that fail their test, and fall back to the next, stand in tests/gpu/test_standin_road.c, where the
 * bits of the answer are compared.
 */
#pragma once

#include <stddef.h>

typedef enum fault_class { DIES, STALLS, FAILS, SLOWS } fault_class;

typedef struct fault_kind {
    const char *name;
    fault_class class;
    int code, other_code; /* as mpirun tells it; 70 where a peer was faster is right for all that die */
    const char *says;     /* part of the line */
} fault_kind;

static const fault_kind kinds[] = {
    {"kill9", DIES, 137, 70, NULL},
    {"segv", DIES, 139, 70, NULL},
    {"exit0", DIES, 70, 1, NULL},
    {"exit3", DIES, 3, 70, NULL},
    {"stop", STALLS, 70, 70, NULL},
    {"hang", STALLS, 70, 70, NULL},
    {"loop", STALLS, 70, 70, NULL},
    {"enomem", FAILS, 71, 71, "Cannot allocate memory"},
    {"eio", FAILS, 74, 74, "Input/output error"},
    {"cuda-sticky", FAILS, 70, 70, "illegal memory access"},
    {"nccl-error", FAILS, 69, 69, "NCCL error"},
    {"slow:2", SLOWS, 0, 0, NULL}, /* a step passes `compute` some forty times */
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* `write` is where rank 0 writes its text: others never come there. `sync` belongs to batch. */
static const char *const points[] = {"init", "args",    "config", "plan", "alloc", "load",   "comm-init",
                                     "step", "compute", "send",   "recv", "write", "report", "finalize"};
enum { N_POINTS = sizeof points / sizeof points[0] };

/* A kind at `compute` when the device is a GPU. */
typedef struct gpu_compute {
    const char *kind;
    const char *fault;   /* of the stand-in; NULL: none, and */
    const char *why_not; /* the reason */
    const char *says;    /* in place of the kind's own */
} gpu_compute;

static const gpu_compute gpu_computes[] = {
    {"kill9", NULL, "a kernel cannot end the process; one that dies while its GPU works: step, send", NULL},
    {"segv", NULL, "as kill9", NULL},
    {"exit0", NULL, "as kill9", NULL},
    {"exit3", NULL, "as kill9", NULL},
    {"stop", NULL, "signals stop no kernel; the process that is stopped while its GPU works: step", NULL},
    {"hang", "launch:hang", NULL, NULL},
    {"loop", "launch:hang", NULL, NULL}, /* nobody can tell the two apart from outside */
    {"enomem", NULL, "a kernel asks for no memory; memory that is missing: malloc, host", NULL},
    {"eio", NULL, "a kernel reads no file", NULL},
    {"cuda-sticky", "launch:sticky", NULL, "cudaErrorLaunchFailure"},
    {"nccl-error", "nccl-send:error", NULL, "an error on demand"},
    {"slow:2", NULL, "the stand-in is no measure of speed", NULL},
};
enum { N_GPU_COMPUTES = sizeof gpu_computes / sizeof gpu_computes[0] };

typedef struct fault_case {
    int np, rank;
    const char *point;
    const fault_kind *kind;
    int nth; /* passage; 0: the first */
} fault_case;

static const fault_kind gpu_no_memory = {"memory", FAILS, 71, 71, "no room"},
                        gpu_no_pinned = {"memory", FAILS, 71, 71, "pinned"},
                        gpu_dead = {"sticky", FAILS, 70, 70, "cudaErrorLaunchFailure"},
                        gpu_ecc = {"sticky", FAILS, 70, 70, "cudaErrorECCUncorrectable"},
                        gpu_refused = {"refused", FAILS, 70, 70, "cudaErrorLaunchOutOfResources"};

static const fault_case gpu_rows[] = {
    {1, 0, "malloc", &gpu_no_memory, 3}, /* a plan that lies */
    {3, 2, "malloc", &gpu_no_memory, 5}, {2, 1, "host", &gpu_no_pinned, 4},
    {1, 0, "launch", &gpu_dead, 1}, /* early, in the middle, late */
    {2, 1, "launch", &gpu_dead, 25},     {3, 0, "launch", &gpu_dead, 40},
    {3, 0, "launch", &gpu_dead, 20}, /* while a call of NCCL is in progress, mostly */
    {1, 0, "sync", &gpu_ecc, 10},        {2, 0, "launch", &gpu_refused, 20},
};
enum { N_GPU_ROWS = sizeof gpu_rows / sizeof gpu_rows[0] };
