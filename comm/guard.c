/* The time before there is a watchdog: a thread that ends the process when nobody ends it first. */
#include "comm/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct cdp_guard {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_ended;
    double limit_s;
    void (*leave)(int exit_code);
};

static void say(const cdp_guard *g) {
    char line[256];
    const char *rank = cdp_world_launch_rank();
    snprintf(
        line, sizeof line,
        "cdpipe: error: rank %.10s: not all ranks have joined the world within %.1f s (MPI_Init): leaving "
        "with %d\n",
        rank != NULL ? rank : "?", g->limit_s, CDP_INTERNAL);
    const ssize_t n = write(STDERR_FILENO, line, strlen(line));
    (void)n; /* whether or not anybody can read it, this rank leaves */
}

static void *guard_main(void *argument) {
    cdp_guard *g = argument;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)g->limit_s;
    until.tv_nsec += (long)((g->limit_s - (double)(time_t)g->limit_s) * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&g->lock);
    int rc = 0;
    while (!g->is_ended && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&g->ended, &g->lock, &until);
    const bool is_late = !g->is_ended;
    pthread_mutex_unlock(&g->lock);
    if (is_late) {
        say(g);
        g->leave(CDP_INTERNAL);
    }
    return NULL;
}

cdp_status cdp_guard_start(cdp_guard **out, double limit_s, void (*leave)(int exit_code)) {
    *out = NULL;
    cdp_guard *g = calloc(1, sizeof *g);
    if (g == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the guard of the start");
    g->limit_s = limit_s;
    g->leave = leave;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&g->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&g->lock, NULL);
    sigset_t all, before; /* signals are for the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&g->thread, NULL, guard_main, g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(g);
        return cdp_fail(CDP_SYSTEM, "the guard of the start cannot start: %s", strerror(error));
    }
    *out = g;
    return CDP_OK;
}

void cdp_guard_end(cdp_guard *g) {
    if (g == NULL)
        return;
    pthread_mutex_lock(&g->lock);
    g->is_ended = true;
    pthread_cond_signal(&g->ended);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    pthread_cond_destroy(&g->ended);
    pthread_mutex_destroy(&g->lock);
    free(g);
}
