#include "launcher/past_mpirun.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The launcher tells each rank its number and its own version. */
static bool is_kept_back(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *version = getenv("OMPI_VERSION");
    return rank != NULL && strcmp(rank, "0") == 0 && version != NULL && strtol(version, NULL, 10) >= 5;
}

static bool is_about_output(const char *word) {
    static const char *const words[] = {"--output", "--tag-output", "--timestamp-output",
                                        "--xml",    "--xterm",      "--merge-stderr-to-stdout"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strncmp(word, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

/* The parent of a rank on another host is mpirun's daemon there, and elsewhere something else again. */
static bool is_plain_mpirun(pid_t pid, const char *first_word) {
    char path[64], *word = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *words = fopen(path, "re");
    if (words == NULL)
        return false;
    bool is_plain = false;
    if (getdelim(&word, &room, '\0', words) > 0) {
        const char *slash = strrchr(word, '/'), *name = slash != NULL ? slash + 1 : word;
        is_plain = strcmp(name, "prterun") == 0 || strcmp(name, "mpirun") == 0;
    }
    while (is_plain && getdelim(&word, &room, '\0', words) > 0 &&
           (first_word == NULL || strcmp(word, first_word) != 0))
        is_plain = !is_about_output(word);
    free(word);
    fclose(words);
    return is_plain;
}

/* The descriptor itself, with its place in the file: what comes before and after in a script stays before
 * and after. Not one that does not block: so it is mpirun's, and our writes count on waiting. */
static int share_descriptor(pid_t pid, int fd) {
    const int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process < 0)
        return -1;
    const int shared = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    close(process);
    if (shared >= 0 && (fcntl(shared, F_GETFL) & O_NONBLOCK) != 0) {
        close(shared);
        return -1;
    }
    return shared;
}

/* A pipe or a terminal, opened anew: no place in it can be lost, and fewer kernels refuse it. Without a
 * reader it would wait, so it is opened without waiting first. */
static int open_again(pid_t pid, int fd) {
    char path[64];
    struct stat about;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
    if (stat(path, &about) != 0 || !(S_ISFIFO(about.st_mode) || S_ISCHR(about.st_mode)))
        return -1;
    const int opened = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (opened >= 0)
        fcntl(opened, F_SETFL, 0);
    return opened;
}

void cdp_write_past_mpirun(const char *first_word) {
    const pid_t mpirun = getppid();
    if (!is_kept_back() || !is_plain_mpirun(mpirun, first_word))
        return;
    signal(SIGTTOU, SIG_IGN); /* `stty tostop`: mpirun's terminal is not this process group's */
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        int own = open_again(mpirun, fd);
        if (own < 0)
            own = share_descriptor(mpirun, fd);
        if (own < 0)
            continue;
        /* The old one stays open: by its end mpirun would tell that of the rank, and end its stdin, too. */
        if (fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) >= 0)
            dup2(own, fd);
        close(own);
    }
}
