/* cdpipe: argv -> options -> world -> job -> exit code. Statuses become lines and exit codes here. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/watchdog.h"
#include "kernels/fault.h"
#include "kernels/log.h"
#include "launcher/batch/disk.h"
#include "launcher/batch/evidence.h"
#include "launcher/jobs/jobs.h"
#include "launcher/past_mpirun.h"
#include "launcher/self_start.h"
#include "launcher/streams.h"
#include "launcher/terminal.h"
#include "launcher/version.h"

static void print_error(void) {
    if (cdp_error_message()[0] == '\0')
        return;
    fprintf(stderr, "cdpipe: error: %s\n", cdp_error_message());
    if (getenv("CDPIPE_TRAIL") != NULL) /* for those who look for the place in the source */
        fputs(cdp_error_trail(), stderr);
}

/* The watchdog's way out: from any thread, waiting for nobody. */
static void leave(int exit_code) {
    _exit(exit_code);
}

/* A hang of this rank's own is evidence in a batch job's journal; a killed peer is none, nor is a disk that
 * does not answer (which would not take the line either). */
static void tell_journal(void) {
    if (!cdp_disk_is_busy())
        cdp_evidence_leave("hang", 0);
}

/* Rank 0's bytes on every rank, however many; the caller frees *out (NUL-terminated). */
static cdp_status share_bytes(cdp_world *world, const char *mine, size_t n_mine, char **out, size_t *n_out) {
    int64_t n = (int64_t)n_mine;
    *out = NULL;
    CDP_TRY(cdp_world_broadcast(world, &n, sizeof n));
    *n_out = (size_t)n;
    *out = calloc(1, (size_t)n + 1);
    CDP_TRY(
        cdp_world_agree(world, *out != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the options")));
    if (cdp_world_rank(world) == 0)
        memcpy(*out, mine, n_mine);
    return cdp_world_broadcast(world, *out, (size_t)n);
}

/* Every rank must have been started by the same words and the same build. */
static cdp_status compare_words(cdp_world *world, int argc, char **argv) {
    char *words = NULL, *line = NULL, *first = NULL;
    size_t n_first = 0;
    cdp_status st = cdp_options_argv_text(&words, argc, argv);
    if (st == CDP_OK && asprintf(&line, "cdpipe %s: %s", cdp_version(), words) < 0)
        st = cdp_fail(CDP_SYSTEM, "no memory to compare the command lines");
    st = cdp_world_agree(world, st);
    if (st == CDP_OK)
        st = share_bytes(world, line, strlen(line), &first, &n_first);
    if (st == CDP_OK && strcmp(first, line) != 0)
        st = cdp_fail(CDP_USAGE, "started by other words than rank 0: \"%.300s\" and not \"%.300s\"", line,
                      first);
    free(first);
    free(line);
    free(words);
    return cdp_world_agree(world, st);
}

/* Rank 0's options are the ones that count, because remote ranks lack its CDPIPE_ variables. */
static cdp_status share_options(cdp_options *options, cdp_world *world) {
    char *bytes = NULL, *given = NULL;
    size_t n = 0, n_given = 0;
    cdp_status st = cdp_world_agree(world, cdp_options_pack(options, &bytes, &n));
    if (st == CDP_OK)
        st = share_bytes(world, bytes, n, &given, &n_given);
    if (st == CDP_OK && cdp_world_rank(world) != 0)
        st = cdp_options_unpack(options, given, n_given);
    free(given);
    free(bytes);
    return cdp_world_agree(world, st);
}

/* The arguments' phase: parsed alike everywhere, --np as mpirun has it, faults ready. The watchdog runs from
 * the first agreement on, with this rank's idea of the limit until rank 0's is known. */
static cdp_status begin(cdp_options *options, cdp_world *world, cdp_status parsed, int argc, char **argv) {
    const cdp_watchdog_options watch = {
        .limit_s = options->step_timeout, .leave = leave, .on_own_fault = tell_journal};
    CDP_TRY(cdp_watchdog_start(world, &watch));
    CDP_TRY(cdp_world_agree(world, parsed));
    cdp_status st =
        cdp_fault_open(cdp_world_rank(world)); /* again: the launcher's word may have been another */
    if (st == CDP_OK)
        st = cdp_fault_pass("args");
    if (st == CDP_OK && options->np > 0 && options->np != cdp_world_size(world))
        st = cdp_fail(CDP_USAGE,
                      "--np %d, but the launcher started %d rank%s: leave --np away or make them equal",
                      options->np, cdp_world_size(world), cdp_world_size(world) == 1 ? "" : "s");
    CDP_TRY(cdp_world_agree(world, st));
    CDP_TRY(compare_words(world, argc, argv));
    CDP_TRY(share_options(options, world));
    cdp_log_open(cdp_world_rank(world) == 0 && !options->quiet);
    cdp_options_note_variables(options->command);
    int n_cpus = 0;
    if (cdp_world_unbind(world, &n_cpus))
        cdp_note("mpirun had bound this rank to one core: undone, %d cores (mpirun --bind-to none says so at "
                 "the start)",
                 n_cpus);
    cdp_watchdog_set_limit(world, options->step_timeout);
    return CDP_OK;
}

/* What a rank that leaves alone says of itself: its number, and its GPU where it has one. */
static void name_self(char *out, size_t out_size, const cdp_run *run, int rank) {
    if (run->choice.gpu.uuid[0] != '\0')
        snprintf(out, out_size, "rank %d (GPU %d %s, %s)", rank, run->choice.gpu.index, run->choice.gpu.name,
                 run->choice.gpu.uuid);
    else
        snprintf(out, out_size, "rank %d", rank);
}

static cdp_status run_job(cdp_options *options, cdp_world *world, bool *is_alone, char *self,
                          size_t self_size) {
    cdp_run run = {0};
    cdp_status st = CDP_OK;
    if (options->command == CDP_DEVICES)
        return cdp_job_devices(options, world);
    st = options->command == CDP_SCORE   ? cdp_job_score(&run, options, world)
         : options->command == CDP_BENCH ? cdp_job_bench(&run, options, world)
         : options->command == CDP_LENS  ? cdp_job_lens(&run, options, world)
         : options->command == CDP_CHAT  ? cdp_job_chat(&run, options, world)
         : options->command == CDP_BATCH ? cdp_job_batch(&run, options, world)
                                         : cdp_job_generate(&run, options, world);
    *is_alone = run.is_alone;
    name_self(self, self_size, &run, cdp_world_rank(world));
    if (!run.is_alone)
        cdp_run_close(&run);
    return st;
}

enum { MPI_START_S = 10 }; /* MPI_Init takes 0.3 s, and seconds where many start at once on few cores */

/* MPI_Init waits for all ranks; a guard waits for MPI_Init. */
static cdp_status join_world(cdp_world **out, const cdp_options *options) {
    const char *rank = cdp_world_launch_rank();
    cdp_guard *guard = NULL;
    if (cdp_fault_open(rank != NULL ? (int)strtol(rank, NULL, 10) : 0) != CDP_OK)
        cdp_error_clear(); /* said by the arguments' phase, when all can agree on it */
    if (cdp_world_has_launcher())
        CDP_TRY(cdp_guard_start(&guard, options->step_timeout + MPI_START_S, leave));
    cdp_status st = cdp_stop_install(); /* a USR1 that ends a rank in MPI_Init can hang mpirun itself */
    if (st == CDP_OK)
        st = cdp_fault_pass("init");
    if (st == CDP_OK)
        st = cdp_world_open(out);
    cdp_guard_end(guard);
    return st;
}

/* Commands of a world: all that run a model, and devices under mpirun. */
static int world_main(cdp_options *options, cdp_status parsed, int argc, char **argv) {
    cdp_world *world = NULL;
    cdp_status st = join_world(&world, options);
    if (st != CDP_OK) {
        print_error();
        return st;
    }
    const int rank = cdp_world_rank(world);
    bool is_alone = false;
    char self[192] = "";
    cdp_stream_keep_stdout(world);
    st = begin(options, world, parsed, argc, argv);
    if (st == CDP_OK)
        st = run_job(options, world, &is_alone, self, sizeof self);
    if (is_alone) { /* nobody else knows: no MPI call may follow */
        cdp_stream_keep_stdout(NULL);
        fprintf(stderr, "cdpipe: error: %s: %s\n", self, cdp_error_message());
        fflush(NULL);
        cdp_watchdog_has_spoken(world); /* one line is enough: the others need not name this rank again */
        _exit(st);
    }
    if (st != CDP_OK && rank == 0)
        print_error();
    fflush(NULL);
    const cdp_status last = cdp_fault_pass("finalize");
    if (st == CDP_OK && last != CDP_OK) {
        fprintf(stderr, "cdpipe: error: rank %d: %s\n", rank, cdp_error_message());
        st = last;
    }
    cdp_stream_keep_stdout(NULL);
    cdp_watchdog_stop(world);
    const bool must_exit_at_once = cdp_world_must_exit_at_once(world);
    cdp_world_close(world);
    cdp_options_close(options);
    if (must_exit_at_once) {
        fflush(NULL);
        _exit(st);
    }
    return st;
}

static int print_and_end(const cdp_options *options) {
    if (options->command == CDP_VERSION)
        cdp_version_print(stdout);
    else if (options->command == CDP_MAN)
        cdp_options_print_man(stdout);
    else
        cdp_options_print_help(stdout, options->help_for);
    if (fflush(stdout) == 0)
        return CDP_OK;
    cdp_fail(CDP_IO, "writing to standard output: %s", strerror(errno));
    print_error();
    return CDP_IO;
}

/* Commands that need no world. Under mpirun or srun rank 0 alone speaks. */
static int alone_main(cdp_options *options) {
    const char *rank = cdp_world_launch_rank();
    if (rank != NULL && strcmp(rank, "0") != 0)
        return CDP_OK;
    cdp_log_open(!options->quiet);
    cdp_options_note_variables(options->command);
    const cdp_status st = options->command == CDP_PLAN       ? cdp_job_plan(options)
                          : options->command == CDP_TOKENIZE ? cdp_job_tokenize(options)
                          : options->command == CDP_STATUS   ? cdp_job_status(options)
                          : options->command == CDP_TEMPLATE ? cdp_job_template(options)
                                                             : cdp_job_devices(options, NULL);
    if (st != CDP_OK)
        print_error();
    return st;
}

/* A standard stream that was closed gets /dev/null, or the next file opened would take its number, and its
 * text. */
static void hold_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            _exit(CDP_SYSTEM);
}

/* Compute, both edges of the ring, NCCL's own streams and the loader's lanes are more than the eight queues
 * a GPU has by default. Streams beyond that share one, where a send would wait behind a receive that spins:
 * so a job's file that asks for fewer (training with Megatron wants 1) is not heard. CUDA reads it when it
 * starts. */
static void ask_for_queues(void) {
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
}

int main(int argc, char **argv) {
    cdp_options options;
    hold_standard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit (ulimit -f): the write says so, by EFBIG */
    ask_for_queues();
    cdp_write_past_mpirun(argc > 1 ? argv[1] : NULL);
    cdp_terminal_take();
    const cdp_status parsed = cdp_options_parse(&options, argc, argv);
    if (parsed == CDP_OK && options.command >= CDP_N_COMMANDS)
        return print_and_end(&options);
    const bool is_alone = options.command == CDP_PLAN || options.command == CDP_TOKENIZE ||
                          options.command == CDP_STATUS || options.command == CDP_TEMPLATE ||
                          (options.command == CDP_DEVICES && !cdp_world_has_launcher());
    if (parsed == CDP_OK && is_alone)
        return alone_main(&options);
    if (parsed == CDP_OK && !cdp_world_has_launcher() && options.np == 0) {
        const cdp_status counted = cdp_place_n_gpus(&options.np, &options);
        if (counted != CDP_OK) {
            print_error();
            return counted;
        }
    }
    if (parsed == CDP_OK && cdp_self_start_wanted(&options)) {
        int exit_code = 0;
        const cdp_status st = cdp_self_start(&exit_code, &options, argc, argv);
        if (st != CDP_OK)
            print_error();
        return st != CDP_OK ? (int)st : exit_code;
    }
    return world_main(&options, parsed, argc, argv);
}
