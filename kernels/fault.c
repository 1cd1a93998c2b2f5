#include "kernels/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum fault_kind { NO_FAULT, KILL9, STOP, HANG, SLOW } fault_kind;

/* The one fault of this process: read once, before there are threads. A fault may be met anywhere, so every
 * place that could fail would otherwise have to be handed it. */
static struct {
    fault_kind kind;
    const char *point;
    long nth, slow_ms;
} fault;
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
    static const char *const points[] = {"load", "step"};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        if (strcmp(name, points[i]) == 0)
            return points[i];
    return NULL;
}

static fault_kind find_kind(const char *name) {
    static const char *const kinds[] = {[KILL9] = "kill9", [STOP] = "stop", [HANG] = "hang", [SLOW] = "slow"};
    for (int kind = KILL9; kind <= SLOW; kind++)
        if (strcmp(name, kinds[kind]) == 0)
            return (fault_kind)kind;
    return NO_FAULT;
}

static bool read_fault(const char *text, long *rank) {
    char point[16], kind[16];
    if (!take_number(&text, 0, rank) || !take_field(&text, point, sizeof point) ||
        !take_field(&text, kind, sizeof kind))
        return false;
    fault.point = find_point(point);
    fault.kind = find_kind(kind);
    fault.nth = 1;
    if (fault.point == NULL || fault.kind == NO_FAULT)
        return false;
    if (fault.kind == SLOW && !take_number(&text, 0, &fault.slow_ms))
        return false;
    return text == NULL || (take_number(&text, 1, &fault.nth) && text == NULL);
}

cdp_status cdp_fault_open(int rank) {
    const char *text = getenv("CDPIPE_FAULT");
    fault.kind = NO_FAULT;
    atomic_store(&n_passed, 0);
    if (text == NULL || text[0] == '\0')
        return CDP_OK;
    long victim = 0;
    if (!read_fault(text, &victim)) {
        char shown[128];
        fault.kind = NO_FAULT;
        return cdp_fail(CDP_USAGE,
                        "CDPIPE_FAULT: got \"%s\", expected RANK:POINT:KIND[:N] or RANK:POINT:slow:MS[:N] "
                        "with POINT load or step and KIND kill9, stop or hang",
                        cdp_escape(shown, sizeof shown, text, strlen(text)));
    }
    if (victim != rank)
        fault.kind = NO_FAULT;
    return CDP_OK;
}

static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static void commit_fault(void) {
    switch (fault.kind) {
    case KILL9:
        kill(getpid(), SIGKILL);
        break;
    case STOP:
        kill(getpid(), SIGSTOP);
        break;
    case HANG:
        for (;;)
            pause();
    case SLOW:
        sleep_ms(fault.slow_ms);
        break;
    case NO_FAULT:
        break;
    }
}

void cdp_fault_pass(const char *point) {
    if (fault.kind == NO_FAULT || strcmp(point, fault.point) != 0)
        return;
    const long passed = atomic_fetch_add(&n_passed, 1) + 1;
    if (passed == fault.nth || (passed > fault.nth && fault.kind == SLOW))
        commit_fault();
}
