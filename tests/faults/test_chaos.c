/* Chaos: a batch job is hit at random moments, by every means at hand, until it is complete; then another.
 *
 *     faults_test_chaos [--seed N] [--faults N] [--verbose]    the short run: 10 faults, the clock's seed
 *
 * Victims: any rank, mpirun. Means: kill -9, SIGSTOP and then a kill, TERM, INT, USR1, a full disk (the size
 * of the output is limited at a random byte, which also tears a record), a torn tail, and CDPIPE_FAULT at a
 * random point. Each run has its own number of ranks, sequences at once and chunk, because nothing may hang
 * on them.
 *
 * After each fault: all ranks are gone, no record that was whole is lost, `cdpipe status` says 75. At the
 * end: every id exactly once, and each record as in a run that nobody disturbed.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/batch.h"
#include "tests/support/data.h"
#include "tests/support/random.h"

enum { N_LINES = 160, DEADLINE_S = 40, MAX_RUNS_A_JOB = 80 };

typedef enum means {
    KILL_RANK,
    KILL_MPIRUN,
    TERM,
    INT,
    USR1,
    STOP_RANK,
    FULL_DISK,
    TORN_TAIL,
    FAULT_POINT,
    N_MEANS,
} means;
static const char *const names[N_MEANS] = {"kill -9 rank", "kill -9 mpirun", "TERM",
                                           "INT",          "USR1",           "STOP + kill",
                                           "full disk",    "torn tail",      "fault point"};

static uint64_t seed;
static int n_wanted = 10;
static bool is_verbose;
static test_random dice;
static int tally[N_MEANS], codes[256], n_faults, n_jobs, n_runs, n_mpirun_hung;
static bool has_crashed; /* this job: a second death by its own fault would rightly condemn a line */
static char input[512];
static cJSON *undisturbed;

static void write_input(void) {
    snprintf(input, sizeof input, "%s/in.jsonl", test_temp_dir());
    FILE *to = fopen(input, "w");
    test_random r = {11};
    for (int i = 0; i < N_LINES; i++) {
        fprintf(to, "{\"id\":\"c%d\",\"prompt_ids\":[", i);
        for (int n = test_random_below(&r, 30); n >= 0; n--)
            fprintf(to, "%d%s", test_random_below(&r, 2048), n > 0 ? "," : "");
        fprintf(to, "],\"max_new_tokens\":%d,\"temperature\":%s,\"ignore_eos\":true}\n",
                8 + test_random_below(&r, 60), i % 4 == 0 ? "0" : "0.9");
    }
    fclose(to);
}

static int setup(void **state) {
    (void)state;
    write_input();
    const char *out = batch_file(test_temp_dir(), "undisturbed.jsonl");
    test_run *run = batch_open(1, 120, input, out);
    test_run_add(run, "--logits-hash", NULL);
    batch_go(run, 0);
    undisturbed = batch_records(out);
    return cJSON_GetArraySize(undisturbed) == N_LINES ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    cJSON_Delete(undisturbed);
    return 0;
}

/* One hit of one run: decided before it starts, so that the seed alone tells the story. */
typedef struct hit {
    means means;
    int np, rank, other;
    double moment_s;
    char fault[64];
} hit;

static void draw_fault(hit *h) {
    static const char *const points[] = {"load",  "step", "send",  "recv",
                                         "write", "sync", "alloc", "comm-init"};
    static const char *const kinds[] = {"kill9", "segv",  "exit0", "exit3",
                                        "eio",   "enomem"}; /* a hang is evidence against its prompts */
    const char *point = points[test_random_below(&dice, 8)], *kind = kinds[test_random_below(&dice, 6)];
    if (strcmp(kind, "segv") == 0 && has_crashed)
        kind = "kill9";
    has_crashed |= strcmp(kind, "segv") == 0;
    const bool is_file = strcmp(point, "write") == 0 || strcmp(point, "sync") == 0;
    snprintf(h->fault, sizeof h->fault, "CDPIPE_FAULT=%d:%s:%s:%d", is_file ? 0 : h->rank, point, kind,
             1 + test_random_below(&dice, is_file || strcmp(point, "step") == 0 ? 60 : 2));
}

static hit draw_hit(void) {
    hit h = {.means = (means)test_random_below(&dice, N_MEANS), .np = 1 + test_random_below(&dice, 3)};
    h.np = h.means == KILL_MPIRUN && h.np == 1 ? 2 : h.np;
    h.rank = test_random_below(&dice, h.np);
    h.other = (h.rank + 1) % h.np;
    h.moment_s = 0.15 + 0.9 * test_random_unit(&dice);
    draw_fault(&h);
    return h;
}

