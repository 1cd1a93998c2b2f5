#include "tests/support/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/data.h"

extern char **environ;

/* The runs that are open: a test that fails in the middle leaves them to the end of the program. */
enum { MOST_OPEN = 64 };
static test_run *open_runs[MOST_OPEN];
static pid_t owner; /* a forked child must not close its parent's runs */

static _Noreturn void give_up(const char *what) {
    fprintf(stderr, "tests/support/spawn.c: %s: %s\n", what, strerror(errno));
    exit(2);
}

static char *copy_text(const char *text) {
    char *copy = strdup(text);
    if (copy == NULL)
        give_up("strdup");
    return copy;
}

double test_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

static void close_open_runs(void) {
    for (int i = 0; i < MOST_OPEN && getpid() == owner; i++)
        test_run_close(open_runs[i]);
}

static void keep_run(test_run *run) {
    if (owner == 0) {
        owner = getpid();
        atexit(close_open_runs);
    }
    for (int i = 0; i < MOST_OPEN; i++)
        if (open_runs[i] == NULL) {
            open_runs[i] = run;
            return;
        }
}

static void forget_run(const test_run *run) {
    for (int i = 0; i < MOST_OPEN; i++)
        if (open_runs[i] == run)
            open_runs[i] = NULL;
}

test_run *test_run_open(double deadline_s) {
    test_run *run = calloc(1, sizeof *run);
    if (run == NULL)
        give_up("calloc");
    keep_run(run);
    run->deadline_s = deadline_s;
    run->in_fd = run->out_fd = run->err_fd = -1;
    /* Short and in /tmp: Open MPI puts unix sockets into it, whose paths hold 107 bytes. */
    snprintf(run->temp_dir, sizeof run->temp_dir, "/tmp/cdpipe-test-XXXXXX");
    if (mkdtemp(run->temp_dir) == NULL)
        give_up("mkdtemp");
    char variable[96];
    snprintf(variable, sizeof variable, "TMPDIR=%s", run->temp_dir);
    test_run_env(run, variable);
#ifdef __SANITIZE_ADDRESS__
    test_run_env(run, "LSAN_OPTIONS=print_suppressions=0:suppressions=" CDPIPE_SOURCE_DIR
                      "/tests/support/lsan.supp");
#endif
    return run;
}

static void add_word(test_run *run, const char *word) {
    if (run->n_words == TEST_RUN_WORDS) {
        errno = E2BIG;
        give_up("command line");
    }
    run->words[run->n_words++] = copy_text(word);
}

void test_run_add(test_run *run, ...) {
    va_list words;
    va_start(words, run);
    for (const char *word; (word = va_arg(words, const char *)) != NULL;)
        add_word(run, word);
    va_end(words);
}

void test_run_set(test_run *run, const char *old_word, const char *new_word) {
    for (int i = 0; i < run->n_words; i++) {
        if (strcmp(run->words[i], old_word) != 0)
            continue;
        free(run->words[i]);
        run->words[i] = copy_text(new_word);
        return;
    }
    errno = ENOENT;
    give_up(old_word);
}

void test_run_env(test_run *run, const char *variable) {
    if (run->n_env == TEST_RUN_WORDS) {
        errno = E2BIG;
        give_up("environment");
    }
    run->env[run->n_env++] = copy_text(variable);
}

/* The child's environment ------------------------------------------------------------------------------ */

static size_t name_length(const char *variable) {
    return strcspn(variable, "=");
}

