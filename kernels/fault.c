#include "kernels/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum fault_kind {
    NO_FAULT,
    KILL9,
    SEGV,
    EXIT0,
    EXIT3,
    STOP,
    HANG,
    LOOP,
    SLOW,
    ENOMEM_,
    EIO_,
    CUDA_STICKY,
    NCCL_ERROR,
    N_KINDS
} fault_kind;

static const char *const kind_names[N_KINDS] = {[KILL9] = "kill9",
                                                [SEGV] = "segv",
                                                [EXIT0] = "exit0",
                                                [EXIT3] = "exit3",
                                                [STOP] = "stop",
                                                [HANG] = "hang",
                                                [LOOP] = "loop",
                                                [SLOW] = "slow",
                                                [ENOMEM_] = "enomem",
                                                [EIO_] = "eio",
                                                [CUDA_STICKY] = "cuda-sticky",
                                                [NCCL_ERROR] = "nccl-error"};

static const char *const point_names[] = {"init",  "watchdog",  "args",   "config",  "plan", "alloc",
                                          "load",  "comm-init", "step",   "compute", "send", "recv",
                                          "write", "sync",      "report", "finalize"};

typedef struct one_fault {
    fault_kind kind;
    const char *point;
    long nth, slow_ms;
} one_fault;

/* The one fault of this process: read once, before there are threads. A fault may be met anywhere, so every
 * place that could fail would otherwise have to be handed it. */
static one_fault fault;
static atomic_long n_passed;

/* A field up to the next ':' or the end; moves *at behind it. False when nothing is left. */
static bool take_field(const char **at, char *out, size_t out_size) {
    if (*at == NULL)
        return false;
    const size_t n = strcspn(*at, ":");
    if (n == 0 || n >= out_size)
        return false;
    memcpy(out, *at, n);
    out[n] = '\0';
    *at = (*at)[n] == ':' ? *at + n + 1 : NULL;
    return true;
}

static bool take_number(const char **at, long low, long *out) {
    char field[16], *end;
    if (!take_field(at, field, sizeof field) || field[0] < '0' || field[0] > '9')
        return false;
    errno = 0;
    const long number = strtol(field, &end, 10);
    if (errno != 0 || *end != '\0' || number < low || number > INT32_MAX)
        return false;
    *out = number;
    return true;
}

static const char *find_point(const char *name) {
    for (size_t i = 0; i < sizeof point_names / sizeof *point_names; i++)
        if (strcmp(name, point_names[i]) == 0)
            return point_names[i];
    return NULL;
}

static fault_kind find_kind(const char *name) {
    for (int kind = KILL9; kind < N_KINDS; kind++)
        if (strcmp(name, kind_names[kind]) == 0)
            return (fault_kind)kind;
    return NO_FAULT;
}

static bool read_fault(const char *text, one_fault *out, long *victim) {
    char point[16], kind[16];
    if (!take_number(&text, 0, victim) || !take_field(&text, point, sizeof point) ||
        !take_field(&text, kind, sizeof kind))
        return false;
    *out = (one_fault){.kind = find_kind(kind), .point = find_point(point), .nth = 1};
    if (out->point == NULL || out->kind == NO_FAULT)
        return false;
    if (out->kind == SLOW && !take_number(&text, 0, &out->slow_ms))
        return false;
    return text == NULL || (take_number(&text, 1, &out->nth) && text == NULL);
}

/* Faults with commas between them; `fault` becomes the one of this rank. */
static bool read_faults(const char *text, int rank) {
    for (const char *at = text; at != NULL;) {
        char item[64];
        one_fault read;
        long victim;
        const size_t n = strcspn(at, ",");
        if (n >= sizeof item)
            return false;
        memcpy(item, at, n);
        item[n] = '\0';
        if (!read_fault(item, &read, &victim))
            return false;
        if (victim == rank)
            fault = read;
        at = at[n] == ',' ? at + n + 1 : NULL;
    }
    return true;
}

cdp_status cdp_fault_open(int rank) {
    const char *text = getenv("CDPIPE_FAULT");
    fault.kind = NO_FAULT;
    atomic_store(&n_passed, 0);
    if (text == NULL || text[0] == '\0')
        return CDP_OK;
    if (read_faults(text, rank))
        return CDP_OK;
    char shown[128];
    fault.kind = NO_FAULT;
    return cdp_fail(
        CDP_USAGE,
        "CDPIPE_FAULT: got \"%s\", expected RANK:POINT:KIND[:N] or RANK:POINT:slow:MS[:N], several with "
        "commas, with POINT init, watchdog, args, config, plan, alloc, load, comm-init, step, compute, send, "
        "recv, write, sync, report or finalize and KIND kill9, segv, exit0, exit3, stop, hang, loop, "
        "enomem, eio, cuda-sticky or nccl-error",
        cdp_escape(shown, sizeof shown, text, strlen(text)));
}

static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static cdp_status commit_fault(void) {
    const char *at = fault.point;
    switch (fault.kind) {
    case KILL9:
        kill(getpid(), SIGKILL);
        break;
    case SEGV:
        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would make another end of it */
        kill(getpid(), SIGSEGV);
        break;
    case EXIT0:
        _exit(0); /* below main, but this is what the fault is */
    case EXIT3:
        _exit(3);
    case STOP:
        kill(getpid(), SIGSTOP);
        break;
    case HANG:
        for (;;)
            pause();
    case LOOP:
        for (volatile int turn = 0;; turn = !turn)
            continue;
    case SLOW:
        sleep_ms(fault.slow_ms);
        break;
    case ENOMEM_:
        return cdp_fail(CDP_SYSTEM, "%s (CDPIPE_FAULT at %s)", strerror(ENOMEM), at);
    case EIO_:
        return cdp_fail(CDP_IO, "%s (CDPIPE_FAULT at %s)", strerror(EIO), at);
    case CUDA_STICKY:
        return cdp_fail(CDP_INTERNAL,
                        "CUDA error 700, an illegal memory access was encountered (CDPIPE_FAULT at %s)", at);
    case NCCL_ERROR:
        return cdp_fail(CDP_UNAVAILABLE, "NCCL error 2, unhandled system error (CDPIPE_FAULT at %s)", at);
    case NO_FAULT:
    case N_KINDS:
        break;
    }
    return CDP_OK;
}

cdp_status cdp_fault_pass(const char *point) {
    if (fault.kind == NO_FAULT || strcmp(point, fault.point) != 0)
        return CDP_OK;
    const long passed = atomic_fetch_add(&n_passed, 1) + 1;
    if (passed == fault.nth || (passed > fault.nth && fault.kind == SLOW))
        return commit_fault();
    return CDP_OK;
}