static pid_t pid_of(const test_run *run, const hit *h, int rank) {
    return h->np == 1 ? run->pid : test_run_rank(run, rank);
}

static void send(pid_t pid, int signal_number) {
    if (pid > 0)
        kill(pid, signal_number);
}

/* The disk has room for some bytes more, perhaps for half a record. */
static void fill_disk(const test_run *run, const hit *h, const char *part) {
    struct stat about;
    const pid_t pid = pid_of(run, h, 0);
    const off_t size = stat(part, &about) == 0 ? about.st_size : 0;
    const rlim_t room = (rlim_t)(size + test_random_below(&dice, 2000));
    const struct rlimit limit = {room, room};
    if (pid > 0)
        prlimit(pid, RLIMIT_FSIZE, &limit, NULL);
}

/* A rank freezes, and then another dies. When the job is done the others may have left before: no process is
 * there that could end the frozen one, which has nothing left to do but to leave, too. It wakes up again. */
static void freeze_and_kill(const test_run *run, const hit *h, const char *out) {
    const pid_t frozen = pid_of(run, h, h->rank);
    send(frozen, SIGSTOP);
    usleep(300000);
    send(pid_of(run, h, h->other), SIGKILL);
    if (access(out, F_OK) == 0)
        send(frozen, SIGCONT);
}

static void strike(test_run *run, const hit *h, const char *out, const char *part) {
    switch (h->means) {
    case KILL_RANK:
    case TORN_TAIL:
        send(pid_of(run, h, h->rank), SIGKILL);
        break;
    case KILL_MPIRUN:
        kill(run->pid, SIGKILL);
        break;
    case TERM:
        kill(run->pid, SIGTERM);
        break;
    case INT:
        kill(run->pid, SIGINT);
        break;
    case USR1:
        kill(run->pid, SIGUSR1);
        break;
    case STOP_RANK:
        freeze_and_kill(run, h, out);
        break;
    case FULL_DISK:
        fill_disk(run, h, part);
        break;
    case FAULT_POINT:
    case N_MEANS:
        break;
    }
}

/* As after a power loss: the last record is half there, or NULs stand where it should. */
static bool tear(const char *part) {
    struct stat about;
    FILE *file = fopen(part, "r+");
    if (file == NULL || fstat(fileno(file), &about) != 0 || about.st_size == 0) {
        if (file != NULL)
            fclose(file);
        return false;
    }
    if (test_random_below(&dice, 2) == 0) {
        const off_t most = about.st_size < 300 ? about.st_size : 300;
        assert_int_equal(ftruncate(fileno(file), about.st_size - 1 - test_random_below(&dice, (int)most)), 0);
    } else {
        fseek(file, 0, SEEK_END);
        for (int n = 1 + test_random_below(&dice, 5000); n > 0; n--)
            fputc('\0', file);
    }
    fclose(file);
    return true;
}

static test_run *start(const hit *h, const char *out) {
    char batch[8], chunk[8];
    snprintf(batch, sizeof batch, "%d", 1 + test_random_below(&dice, 12));
    snprintf(chunk, sizeof chunk, "%d", 1 + test_random_below(&dice, 40));
    test_run *run = batch_open(h->np, DEADLINE_S, input, out);
    test_run_add(run, "--logits-hash", "--max-batch", batch, "--chunk", chunk, "--step-timeout", "10", NULL);
    if (h->means == FAULT_POINT)
        test_run_env(run, h->fault);
    test_run_start(run);
    return run;
}

static void check_end(test_run *run, const hit *h, const char *out, const char *part, long n_before) {
    const int code = run->signal != 0 ? 128 + run->signal : run->exit_code;
    /* A rank that is killed while it greets mpirun can hang mpirun itself (Open MPI 4.1): no rank of ours
     * waits. */
    const bool is_mpirun = run->timed_out && strstr(run->err, "PMIX ERROR: UNREACHABLE") != NULL;
    n_mpirun_hung += is_mpirun;
    if (run->timed_out && !is_mpirun) {
        fputs(run->err, stderr); /* whole: a message is cut */
        fail_msg("seed %llu, fault %d (%s, np %d, rank %d, %s): hung", (unsigned long long)seed, n_faults,
                 names[h->means], h->np, h->rank, h->fault);
    }
    if (code == 65 || code == 78 || code == 64)
        fail_msg("seed %llu, fault %d (%s): refused to go on\n%.3000s", (unsigned long long)seed, n_faults,
                 names[h->means], run->err);
    if (test_run_left(run) != 0)
        fail_msg("seed %llu, fault %d (%s): ranks are left", (unsigned long long)seed, n_faults,
                 names[h->means]);
    codes[code & 255]++;
    const long n_now = batch_count(part);
    if (is_verbose)
        print_message("    %3d  %-14s np %d, %.2f s, exit %3d, %ld records  %s\n", n_faults, names[h->means],
                      h->np, h->moment_s, code, n_now, h->means == FAULT_POINT ? h->fault : "");
    if (access(out, F_OK) != 0 && n_now < n_before)
        fail_msg("seed %llu, fault %d (%s): %ld records, %ld before", (unsigned long long)seed, n_faults,
                 names[h->means], n_now, n_before);
}

