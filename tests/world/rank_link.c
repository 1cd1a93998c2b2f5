/* A rank for tests/world/test_link.c.
 *
 *     rank_link ring N_STEPS N_PLACES [IDLE_RANK]   steps of random sizes round the ring, every byte checked
 *     rank_link overlap                   rank 0 sends 4 MB while its device computes 0.5 s; prints the delay
 *     rank_link size SENT EXPECTED        rank 1 expects another size than rank 0 sends
 *     rank_link wake                      rank 0 sleeps on its device, rank 1 on rank 0; prints for how long
 *     rank_link idle MS                   all poll an open link; prints the share of a core
 */
#include "comm/link.h"
#include "comm/watchdog.h"
#include "kernels/cpu/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MOST_SEATS = 8, MOST_BYTES = 300000 };

/* A step on its way; what travels as header. */
typedef struct step {
    uint64_t id;
    uint32_t seed, n_bytes, n_home;
} step;

typedef enum seat_state { EMPTY, COMING, GOING, HOMING } seat_state;

typedef struct ring_seat {
    seat_state state;
    step step;
    cdp_event done; /* the stage's work */
    unsigned char *data, *home;
} ring_seat;

typedef struct ring {
    cdp_world *world;
    cdp_device *device;
    cdp_link *link;
    int n_seats, stage, n_stages; /* stage: its number in the ring */
    uint64_t n_steps;             /* that rank 0 begins */
    uint64_t begun, ended;
    ring_seat seats[MOST_SEATS];
    cdp_waiter waiter;
} ring;

static uint32_t random_next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static step make_step(uint64_t id) {
    uint32_t state = (uint32_t)id * 2654435761u + 12345u;
    step s = {.id = id, .seed = random_next(&state)};
    /* Many are tiny, some go past every eager limit. */
    const uint32_t kind = random_next(&state) % 4;
    s.n_bytes = kind == 0 ? random_next(&state) % MOST_BYTES + 1 : random_next(&state) % 5000 + 1;
    s.n_home = random_next(&state) % 3 == 0 ? 0 : random_next(&state) % s.n_bytes + 1;
    return s;
}

/* Byte i of a step after `stage` stages have added one each. */
static unsigned char byte_of(const step *s, uint32_t i, int stage) {
    return (unsigned char)((s->seed ^ i * 2654435761u) >> 11) + (unsigned char)stage;
}

static cdp_status check_bytes(const step *s, const unsigned char *data, uint32_t n, int stage) {
    for (uint32_t i = 0; i < n; i++)
        if (data[i] != byte_of(s, i, stage))
            return cdp_fail(CDP_INTERNAL, "step %llu byte %u of %u: got %d, expected %d",
                            (unsigned long long)s->id, i, n, data[i], byte_of(s, i, stage));
    return CDP_OK;
}

/* Work of a stage, on the device: a send that does not wait for its event carries the old bytes. */
typedef struct add_args {
    unsigned char *data;
    uint32_t n_bytes;
    int64_t delay_ns;
} add_args;

static void add_job(const void *args, const cdp_turn *turn) {
    const add_args *a = args;
    (void)turn;
    const int64_t until = cdp_now_ns() + a->delay_ns;
    while (cdp_now_ns() < until)
        continue;
    for (uint32_t i = 0; i < a->n_bytes; i++)
        a->data[i]++;
}

static cdp_status compute(ring *r, ring_seat *seat) {
    const add_args args = {seat->data, seat->step.n_bytes, (int64_t)(seat->step.seed % 8) * 100000};
    CDP_TRY(cdp_cpu_submit(r->device, add_job, &args, sizeof args));
    seat->done = cdp_device_record(r->device);
    return CDP_OK;
}

static cdp_status send_on(ring *r, ring_seat *seat) {
    const int number = (int)(seat->step.id % (uint64_t)r->n_seats);
    const bool is_last = r->stage == r->n_stages - 1;
    const uint32_t n_bytes = is_last ? seat->step.n_home : seat->step.n_bytes;
    seat->state = r->stage == 0 ? HOMING : GOING;
    if (n_bytes == 0)
        return CDP_OK;
    return cdp_link_send(r->link, number, seat->data, n_bytes, seat->done);
}

