#include "launcher/self_start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/world.h"
#include "launcher/terminal.h"

static pid_t child; /* a signal handler has no other way to know it */

static void pass_on(int signal_number) {
    static volatile sig_atomic_t n_interrupts;
    const bool is_second = signal_number == SIGINT && ++n_interrupts > 1;
    if (child > 0)
        kill(child, is_second ? SIGUSR2 : SIGUSR1);
}

bool cdp_self_start_wanted(const cdp_options *options) {
    return options->np > 1 && !cdp_world_has_launcher();
}

/* One node, shared memory, no binding; more ranks than cores are fine, because no rank of ours spins. Quiet
 * in the words that Open MPI 5 takes, too: it refuses -q. */
static const char *const mpirun_line[] = {
    "mpirun", "--oversubscribe", "--bind-to", "none",      "--mca", "orte_execute_quiet", "1", "--mca", "pml",
    "ob1",    "--mca",           "btl",       "self,vader"};

/* A shell's <(...) is a descriptor of this process, and mpirun passes on none but standard input. */
static size_t add_descriptor(const char **line, const char *option, const char *path) {
    if (path == NULL || strncmp(path, "/dev/fd/", strlen("/dev/fd/")) != 0)
        return 0;
    const int fd = open(path, O_RDONLY);
    if (fd < 0)
        return 0; /* rank 0 says so */
    dup2(fd, STDIN_FILENO);
    line[0] = option;
    line[1] = "/dev/stdin"; /* the later one counts */
    return 2;
}

static void exec_mpirun(const cdp_options *o, int argc, char **argv, const char *self) {
    const size_t n_line = sizeof mpirun_line / sizeof mpirun_line[0];
    const char **line = calloc(n_line + (size_t)argc + 8, sizeof *line);
    char number[16];
    if (line == NULL)
        _exit(CDP_SYSTEM);
    memcpy(line, mpirun_line, sizeof mpirun_line);
    snprintf(number, sizeof number, "%d", o->np);
    size_t n = n_line;
    line[n++] = "-np";
    line[n++] = number;
    line[n++] = self;
    for (int i = 1; i < argc; i++)
        line[n++] = argv[i];
    n += add_descriptor(line + n, "--prompt-file", o->prompt_file);
    add_descriptor(line + n, "--input", o->input);
    setenv("CDPIPE_TERMINAL_OUT", isatty(STDOUT_FILENO) ? "1" : "0", 1);
    setenv("CDPIPE_TERMINAL", isatty(STDERR_FILENO) ? "1" : "0", 1); /* the ranks cannot see it */
    if (geteuid() == 0) { /* as root, as in a container, mpirun wants both */
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    if (isatty(STDIN_FILENO)) { /* a background group that reads from its terminal is stopped */
        const int nothing = open("/dev/null", O_RDONLY);
        if (nothing >= 0)
            dup2(nothing, STDIN_FILENO);
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* mpirun must not outlive the cdpipe that started it */
    setpgid(0, 0); /* out of the terminal's foreground group: its Ctrl-C reaches us alone */
    execvp("mpirun", (char *const *)line);
    fprintf(stderr, "cdpipe: error: cannot start mpirun: %s (Debian: apt-get install openmpi-bin)\n",
            strerror(errno));
    _exit(CDP_SYSTEM);
}

cdp_status cdp_self_start(int *exit_code_out, const cdp_options *options, int argc, char **argv) {
    char self[4096];
    if (options->command != CDP_BENCH && options->command != CDP_BATCH && options->command != CDP_CHAT &&
        options->prompt == NULL && options->prompt_file == NULL && options->prompt_ids == NULL &&
        isatty(STDIN_FILENO))
        return cdp_fail(CDP_USAGE,
                        "no text: give --prompt, --prompt-file, --prompt-ids, or text on standard input");
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return cdp_fail(CDP_SYSTEM, "/proc/self/exe: %s", strerror(errno));
    self[n] = '\0';
    if (options->command == CDP_CHAT)
        cdp_terminal_lend();
    child = fork();
    if (child < 0)
        return cdp_fail(CDP_SYSTEM, "cannot start mpirun: %s", strerror(errno));
    if (child == 0)
        exec_mpirun(options, argc, argv, self);
    const struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return cdp_fail(CDP_SYSTEM, "waiting for mpirun: %s", strerror(errno));
    cdp_terminal_take_back();
    *exit_code_out = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return CDP_OK;
}
