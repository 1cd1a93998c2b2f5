/* The CPU device: one ring of jobs, worker threads that walk it together. See queue.h for the picture. */
#include "kernels/clock.h"
#include "kernels/cpu/measure.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/nodes.h"
#include "kernels/cpu/queue.h"
#include "kernels/device_table.h"
#include "kernels/fault.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    QUEUE_JOBS = 8192, /* several steps of a 100-layer stage at a dozen jobs a layer */
    SPIN_NS = 100000,  /* on a core of one's own: longer than a hop, so a small model's worker stays awake */
    SHARED_SPIN_NS = 10000, /* on cores that others compute on, too: longer than the gap between two jobs */
    SPIN_TURNS = 32,        /* between two looks at the clock; a pause is 10 to 50 ns, by processor */
    ALIGNMENT = 64,
};

typedef struct job_slot {
    cdp_job job;
    _Alignas(16) unsigned char args[CDP_JOB_ARGS_BYTES];
} job_slot;

typedef struct cpu_device {
    cdp_device base;
    int n_threads, n_started;
    int64_t spin_ns;
    int *node_of; /* (n_threads) the worker's NUMA node; NULL: there is one, or nobody is pinned */
    pthread_t *threads;
    job_slot *jobs;
    int n_ranges;     /* of a job's items: one a worker where there are several nodes, else one */
    cdp_taken *taken; /* (2, n_ranges): of the jobs with even and with odd numbers */

    /* Counters only grow; job number n lives in jobs[n % QUEUE_JOBS]. The low halves are futex words. */
    _Alignas(ALIGNMENT) _Atomic uint64_t submitted;
    _Alignas(ALIGNMENT) _Atomic uint64_t arrived; /* workers done with their part, over all jobs */
    _Alignas(ALIGNMENT) _Atomic uint64_t done;
    _Alignas(ALIGNMENT) atomic_int n_sleeping;
    atomic_uint bell; /* changes whenever a sleeper should look again */
    atomic_bool is_closing;
    _Atomic uint64_t busy_ns;
    _Atomic uint64_t awaited; /* the event that the main thread sleeps for, and what it sleeps on */
    atomic_uint alarm;

    atomic_int fault; /* a fault on demand in a worker, for the main thread to find; then its message */
    char fault_message[128];
} cpu_device;

typedef struct worker_start {
    cpu_device *device;
    int worker;
} worker_start;