static void check_status(const char *out, int expected) {
    test_run *run = test_run_open(DEADLINE_S);
    test_run_add(run, CDPIPE_BIN, "status", out, NULL);
    test_run_go(run);
    if (run->exit_code != expected)
        fail_msg("seed %llu, after fault %d: status %d, expected %d\n%s%s", (unsigned long long)seed,
                 n_faults, run->exit_code, expected, run->out, run->err);
    test_run_close(run);
}

/* One run, hit once. True when the job is complete. */
static bool disturb(const char *out, const char *part) {
    const hit h = draw_hit();
    const long n_before = batch_count(part);
    test_run *run = start(&h, out);
    usleep((useconds_t)(h.moment_s * 1e6));
    const bool was_alive = kill(run->pid, 0) == 0 && access(out, F_OK) != 0;
    strike(run, &h, out, part);
    test_run_wait(run);
    n_runs++;
    n_faults += was_alive;
    tally[h.means] += was_alive;
    check_end(run, &h, out, part, n_before);
    test_run_close(run);
    if (access(out, F_OK) == 0)
        return true;
    if (h.means == TORN_TAIL)
        tear(part);
    if (batch_count(part) > 0)
        check_status(out, 75);
    return false;
}

static void check_job(const char *out) {
    char path[600];
    cJSON *records = batch_records(out);
    batch_check_same(undisturbed, records, "after chaos");
    cJSON_Delete(records);
    snprintf(path, sizeof path, "%s.part", out);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s.attempts", out);
    assert_int_not_equal(access(path, F_OK), 0);
    check_status(out, 0);
}

/* The same command with other options, if there is something to go on with. */
static void check_refusal(const char *out, const char *part) {
    if (batch_count(part) > 0)
        batch_go(batch_open(1, 120, input, out), 65); /* --logits-hash is missing: noticed */
}

/* To the end, undisturbed; a job that is complete only loses what its last run may have left of its journal.
 */
static void finish(const char *out) {
    test_run *run = batch_open(2, 120, input, out);
    test_run_add(run, "--logits-hash", NULL);
    batch_go(run, 0);
}

static void play_job(void) {
    char out[512], part[520];
    snprintf(out, sizeof out, "%s/job%d.jsonl", test_temp_dir(), n_jobs++);
    snprintf(part, sizeof part, "%s.part", out);
    bool is_complete = has_crashed = false;
    for (int i = 0; !is_complete && i < MAX_RUNS_A_JOB && n_faults < n_wanted; i++)
        is_complete = disturb(out, part);
    if (!is_complete)
        check_refusal(out, part);
    finish(out);
    check_job(out);
}

static void test_chaos(void **state) {
    (void)state;
    dice.state = seed;
    print_message("    seed %llu\n", (unsigned long long)seed);
    while (n_faults < n_wanted)
        play_job();
    print_message("    %d faults in %d runs of %d jobs of %d lines, each line once and as undisturbed:\n   ",
                  n_faults, n_runs, n_jobs, N_LINES);
    for (int i = 0; i < N_MEANS; i++)
        print_message(" %s %d%s", names[i], tally[i], i + 1 < N_MEANS ? "," : "\n    exit codes:");
    for (int i = 0; i < 256; i++)
        if (codes[i] > 0)
            print_message(" %d x %d", i, codes[i]);
    print_message("; mpirun hung %d times\n", n_mpirun_hung);
}

static bool take_number(const char *word, const char *value, const char *name, uint64_t *out) {
    if (strcmp(word, name) != 0 || value == NULL)
        return false;
    *out = strtoull(value, NULL, 10);
    return true;
}

int main(int argc, char **argv) {
    uint64_t faults = (uint64_t)n_wanted;
    seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++) {
        if (take_number(argv[i], argv[i + 1], "--seed", &seed) ||
            take_number(argv[i], argv[i + 1], "--faults", &faults))
            i++;
        else if (strcmp(argv[i], "--verbose") == 0)
            is_verbose = true;
        else
            return fprintf(stderr, "usage: %s [--seed N] [--faults N] [--verbose]\n", argv[0]), 2;
    }
    n_wanted = (int)faults;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chaos)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