static cdp_status begin(ring *r) {
    const int number = (int)(r->begun % (uint64_t)r->n_seats);
    ring_seat *seat = &r->seats[number];
    if (r->begun == r->n_steps || seat->state != EMPTY)
        return CDP_OK;
    seat->step = make_step(r->begun++);
    CDP_TRY(cdp_link_send_header(r->link, &seat->step, sizeof seat->step));
    for (uint32_t i = 0; i < seat->step.n_bytes; i++)
        seat->data[i] = byte_of(&seat->step, i, 0);
    if (seat->step.n_home > 0)
        CDP_TRY(cdp_link_recv(r->link, number, seat->home, seat->step.n_home));
    CDP_TRY(compute(r, seat));
    r->waiter = (cdp_waiter){0};
    return send_on(r, seat);
}

static cdp_status take_header(ring *r) {
    const void *bytes;
    size_t n_bytes;
    const int number = (int)(r->begun % (uint64_t)r->n_seats);
    ring_seat *seat = &r->seats[number];
    if (r->stage == 0 || r->begun == r->n_steps || seat->state != EMPTY)
        return CDP_OK;
    CDP_TRY(cdp_link_take_header(r->link, &bytes, &n_bytes));
    if (bytes == NULL)
        return CDP_OK;
    if (n_bytes != sizeof seat->step)
        return cdp_fail(CDP_INTERNAL, "a header of %zu bytes", n_bytes);
    memcpy(&seat->step, bytes, n_bytes);
    if (seat->step.id != r->begun)
        return cdp_fail(CDP_INTERNAL, "header %llu came as number %llu", (unsigned long long)seat->step.id,
                        (unsigned long long)r->begun);
    CDP_TRY(cdp_link_send_header(r->link, bytes, n_bytes));
    r->begun++;
    r->waiter = (cdp_waiter){0};
    seat->state = COMING;
    return cdp_link_recv(r->link, number, seat->data, seat->step.n_bytes);
}

static cdp_status move_seat(ring *r, int number) {
    ring_seat *seat = &r->seats[number];
    const bool is_received = cdp_link_received(r->link, number), is_sent = cdp_link_sent(r->link, number);
    if (seat->state == COMING && is_received) {
        CDP_TRY(check_bytes(&seat->step, seat->data, seat->step.n_bytes, r->stage));
        CDP_TRY(compute(r, seat));
        return send_on(r, seat);
    }
    if (!is_sent || !cdp_device_reached(r->device, seat->done))
        return CDP_OK;
    if (seat->state == GOING || (seat->state == HOMING && is_received)) {
        if (seat->state == HOMING)
            CDP_TRY(check_bytes(&seat->step, seat->home, seat->step.n_home, r->n_stages));
        seat->state = EMPTY;
        r->ended++;
        r->waiter = (cdp_waiter){0};
    }
    return CDP_OK;
}

static cdp_status turn(ring *r) {
    CDP_TRY(cdp_link_poll(r->link));
    CDP_TRY(take_header(r));
    if (r->stage == 0)
        CDP_TRY(begin(r));
    for (int number = 0; number < r->n_seats; number++)
        CDP_TRY(move_seat(r, number));
    cdp_wait_pause(&r->waiter);
    return CDP_OK;
}

/* Every byte is counted once on each side. */
static cdp_status check_traffic(const ring *r) {
    uint64_t sent, received, n_data = 0, n_home = 0;
    for (uint64_t id = 0; id < r->n_steps; id++) {
        n_data += make_step(id).n_bytes;
        n_home += make_step(id).n_home;
    }
    cdp_link_traffic(r->link, &sent, &received);
    const uint64_t out = r->stage == r->n_stages - 1 ? n_home : n_data;
    const uint64_t in = r->stage == 0 ? n_home : n_data;
    return sent == out && received == in
               ? CDP_OK
               : cdp_fail(CDP_INTERNAL, "traffic: sent %llu of %llu, received %llu of %llu",
                          (unsigned long long)sent, (unsigned long long)out, (unsigned long long)received,
                          (unsigned long long)in);
}