static bool is_kept(const test_run *run, const char *variable) {
    static const char *const prefixes[] = {"CDPIPE_", "OMPI_COMM_", "OMPI_UNIVERSE_", "PMIX_", "SLURM_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
            return false;
    const size_t n = name_length(variable);
    for (int i = 0; i < run->n_env; i++)
        if (name_length(run->env[i]) == n && strncmp(run->env[i], variable, n) == 0)
            return false;
    return true;
}

static char **make_environment(const test_run *run) {
    size_t n = 0;
    while (environ[n] != NULL)
        n++;
    char **all = calloc(n + (size_t)run->n_env + 1, sizeof *all);
    if (all == NULL)
        give_up("calloc");
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        if (is_kept(run, environ[i]))
            all[used++] = environ[i];
    for (int i = 0; i < run->n_env; i++)
        if (strchr(run->env[i], '=') != NULL)
            all[used++] = run->env[i];
    return all;
}

/* Start ------------------------------------------------------------------------------------------------ */

static void run_child(test_run *run, const int in[2], const int out[2], const int err[2], char **env) {
    setsid();
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    /* A test that ignores a signal must not pass that on to what it tests. */
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvpe(run->words[0], run->words, env);
    dprintf(STDERR_FILENO, "%s: %s\n", run->words[0], strerror(errno));
    _exit(127);
}

void test_run_start(test_run *run) {
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        give_up("pipe2");
    if (run->input == NULL) {
        close(in[0]);
        in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    char **env = make_environment(run);
    fflush(NULL);
    run->started_s = test_now_s();
    run->pid = fork();
    if (run->pid < 0)
        give_up("fork");
    if (run->pid == 0)
        run_child(run, in, out, err, env);
    free(env);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    run->in_fd = in[1];
    run->out_fd = out[0];
    run->err_fd = err[0];
    fcntl(run->in_fd, F_SETFL, O_NONBLOCK);
    fcntl(run->out_fd, F_SETFL, O_NONBLOCK);
    fcntl(run->err_fd, F_SETFL, O_NONBLOCK);
}

/* While it runs ---------------------------------------------------------------------------------------- */

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Append what is there to *text; closes *fd at its end. */
static void take_output(int *fd, char **text, size_t *n) {
    char block[65536];
    while (*fd >= 0) {
        const ssize_t got = read(*fd, block, sizeof block);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            close_fd(fd);
            return;
        }
        char *longer = realloc(*text, *n + (size_t)got + 1);
        if (longer == NULL)
            give_up("realloc");
        memcpy(longer + *n, block, (size_t)got);
        *n += (size_t)got;
        longer[*n] = '\0';
        *text = longer;
    }
}

static void give_input(test_run *run) {
    if (run->in_fd < 0)
        return;
    const size_t n = run->input == NULL ? 0 : strlen(run->input);
    if (run->n_input_sent < n) {
        /* A child that closed its stdin must not end the test. */
        void (*before)(int) = signal(SIGPIPE, SIG_IGN);
        const ssize_t sent = write(run->in_fd, run->input + run->n_input_sent, n - run->n_input_sent);
        signal(SIGPIPE, before);
        if (sent > 0)
            run->n_input_sent += (size_t)sent;
        if (sent >= 0 || errno == EAGAIN)
            return;
    }
    close_fd(&run->in_fd);
}

static void exchange(test_run *run, int wait_ms) {
    struct pollfd fds[3] = {{run->out_fd, POLLIN, 0}, {run->err_fd, POLLIN, 0}, {run->in_fd, POLLOUT, 0}};
    poll(fds, 3, wait_ms);
    take_output(&run->out_fd, &run->out, &run->n_out);
    take_output(&run->err_fd, &run->err, &run->n_err);
    give_input(run);
}

/* Ranks sit in process groups of their own, and outlive mpirun for a moment; but they all carry the run's
 * TMPDIR in their environment, which nothing else does. */
static int of_run(const test_run *run, int signal_number) {
    return test_each_process("environ", run->temp_dir, signal_number);
}

int test_run_left(const test_run *run) {
    int n = of_run(run, 0);
    for (int turn = 0; turn < 40 && n > 0; turn++) {
        sleep_ms(50);
        n = of_run(run, 0);
    }
    return n;
}

/* End -------------------------------------------------------------------------------------------------- */

static void note_end(test_run *run, int status) {
    run->elapsed_s = test_now_s() - run->started_s;
    run->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    run->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Kill every process of a run whose time is over. */
static void enforce_deadline(test_run *run) {
    if (run->timed_out || test_now_s() - run->started_s <= run->deadline_s)
        return;
    run->timed_out = true;
    kill(-run->pid, SIGKILL);
    of_run(run, SIGKILL);
}

/* The process has ended: take its last words. */
static void end_run(test_run *run, int status) {
    note_end(run, status);
    kill(-run->pid, SIGKILL);
    /* A rank that is still ending may hold the pipes a little longer than mpirun. */
    for (int turn = 0; turn < 50 && (run->out_fd >= 0 || run->err_fd >= 0); turn++)
        exchange(run, 20);
    close_fd(&run->in_fd);
    close_fd(&run->out_fd);
    close_fd(&run->err_fd);
    if (run->out == NULL)
        run->out = copy_text("");
    if (run->err == NULL)
        run->err = copy_text("");
    test_run_drop_boxes(run);
    run->pid = 0;
}

void test_run_wait_all(test_run **runs, int n) {
    for (int n_left = n; n_left > 0;) {
        n_left = 0;
        for (int i = 0; i < n; i++) {
            int status = 0;
            if (runs[i]->pid == 0)
                continue;
            if (waitpid(runs[i]->pid, &status, WNOHANG) != 0) {
                end_run(runs[i], status);
                continue;
            }
            exchange(runs[i], 10 / n);
            enforce_deadline(runs[i]);
            n_left++;
        }
        if (n > 10)
            sleep_ms(5);
    }
}

void test_run_wait(test_run *run) {
    test_run_wait_all(&run, 1);
}

bool test_run_sees(test_run *run, const char *text, double wait_s) {
    const double until = test_now_s() + wait_s;
    do {
        if ((run->out != NULL && strstr(run->out, text) != NULL) ||
            (run->err != NULL && strstr(run->err, text) != NULL))
            return true;
        exchange(run, 10);
        if (run->out_fd < 0)
            sleep_ms(10);
    } while (test_now_s() < until);
    return false;
}

bool test_run_answers(test_run *run, double wait_s) {
    const double until = test_now_s() + wait_s;
    while (run->n_out == 0 && test_now_s() < until)
        exchange(run, 10);
    return run->n_out > 0;
}

int test_run_signal(const test_run *run, int signal_number) {
    return of_run(run, signal_number);
}

void test_run_go(test_run *run) {
    test_run_start(run);
    test_run_wait(run);
}

void test_run_close(test_run *run) {
    if (run == NULL)
        return;
    forget_run(run);
    if (run->pid > 0) {
        kill(-run->pid, SIGKILL);
        waitpid(run->pid, NULL, 0);
    }
    of_run(run, SIGKILL);
    close_fd(&run->in_fd);
    close_fd(&run->out_fd);
    close_fd(&run->err_fd);
    test_remove_folder(run->temp_dir);
    for (int i = 0; i < run->n_words; i++)
        free(run->words[i]);
    for (int i = 0; i < run->n_env; i++)
        free(run->env[i]);
    free(run->out);
    free(run->err);
    free(run);
}