static void ring_bell(cpu_device *device) {
    atomic_fetch_add(&device->bell, 1);
    if (atomic_load(&device->n_sleeping) > 0)
        syscall(SYS_futex, &device->bell, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* Jobs end one by one, so the awaited one is never jumped over. */
static void wake_main(cpu_device *device, uint64_t n_done) {
    if (n_done != atomic_load(&device->awaited))
        return;
    atomic_fetch_add(&device->alarm, 1);
    syscall(SYS_futex, &device->alarm, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static bool spin_above(const cpu_device *device, _Atomic uint64_t *counter, uint64_t value) {
    int64_t now = 0, until = 0; /* most waits end before the clock is asked */
    do {
        for (int turn = 0; turn < SPIN_TURNS; turn++) {
            if (atomic_load_explicit(counter, memory_order_acquire) > value)
                return true;
            spin_pause();
        }
        now = cdp_now_ns();
        until = until == 0 ? now + device->spin_ns : until;
    } while (now < until);
    return false;
}

/* Wait until *counter > value or the device closes: a short spin, then asleep on the bell. */
static bool wait_above(cpu_device *device, _Atomic uint64_t *counter, uint64_t value) {
    if (spin_above(device, counter, value))
        return true;
    for (;;) {
        const unsigned bell = atomic_load(&device->bell);
        if (atomic_load(counter) > value)
            return true;
        if (atomic_load(&device->is_closing))
            return false;
        atomic_fetch_add(&device->n_sleeping, 1);
        /* The bell is read before the counter, so a change in between makes the wait return at once. */
        syscall(SYS_futex, &device->bell, FUTEX_WAIT_PRIVATE, bell, NULL, NULL, 0);
        atomic_fetch_sub(&device->n_sleeping, 1);
    }
}

/* A fault strikes once, so one worker writes. The work itself goes on. */
static void pass_fault_point(cpu_device *device) {
    const cdp_status st = cdp_fault_pass("compute");
    if (st == CDP_OK)
        return;
    snprintf(device->fault_message, sizeof device->fault_message, "%s", cdp_error_message());
    atomic_store(&device->fault, st);
}

static void *worker_main(void *argument) {
    const worker_start start = *(worker_start *)argument;
    free(argument);
    cpu_device *device = start.device;
    const uint64_t n = (uint64_t)device->n_threads;
    for (uint64_t number = 0; wait_above(device, &device->submitted, number); number++) {
        const int64_t began = start.worker == 0 ? cdp_now_ns() : 0;
        job_slot *slot = &device->jobs[number % QUEUE_JOBS];
        const uint64_t n_ranges = (uint64_t)device->n_ranges;
        const cdp_turn turn = {&device->taken[number % 2 * n_ranges], start.worker, device->n_threads,
                               device->n_ranges};
        /* The job before is done and the next one waits for all of us: nobody looks at its count now. */
        if (start.worker < device->n_ranges)
            atomic_store_explicit(&device->taken[(number + 1) % 2 * n_ranges + (uint64_t)start.worker].n, 0,
                                  memory_order_relaxed);
        pass_fault_point(device);
        slot->job(slot->args, &turn);
        if (atomic_fetch_add(&device->arrived, 1) + 1 == (number + 1) * n) {
            atomic_store(&device->done, number + 1);
            ring_bell(device);
            wake_main(device, number + 1);
        } else if (!wait_above(device, &device->done, number)) {
            break;
        }
        if (start.worker == 0)
            atomic_fetch_add(&device->busy_ns, (uint64_t)(cdp_now_ns() - began));
    }
    return NULL;
}

/* Pinned to the worker's own processor, the next one after *cpu. The kernel may refuse one (it has just gone
 * offline, a container changed): the thread then runs where the process may. */
static int start_worker(cpu_device *device, worker_start *start, const cpu_set_t *cpus, int *cpu) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    while (cpus != NULL && *cpu < CPU_SETSIZE && !CPU_ISSET((size_t)*cpu, cpus))
        ++*cpu;
    cpu_set_t own;
    CPU_ZERO(&own);
    if (cpus != NULL && *cpu < CPU_SETSIZE) {
        CPU_SET((size_t)(*cpu)++, &own);
        pthread_attr_setaffinity_np(&attr, sizeof own, &own);
    }
    int error = pthread_create(&device->threads[start->worker], &attr, worker_main, start);
    pthread_attr_destroy(&attr);
    if (error == EINVAL)
        error = pthread_create(&device->threads[start->worker], NULL, worker_main, start);
    return error;
}

static cdp_status start_workers(cpu_device *device, const cpu_set_t *cpus) {
    int cpu = 0;
    device->threads = calloc((size_t)device->n_threads, sizeof *device->threads);
    if (device->threads == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d worker threads", device->n_threads);
    for (int i = 0; i < device->n_threads; i++) {
        worker_start *start = malloc(sizeof *start);
        if (start == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for worker thread %d", i);
        *start = (worker_start){device, i};
        const int error = start_worker(device, start, cpus, &cpu);
        if (error != 0) {
            free(start);
            return cdp_fail(CDP_SYSTEM, "worker thread %d of %d cannot start: %s", i, device->n_threads,
                            strerror(error));
        }
        device->n_started++;
    }
    return CDP_OK;
}

/* What is behind a device of this kind. */
static cpu_device *inside(cdp_device *device) {
    return (cpu_device *)device;
}
static const cpu_device *inside_const(const cdp_device *device) {
    return (const cpu_device *)device;
}

static void close_cpu(cdp_device *base) {
    cpu_device *device = inside(base);
    atomic_store(&device->is_closing, true);
    ring_bell(device);
    for (int i = 0; i < device->n_started; i++)
        pthread_join(device->threads[i], NULL);
    free(device->threads);
    free(device->jobs);
    free(device->taken);
    free(device->node_of);
    free(device);
}

cdp_status cdp_cpu_submit(cdp_device *base, cdp_job job, const void *args, size_t n_bytes) {
    cpu_device *device = inside(base);
    if (n_bytes > CDP_JOB_ARGS_BYTES)
        return cdp_fail(CDP_INTERNAL, "a job of %zu argument bytes, room for %d", n_bytes,
                        CDP_JOB_ARGS_BYTES);
    const uint64_t number = atomic_load_explicit(&device->submitted, memory_order_relaxed);
    while (number - atomic_load(&device->done) >= QUEUE_JOBS)
        nanosleep(&(struct timespec){0, 50000}, NULL);
    job_slot *slot = &device->jobs[number % QUEUE_JOBS];
    slot->job = job;
    memcpy(slot->args, args, n_bytes);
    atomic_store(&device->submitted, number + 1);
    ring_bell(device);
    return CDP_OK;
}

static cdp_status alloc_unwritten(cdp_device *base, void **out, uint64_t n_bytes) {
    const cpu_device *device = inside(base);
    CDP_TRY(cdp_cpu_alloc_unwritten(base, out, n_bytes));
    if (device->node_of != NULL)
        cdp_nodes_place(*out, n_bytes, device->node_of, device->n_threads, cdp_node_prefer);
    return CDP_OK;
}

static cdp_status free_bytes(cdp_device *device, uint64_t *out) {
    (void)device;
    *out = cdp_cpu_free_bytes();
    return CDP_OK;
}

typedef struct copy_args {
    void *to;
    const void *from;
    uint64_t n_bytes;
} copy_args;

static void copy_job(const void *args, const cdp_turn *turn) {
    const copy_args *a = args;
    if (turn->worker == 0)
        memcpy(a->to, a->from, a->n_bytes);
}

/* In, out and inside are one: all memory is the host's. */
static cdp_status copy(cdp_device *device, void *to, const void *from, uint64_t n_bytes) {
    const copy_args args = {to, from, n_bytes};
    return cdp_cpu_submit(device, copy_job, &args, sizeof args);
}

static cdp_event record(cdp_device *device) {
    return atomic_load(&inside(device)->submitted);
}

static bool reached(cdp_device *device, cdp_event event) {
    return atomic_load_explicit(&inside(device)->done, memory_order_acquire) >= event;
}

/* The alarm is read before the event is asked about: it cannot ring unheard in between. */
static void sleep_cpu(cdp_device *base, cdp_event event, int64_t timeout_ns) {
    cpu_device *device = inside(base);
    const struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    const unsigned alarm = atomic_load(&device->alarm);
    atomic_store(&device->awaited, event);
    if (atomic_load(&device->done) < event)
        syscall(SYS_futex, &device->alarm, FUTEX_WAIT_PRIVATE, alarm, &timeout, NULL, 0);
}

/* Cores do not fail by themselves, only when they are asked to. */
static cdp_status check(cdp_device *device) {
    const cpu_device *cpu = inside_const(device);
    const int fault = atomic_load(&cpu->fault);
    return fault == CDP_OK ? CDP_OK : cdp_fail((cdp_status)fault, "%s", cpu->fault_message);
}

static void give_up(cdp_device *device, const char *why) {
    (void)device, (void)why;
}

static uint64_t progress(const cdp_device *device) {
    return atomic_load(&inside_const(device)->done);
}

static double busy_s(const cdp_device *device) {
    return (double)atomic_load(&inside_const(device)->busy_ns) * 1e-9;
}

static void drain(cdp_device *device) {
    if (inside(device)->n_started < inside(device)->n_threads)
        return; /* half open: nobody would work the queue off */
    while (!reached(device, record(device)))
        sleep_cpu(device, record(device), 1000000000);
}

static cdp_status upload(cdp_device *device, int lane, void *to, const void *from_host, uint64_t n_bytes) {
    (void)device, (void)lane;
    memcpy(to, from_host, n_bytes);
    return CDP_OK;
}

static cdp_status uploaded(cdp_device *device, int lane) {
    (void)device, (void)lane;
    return CDP_OK;
}

static const cdp_device_table cpu_table = {
    .kind = CDP_DEVICE_CPU,
    .is_host = true,
    .close = close_cpu,
    .alloc = cdp_cpu_alloc,
    .alloc_unwritten = alloc_unwritten,
    .free = cdp_cpu_free,
    .free_bytes = free_bytes,
    .host_alloc = cdp_cpu_host_alloc,
    .host_free = cdp_cpu_host_free,
    .copy_in = copy,
    .copy_out = copy,
    .copy = copy,
    .record = record,
    .reached = reached,
    .sleep = sleep_cpu,
    .check = check,
    .give_up = give_up,
    .progress = progress,
    .busy_s = busy_s,
    .drain = drain,
    .measure = cdp_cpu_measure,
    .upload = upload,
    .uploaded = uploaded,
};

/* Without memory for the map, or with one node, memory lies as the kernel puts it. */
static void read_nodes(cpu_device *device, const cdp_cpu_options *options) {
    device->node_of =
        options->cpus != NULL ? calloc((size_t)device->n_threads, sizeof *device->node_of) : NULL;
    if (device->node_of == NULL || cdp_nodes_read(device->node_of, device->n_threads, options->cpus,
                                                  options->root != NULL ? options->root : ""))
        return;
    free(device->node_of);
    device->node_of = NULL;
}

cdp_status cdp_device_open_cpu(cdp_device **out, const cdp_cpu_options *options) {
    *out = NULL;
    cpu_device *device = aligned_alloc(ALIGNMENT, (sizeof *device + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (device == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the CPU device");
    memset(device, 0, sizeof *device);
    device->base.table = &cpu_table;
    device->base.ops = options->ops != NULL ? options->ops : cdp_ops_for_tier(options->tier);
    device->n_threads = options->n_threads < 1 ? 1 : options->n_threads;
    device->spin_ns = options->cpus != NULL ? SPIN_NS : SHARED_SPIN_NS;
    device->jobs = calloc(QUEUE_JOBS, sizeof *device->jobs);
    read_nodes(device, options);
    device->n_ranges = device->node_of != NULL ? device->n_threads : 1;
    const size_t n_bytes = 2 * (size_t)device->n_ranges * sizeof *device->taken;
    device->taken = aligned_alloc(sizeof *device->taken, n_bytes);
    if (device->taken != NULL)
        memset(device->taken, 0, n_bytes);
    cdp_status st = CDP_OK;
    if (device->base.ops == NULL)
        st = cdp_fail(CDP_UNAVAILABLE, "this build or processor has no %s tier",
                      cdp_cpu_tier_name(options->tier));
    else if (device->jobs == NULL || device->taken == NULL)
        st = cdp_fail(CDP_SYSTEM, "no memory for the job queue");
    else
        st = start_workers(device, options->cpus);
    if (st != CDP_OK)
        cdp_device_close(&device->base);
    else
        *out = &device->base;
    return st;
}