static cdp_status open_link(ring *r, int idle_rank) {
    int active[16], n = 0;
    for (int rank = 0; rank < cdp_world_size(r->world); rank++) {
        if (rank == cdp_world_rank(r->world))
            r->stage = n;
        if (rank != idle_rank)
            active[n++] = rank;
    }
    r->n_stages = n;
    return cdp_link_open(&r->link, r->world,
                         &(cdp_link_options){.device = r->device,
                                             .n_active = n,
                                             .active = active,
                                             .n_seats = r->n_seats,
                                             .max_header_bytes = sizeof(step),
                                             .max_data_bytes = 4u << 20,
                                             .road = "auto",
                                             .timeout_s = 10});
}

static cdp_status run_ring(ring *r, int idle_rank) {
    CDP_TRY(open_link(r, idle_rank));
    if (cdp_world_rank(r->world) == idle_rank)
        return r->link == NULL ? CDP_OK : cdp_fail(CDP_INTERNAL, "an idle rank has a link");
    for (int i = 0; i < r->n_seats; i++) {
        r->seats[i].data = malloc(MOST_BYTES + 1);
        r->seats[i].home = malloc(MOST_BYTES + 1);
    }
    while (r->ended < r->n_steps)
        CDP_TRY(turn(r));
    CDP_TRY(check_traffic(r));
    printf("road %s\n", cdp_link_road(r->link));
    return CDP_OK;
}

/* Overlap ---------------------------------------------------------------------------------------------- */

static void burn_job(const void *args, const cdp_turn *turn) {
    (void)turn;
    const int64_t until = *(const int64_t *)args;
    while (cdp_now_ns() < until)
        continue;
}

static cdp_status one_overlap(ring *r, unsigned char *data, size_t n_bytes, double *delay_s) {
    const int rank = cdp_world_rank(r->world);
    int64_t mine = 0, times[2];
    if (rank == 1)
        CDP_TRY(cdp_link_recv(r->link, 0, data, n_bytes));
    CDP_TRY(cdp_world_barrier(r->world));
    if (rank == 0) {
        const cdp_event due = cdp_device_record(r->device);
        mine = cdp_now_ns();
        const int64_t until = mine + 500000000;
        CDP_TRY(cdp_cpu_submit(r->device, burn_job, &until, sizeof until));
        CDP_TRY(cdp_link_send(r->link, 0, data, n_bytes, due));
    }
    while (!cdp_link_sent(r->link, 0) || !cdp_link_received(r->link, 0)) {
        CDP_TRY(cdp_link_poll(r->link));
        cdp_wait_pause(&r->waiter);
    }
    if (rank == 1)
        mine = cdp_now_ns();
    r->waiter = (cdp_waiter){0};
    while (!cdp_device_reached(r->device, cdp_device_record(r->device))) {
        CDP_TRY(cdp_link_poll(r->link));
        cdp_wait_pause(&r->waiter);
    }
    CDP_TRY(cdp_world_gather(r->world, times, &mine, sizeof mine));
    *delay_s = (double)(times[1] - times[0]) * 1e-9;
    return CDP_OK;
}

/* The smallest of a few delays: a busy machine may spoil some, and what is looked for spoils all. */
static cdp_status run_overlap(ring *r) {
    const size_t n_bytes = 4u << 20;
    unsigned char *data = calloc(1, n_bytes);
    double best = 1e9;
    cdp_status st = open_link(r, /*idle_rank=*/-1);
    for (int i = 0; i < 4 && st == CDP_OK; i++) {
        double delay = 0;
        st = one_overlap(r, data, n_bytes, &delay);
        best = delay < best ? delay : best;
    }
    if (st == CDP_OK && cdp_world_rank(r->world) == 0)
        printf("delay %.4f\n", best);
    cdp_link_close(r->link);
    r->link = NULL;
    free(data);
    return st;
}

/* Sizes that do not match, and waiting ----------------------------------------------------------------- */

static cdp_status run_size(ring *r, size_t sent, size_t expected) {
    static unsigned char data[1 << 20];
    CDP_TRY(open_link(r, /*idle_rank=*/-1));
    if (cdp_world_rank(r->world) == 0)
        CDP_TRY(cdp_link_send(r->link, 0, data, sent, 0));
    if (cdp_world_rank(r->world) == 1)
        CDP_TRY(cdp_link_recv(r->link, 0, data, expected));
    while (!cdp_link_sent(r->link, 0) || !cdp_link_received(r->link, 0)) {
        CDP_TRY(cdp_link_poll(r->link));
        cdp_wait_pause(&r->waiter);
    }
    return CDP_OK;
}

