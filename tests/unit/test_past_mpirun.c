/* Rank 0 writes to mpirun's own stdout and stderr where Open MPI 5 would keep lines back, and only there.
 * This program plays mpirun, under its name, and the rank.
 *
 * What it catches: another version, rank or launcher bypassed; output that mpirun was asked to mark; an
 * --output of cdpipe's own taken for mpirun's; a file written over from its start.
 */
#include "launcher/past_mpirun.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { STREAMS_OF_RANK = 10 }; /* where the played mpirun would read what its rank writes */

/* How many descriptors are still what mpirun gave the rank for stdout and stderr. */
static int count_streams(void) {
    struct stat streams, about;
    int n = 0;
    fstat(STREAMS_OF_RANK, &streams);
    for (int fd = 0; fd < 32; fd++)
        n += fd != STREAMS_OF_RANK && fstat(fd, &about) == 0 && about.st_ino == streams.st_ino;
    return n;
}

static void be_rank(void) {
    dup2(STREAMS_OF_RANK, STDOUT_FILENO);
    dup2(STREAMS_OF_RANK, STDERR_FILENO);
    if (getenv("TEST_PROGRAM") != NULL)
        execl(CDPIPE_BIN, "cdpipe", "batch", "--version", (char *)NULL);
    cdp_write_past_mpirun("batch");
    dprintf(STDOUT_FILENO, "te");
    dprintf(STDERR_FILENO, "xt");
    if (count_streams() < 2)
        dprintf(STDERR_FILENO, ": mpirun takes this rank's stream for ended, and ends its stdin");
    _exit(0);
}

/* mpirun writes, too, before and after its rank. */
static int be_mpirun(void) {
    signal(SIGPIPE, SIG_IGN);
    dprintf(STDOUT_FILENO, "<");
    const pid_t rank = fork();
    if (rank == 0)
        be_rank();
    waitpid(rank, NULL, 0);
    dprintf(STDOUT_FILENO, ">");
    return 0;
}

static void read_all(int fd, char *out, size_t out_size) {
    size_t n = 0;
    for (ssize_t got; n + 1 < out_size && (got = read(fd, out + n, out_size - 1 - n)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    close(fd);
}

/* Run `name option` with both streams at `fd`; kept[16]: what the rank wrote where mpirun would read it. */
static void run_mpirun(const char *name, const char *option, int fd, char *kept) {
    int from_rank[2];
    assert_int_equal(pipe2(from_rank, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        dup2(from_rank[1], STREAMS_OF_RANK);
        close(fd);
        execl("/proc/self/exe", name, "-np", "1", option, "cdpipe", "batch", "--output", "x", (char *)NULL);
        _exit(1);
    }
    close(from_rank[1]);
    int status = 1;
    assert_true(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
    read_all(from_rank[0], kept, 16);
}

static void set_rank(const char *version, const char *rank) {
    setenv("OMPI_VERSION", version, 1);
    setenv("OMPI_COMM_WORLD_RANK", rank, 1);
}

/* True when the rank's text went straight into the pipe that is mpirun's streams. */
static bool goes_past(const char *name, const char *option) {
    int ends[2];
    char kept[16], direct[16];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    run_mpirun(name, option, ends[1], kept);
    close(ends[1]);
    read_all(ends[0], direct, sizeof direct);
    const bool is_past = strcmp(direct, "<text>") == 0;
    assert_string_equal(direct, is_past ? "<text>" : "<>");
    assert_string_equal(kept, is_past ? "" : "text");
    return is_past;
}

static void a_pipe_is_written_to_directly(void **state) {
    (void)state;
    set_rank("5.0.7", "0");
    assert_true(goes_past("prterun", "--oversubscribe"));
    assert_true(goes_past("/usr/bin/mpirun", "--bind-to"));
    set_rank("10.1", "0");
    assert_true(goes_past("prterun", "--oversubscribe"));
}

static void nothing_changes_elsewhere(void **state) {
    (void)state;
    set_rank("4.1.4", "0");
    assert_false(goes_past("mpirun", "-q"));
    set_rank("5.0.7", "1");
    assert_false(goes_past("prterun", "-q"));
    set_rank("5.0.7", "0");
    assert_false(goes_past("prted", "-q"));
    assert_false(goes_past("sh", "-q"));
    unsetenv("OMPI_VERSION");
    assert_false(goes_past("prterun", "-q"));
    set_rank("5.0.7", "0");
    unsetenv("OMPI_COMM_WORLD_RANK");
    assert_false(goes_past("prterun", "-q"));
}

static void what_mpirun_was_told_of_output_counts(void **state) {
    (void)state;
    static const char *const options[] = {"--output",
                                          "--output=tag",
                                          "--output-filename",
                                          "--tag-output",
                                          "--timestamp-output",
                                          "--merge-stderr-to-stdout",
                                          "--xml",
                                          "--xterm"};
    set_rank("5.0.7", "0");
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (goes_past("prterun", options[i]))
            fail_msg("%s: and yet the text went past mpirun", options[i]);
}

/* Does this kernel give out its parent's descriptors? Not where ptrace is restricted. */
static bool can_share(void) {
    const pid_t pid = fork();
    if (pid == 0) {
        const int parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
        _exit(syscall(SYS_pidfd_getfd, parent, STDOUT_FILENO, 0) >= 0 ? 1 : 0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status) == 1;
}

static void a_file_keeps_its_place(void **state) {
    (void)state;
    char path[] = "/tmp/cdpipe_past_XXXXXX", kept[16], written[16];
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    set_rank("5.0.7", "0");
    run_mpirun("prterun", "--oversubscribe", fd, kept);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    read_all(fd, written, sizeof written);
    assert_string_equal(written, can_share() ? "<text>" : "<>");
    assert_string_equal(kept, can_share() ? "" : "text");
}

/* The program itself does it, before it writes anything. */
static void cdpipe_writes_past_mpirun(void **state) {
    (void)state;
    int ends[2];
    char kept[16], direct[16];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    set_rank("5.0.7", "0");
    setenv("TEST_PROGRAM", "1", 1);
    run_mpirun("prterun", "--oversubscribe", ends[1], kept);
    unsetenv("TEST_PROGRAM");
    close(ends[1]);
    read_all(ends[0], direct, sizeof direct);
    assert_string_equal(kept, "");
    assert_memory_equal(direct, "<cdpipe ", 8);
}

/* One with a name: it would take for ever to open. */
static void a_pipe_without_a_reader_is_no_wait(void **state) {
    (void)state;
    char dir[] = "/tmp/cdpipe_past_XXXXXX", path[64], kept[16];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    const int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    unlink(path);
    rmdir(dir);
    assert_true(reader >= 0 && fd >= 0);
    close(reader);
    set_rank("5.0.7", "0");
    run_mpirun("prterun", "--oversubscribe", fd, kept);
    assert_string_equal(kept, can_share() ? "" : "text");
    close(fd);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) /* no test has words; with them this is mpirun */
        return be_mpirun();
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_pipe_is_written_to_directly),
                                       cmocka_unit_test(nothing_changes_elsewhere),
                                       cmocka_unit_test(what_mpirun_was_told_of_output_counts),
                                       cmocka_unit_test(a_file_keeps_its_place),
                                       cmocka_unit_test(cdpipe_writes_past_mpirun),
                                       cmocka_unit_test(a_pipe_without_a_reader_is_no_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
