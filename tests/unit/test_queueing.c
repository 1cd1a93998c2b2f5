/* Time in line for a core: a thread among many on one core has it, one that sleeps has none.
 *
 * What it catches: a hang taken for an overloaded machine, and the other way round, so that a prompt is
 * charged for the load of its machine.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/queueing.h"
#include "tests/support/spawn.h"

enum { N_RIVALS = 6 };
static atomic_bool is_over;
static sem_t bed;

static int64_t now_ns(void) {
    return (int64_t)(test_now_s() * 1e9);
}

static void *work(void *unused) {
    (void)unused;
    while (!atomic_load(&is_over))
        continue;
    return NULL;
}

/* Asleep from the first to the second reading: one that wakes now and then does wait for a busy core. */
static void *rest(void *unused) {
    (void)unused;
    sem_wait(&bed);
    return NULL;
}

/* 'R' at work or in line, 'S' asleep: the one thread that is not the caller. */
static char state_of(const cdp_queueing *reading) {
    char path[64], state = '?';
    assert_int_equal(reading->n, 1);
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", reading->threads[0].tid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
    fclose(file);
    return state;
}

/* The share of a second that this process's other thread waits for a core, once it is what it is to be. */
static double share_of(void *(*doing)(void *), char state) {
    static cdp_queueing before, after;
    pthread_t thread;
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, doing, NULL), 0);
    do {
        usleep(1000);
        cdp_queueing_read(&before, now_ns());
    } while (state_of(&before) != state);
    cdp_queueing_read(&before, now_ns()); /* a count that came before the state could still grow */
    usleep(1000000);
    cdp_queueing_read(&after, now_ns());
    atomic_store(&is_over, true);
    sem_post(&bed);
    pthread_join(thread, NULL);
    assert_int_equal(after.n, 1);
    return cdp_queueing_share(&before, &after);
}

static void test_rivals(void **state) {
    (void)state;
    cpu_set_t all, one;
    sem_init(&bed, 0, 0);
    pid_t rivals[N_RIVALS];
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    for (int i = 0; i < N_RIVALS; i++) {
        rivals[i] = fork();
        assert_true(rivals[i] >= 0);
        for (volatile int turn = 0; rivals[i] == 0; turn = !turn)
            continue;
    }
    const double resting = share_of(rest, 'S'), working = share_of(work, 'R');
    for (int i = 0; i < N_RIVALS; i++) {
        kill(rivals[i], SIGKILL);
        waitpid(rivals[i], NULL, 0);
    }
    sched_setaffinity(0, sizeof all, &all);
    /* 6 of 7, less what it still stands in line for at the reading: that is not counted yet. */
    if (working < 0.3 || resting > 0)
        fail_msg("among %d rivals a working thread waits %.0f %% of the time, a resting one %.0f %%",
                 N_RIVALS, working * 100, resting * 100);
}

static void test_unknown(void **state) {
    (void)state;
    static cdp_queueing none, first = {.at_ns = 1000, .n = 2, .threads = {{7, 100}, {8, 0}}};
    static cdp_queueing later = {.at_ns = 2000, .n = 3, .threads = {{8, 250}, {9, 900}, {7, 300}}};
    assert_true(cdp_queueing_share(&none, &later) == 0);
    assert_true(cdp_queueing_share(&later, &first) == 0);
    assert_true(cdp_queueing_share(&first, &later) == 0.25); /* thread 8; 9 was not there before */
    later.threads[0].waited_ns = 5000;
    assert_true(cdp_queueing_share(&first, &later) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rivals),
        cmocka_unit_test(test_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