/* Rank 0 computes 0.1 s and then sends; nobody looks by the clock before 20 s have gone by. */
static cdp_status run_wake(ring *r) {
    static unsigned char data[1000];
    const int64_t long_ns = 20000000000;
    CDP_TRY(cdp_watchdog_start(r->world, &(cdp_watchdog_options){.limit_s = 30, .leave = _exit}));
    CDP_TRY(open_link(r, /*idle_rank=*/-1));
    const int64_t before = cdp_now_ns(), until = before + 100000000;
    bool can_sleep = true;
    if (cdp_world_rank(r->world) == 0) {
        CDP_TRY(cdp_cpu_submit(r->device, burn_job, &until, sizeof until));
        const cdp_event due = cdp_device_record(r->device);
        CDP_TRY(cdp_link_send(r->link, 0, data, sizeof data, due));
        while (!cdp_device_reached(r->device, due))
            can_sleep = cdp_device_sleep(r->device, due, long_ns) && can_sleep;
    } else {
        CDP_TRY(cdp_link_recv(r->link, 0, data, sizeof data));
        CDP_TRY(cdp_link_poll(r->link));
        while (!cdp_link_received(r->link, 0)) {
            can_sleep = cdp_link_sleep(r->link, long_ns) && can_sleep;
            CDP_TRY(cdp_link_poll(r->link));
        }
    }
    printf("woken after %.3f, can sleep %d\n", (double)(cdp_now_ns() - before) * 1e-9, can_sleep);
    while (!cdp_link_sent(r->link, 0)) {
        CDP_TRY(cdp_link_poll(r->link));
        cdp_wait_pause(&r->waiter);
    }
    return CDP_OK;
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static cdp_status run_idle(ring *r, int64_t ms) {
    CDP_TRY(open_link(r, /*idle_rank=*/-1));
    const double cpu_before = cpu_s();
    const int64_t before = cdp_now_ns();
    while (cdp_now_ns() - before < ms * 1000000)
        CDP_TRY(turn(r));
    printf("share %.4f\n", (cpu_s() - cpu_before) / ((double)(cdp_now_ns() - before) * 1e-9));
    return CDP_OK;
}

static cdp_status run(ring *r, int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    const int first = argc > 2 ? atoi(argv[2]) : 0, other = argc > 3 ? atoi(argv[3]) : 0;
    r->n_seats = 2;
    if (strcmp(verb, "overlap") == 0)
        return run_overlap(r);
    if (strcmp(verb, "size") == 0)
        return run_size(r, (size_t)first, (size_t)other);
    if (strcmp(verb, "wake") == 0)
        return run_wake(r);
    if (strcmp(verb, "idle") == 0) {
        r->n_steps = cdp_world_rank(r->world) == 0 ? 0 : 1; /* one header that never comes */
        return run_idle(r, first);
    }
    r->n_steps = (uint64_t)first;
    r->n_seats = other;
    const cdp_status st = run_ring(r, argc > 4 ? atoi(argv[4]) : -1);
    if (st != CDP_OK) { /* the others go on waiting for this rank: mpirun ends them */
        fprintf(stderr, "rank %d: %s\n", cdp_world_rank(r->world), cdp_error_message());
        _exit((int)st);
    }
    return st;
}

int main(int argc, char **argv) {
    ring r = {0};
    cdp_status st = cdp_world_open(&r.world);
    if (st == CDP_OK)
        st = cdp_device_open_cpu(&r.device, &(cdp_cpu_options){.n_threads = 1, .ops = &cdp_ops_ref});
    if (st == CDP_OK)
        st = run(&r, argc, argv);
    if (r.world != NULL)
        st = cdp_world_agree(r.world, st);
    if (st != CDP_OK && (r.world == NULL || cdp_world_rank(r.world) == 0))
        fprintf(stderr, "cdpipe: error: %s\n", cdp_error_message());
    cdp_device_close(r.device);
    cdp_link_close(r.link);
    for (int i = 0; i < MOST_SEATS; i++) {
        free(r.seats[i].data);
        free(r.seats[i].home);
    }
    cdp_world_close(r.world);
    return (int)st;
}
