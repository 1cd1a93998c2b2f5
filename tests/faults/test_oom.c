/* The kernel kills one rank of a batch job for lack of memory: signal 9, without a word and without a chance
 * to say one. Its peers end as for any dead rank and say why it died; the job goes on where it was.
 *
 * The rank stops itself at a point, is put into a control group of memory with less room than it still asks
 * for, and runs into that limit by its own allocations: what a rank further on takes before its layers are
 * there, and what rank 0 takes for a line of 8 MB, in the middle of the job. Its check of free memory lies
 * behind it then, as where the neighbours of a machine grow.
 *
 * What it catches: a death by the kernel told as a bare "died", a prompt condemned for it, a lost record.
 */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/faults/batch_job.h"

enum { LARGE_BYTES = 8 << 20, LARGE_AT = 16, ROOM_BYTES = 1 << 20 };

/* The group --------------------------------------------------------------------------------------------- */

/* The mounts of both versions, and the files that stand in a group. The second limit is to keep the kernel
 * from swapping instead; it is there where swap is counted. */
static const struct version {
    const char *mount, *limit, *swap_limit, *no_swap;
} versions[] = {
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.swappiness", "0"},
    {"/sys/fs/cgroup", "memory.max", "memory.swap.max", "0"},
};
static const struct version *version;
static char group[128];

static bool put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", group, name);
    FILE *to = fopen(path, "r+"); /* never makes one: the folder may be no group */
    if (to == NULL)
        return false;
    const bool is_written = fputs(text, to) >= 0;
    return (fclose(to) == 0) && is_written; /* the kernel answers at the write, which may be here */
}

static bool limit_group(long n_bytes) {
    char text[32];
    snprintf(text, sizeof text, "%ld", n_bytes);
    put(version->swap_limit, version->no_swap);
    return put(version->limit, text);
}

static bool open_group(void) {
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        version = &versions[i];
        snprintf(group, sizeof group, "%s/cdpipe-oom-%d", version->mount, (int)getpid());
        if (mkdir(group, 0755) != 0)
            continue;
        if (limit_group(ROOM_BYTES))
            return true;
        rmdir(group);
    }
    return false;
}

static void close_group(void) {
    for (int turn = 0; turn < 100 && rmdir(group) != 0 && errno == EBUSY; turn++)
        usleep(20000); /* the last of it is still ending */
}

/* The job ----------------------------------------------------------------------------------------------- */

/* batch_job.h's lines and a large one among them, whose record is an error like any other line's. */
static int setup_large(void **state) {
    if (setup(state) != 0)
        return 1;
    char *lines = read_text(input), *at = lines;
    for (int i = 0; i < LARGE_AT; i++)
        at = strchr(at, '\n') + 1;
    FILE *to = fopen(input, "w");
    fwrite(lines, 1, (size_t)(at - lines), to);
    fputs("{\"id\":\"large\",\"prompt\":\"", to);
    for (int i = 0; i < LARGE_BYTES / 8; i++)
        fputs("KATE:\\n ", to);
    fprintf(to, "\"}\n%s", at);
    fclose(to);
    free(lines);
    const char *out = batch_file(test_temp_dir(), "with-large.jsonl");
    batch_go(batch_open(1, 60, input, out), 0);
    cJSON_Delete(undisturbed);
    undisturbed = batch_records(out);
    return cJSON_GetArraySize(undisturbed) == N_LINES + 1 ? 0 : 1;
}

/* "T": stopped. */
static bool is_stopped(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *stat = read_text(path), *name_end = strrchr(stat, ')');
    const bool is = name_end != NULL && strncmp(name_end, ") T ", 4) == 0;
    free(stat);
    return is;
}

/* The job is at work until `victim` has stopped itself at the point; then it has no memory any more. */
static test_run *run_out(int np, int victim, const char *point, const char *out) {
    char fault[64], pid_text[16];
    snprintf(fault, sizeof fault, "CDPIPE_FAULT=%d:%s", victim, point);
    test_run *run = batch_open(np, 60, input, out);
    test_run_add(run, "--max-batch", "4", NULL);
    test_run_env(run, fault);
    test_run_start(run);
    pid_t pid = -1;
    for (const double until = test_now_s() + 30; test_now_s() < until && !is_stopped(pid); usleep(5000))
        pid = np == 1 ? run->pid : test_run_rank(run, victim);
    snprintf(pid_text, sizeof pid_text, "%d", (int)pid);
    if (!is_stopped(pid) || !put("cgroup.procs", pid_text))
        fail_msg("np %d: rank %d, process %d, is not in %s", np, victim, (int)pid, group);
    const double began = test_now_s();
    kill(pid, SIGCONT);
    test_run_wait(run);
    if (run->timed_out || test_now_s() - began > 10)
        fail_msg("np %d, rank %d at %s: took %.1f s\n%s", np, victim, point, test_now_s() - began, run->err);
    return run;
}

static void check_line(const test_run *run, int np, int victim) {
    char named[32];
    snprintf(named, sizeof named, "cdpipe: error: rank %d (", victim);
    const char *line = strstr(run->err, "cdpipe: error:");
    if ((run->exit_code != 137 && run->exit_code != 70) || line == NULL ||
        strncmp(line, named, strlen(named)) != 0 || strstr(line, " died while ") == NULL ||
        strstr(line, "signal 9: Killed, likely for lack of memory") == NULL ||
        strstr(line + 1, "cdpipe: error:") != NULL)
        fail_msg("np %d: exit %d, expected 137 or 70 and one line \"%s... died ... lack of memory\"\n%s", np,
                 run->exit_code, named, run->err);
    assert_int_equal(test_run_left(run), 0);
}

/* Rank 0, which writes: the line of 8 MB is too much for it. */
static void test_rank_0_at_work(void **state) {
    (void)state;
    for (int np = 1; np <= 3; np++) {
        const char *out = fresh();
        test_run *run = run_out(np, 0, "step:stop:12", out);
        const long n_done = batch_count(beside(out, ".part"));
        if (np == 1)
            assert_int_equal(run->signal, SIGKILL); /* nobody is there to say it */
        else
            check_line(run, np, 0);
        if (n_done < 4 || n_done > LARGE_AT)
            fail_msg("np %d: %ld records, expected what was before the large line\n%s", np, n_done, run->err);
        test_run_close(run);
        check_resumes(out, np);
    }
}

/* The others, when the job goes on after a stop: their layers find no room. */
static void test_others_at_their_start(void **state) {
    (void)state;
    static const struct { int np, victim; } cases[] = {{2, 1}, {3, 1}, {3, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *out = fresh();
        test_run *run = start_slow(cases[i].np, out, NULL);
        kill(run->pid, SIGTERM);
        test_run_wait(run);
        test_run_close(run);
        const long n_done = batch_count(beside(out, ".part"));
        run = run_out(cases[i].np, cases[i].victim, "alloc:stop", out);
        check_line(run, cases[i].np, cases[i].victim);
        test_run_close(run);
        assert_true(n_done >= 2);
        assert_int_equal(batch_count(beside(out, ".part")), n_done);
        check_resumes(out, cases[i].np);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rank_0_at_work),
        cmocka_unit_test(test_others_at_their_start),
    };
    if (!open_group()) {
        printf("skipped: no right to make a control group of memory below /sys/fs/cgroup: %s\n",
               strerror(errno));
        return 77;
    }
    const int n_failed = cmocka_run_group_tests(tests, setup_large, teardown);
    close_group();
    return n_failed;
}
