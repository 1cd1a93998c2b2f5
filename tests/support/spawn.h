/* tests/support/spawn.h - run a program as a person or a script does, and see how it ended.
 *
 *     test_run *run = test_run_open(30.0);                 30 s, then the whole group is killed
 *     test_run_mpirun(run, 3);                             optional: the words up to "-np 3"
 *     test_run_add(run, CDPIPE_BIN, "--model", m, NULL);
 *     test_run_env(run, "CDPIPE_FAULT=1:step:kill9");
 *     test_run_go(run);                                    or test_run_start, something, test_run_wait
 *     assert_int_equal(run->exit_code, 70);
 *     assert_int_equal(test_run_left(run), 0);
 *     test_run_close(run);
 *
 * Each run has a temporary folder of its own (TMPDIR), so that nothing of it stays in the system's, and a
 * session of its own. Variables of this process pass on, except CDPIPE_* and what a launcher sets. In a
 * build with sanitizers LSAN_OPTIONS names lsan.supp, which silences what MPI itself never frees.
 * Trouble of the test machine itself (no fork, no memory) ends the test with a line and code 2.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { TEST_RUN_WORDS = 128 };

typedef struct test_run {
    /* What came out of it, after test_run_wait. */
    int exit_code;    /* -1 when a signal ended it; mpirun reports 128 + signal of a rank as its code */
    int signal;       /* 0, or the signal that ended it */
    bool timed_out;   /* the deadline passed and everything was killed */
    double elapsed_s; /* from start to the end of the process */
    char *out, *err;  /* all of stdout and stderr, NUL-terminated */
    size_t n_out, n_err;

    /* How it is started; filled by the functions below. */
    double deadline_s;
    const char *input; /* stdin's text; NULL: /dev/null. Not owned. */
    char *words[TEST_RUN_WORDS + 1];
    int n_words;
    char *env[TEST_RUN_WORDS + 1]; /* NAME=VALUE, or NAME to remove it */
    int n_env;
    char temp_dir[64];

    /* While it runs. */
    pid_t pid; /* also its process group */
    double started_s;
    int in_fd, out_fd, err_fd;
    size_t n_input_sent;
} test_run;

/* An empty command line. The caller closes it. */
test_run *test_run_open(double deadline_s);

/* Words of the command line, up to a NULL. They are copied. */
void test_run_add(test_run *run, ...) __attribute__((sentinel));

/* Put another word in the place of one that is there, e.g. of one of test_run_mpirun's. */
void test_run_set(test_run *run, const char *old_word, const char *new_word);

/* One variable: "NAME=VALUE" sets, "NAME" removes. Copied. */
void test_run_env(test_run *run, const char *variable);

/* The words "mpirun ... -np N": quiet, oversubscribed, unbound, shared memory only, with a time limit a
 * little above the deadline, and with the variables that let root do it. */
void test_run_mpirun(test_run *run, int np);

/* Take out of stderr what mpirun of Open MPI 5 says in a box of its own, which no option silences, when a
 * rank ends with a code. Waiting does it. */
void test_run_drop_boxes(test_run *run);

/* Start it; wait for its end; both in one. Waiting kills the process group at the end in every case, and at
 * the deadline every process of the run. */
void test_run_start(test_run *run);
void test_run_wait(test_run *run);
void test_run_go(test_run *run);

/* The same for several that were started, each with its own deadline and elapsed time. */
void test_run_wait_all(test_run **runs, int n);

/* Between start and wait: true as soon as stdout or stderr holds `text`; false when wait_s is over first. */
bool test_run_sees(test_run *run, const char *text, double wait_s);

/* Let it run until something stands on its standard output. */
bool test_run_answers(test_run *run, double wait_s);

/* Send a signal to every process of the run, ranks too; the number of those. run->pid alone is mpirun. */
int test_run_signal(const test_run *run, int signal_number);

/* Processes of this run that are still there, zombies not counted. Gives them up to 2 s to go. */
int test_run_left(const test_run *run);

/* Kill what is left, remove the temporary folder, free all. NULL is fine. A run that a failing test leaves
 * open is closed at exit. */
void test_run_close(test_run *run);

/* Processes whose command line contains `marker`, zombies and the caller not counted. At once. */
int test_processes(const char *marker);

/* Count the processes, zombies and the caller not, whose file /proc/PID/`name` ("cmdline", "environ")
 * contains `marker`, and send each `signal_number` if that is not 0. */
int test_each_process(const char *name, const char *marker, int signal_number);

/* The process of rank `rank` of a run that mpirun started, -1 while there is none. */
pid_t test_run_rank(const test_run *run, int rank);

/* Monotonic seconds. */
double test_now_s(void);
