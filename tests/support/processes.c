/* What /proc knows about the processes of a run. */
#include "tests/support/spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t read_proc(pid_t pid, const char *name, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    for (ssize_t got; fd >= 0 && n < size - 1 && (got = read(fd, text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    if (fd >= 0)
        close(fd);
    text[n] = '\0';
    return n;
}

static bool is_zombie(pid_t pid) {
    char text[512];
    read_proc(pid, "stat", text, sizeof text);
    const char *after_name = strrchr(text, ')');
    return after_name == NULL || after_name[1] == '\0' || after_name[2] == 'Z' || after_name[2] == 'X';
}

int test_each_process(const char *name, const char *marker, int signal_number) {
    static char text[1 << 18];
    int count = 0;
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        perror("/proc");
        exit(2);
    }
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        const pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid <= 0 || pid == getpid())
            continue;
        const size_t n = read_proc(pid, name, text, sizeof text);
        if (memmem(text, n, marker, strlen(marker)) == NULL || is_zombie(pid))
            continue;
        count++;
        if (signal_number != 0)
            kill(pid, signal_number);
    }
    closedir(proc);
    return count;
}

pid_t test_run_rank(const test_run *run, int rank) {
    static char text[1 << 18];
    char variable[40];
    pid_t found = -1;
    snprintf(variable, sizeof variable, "OMPI_COMM_WORLD_RANK=%d", rank);
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc != NULL && found < 0 && (entry = readdir(proc)) != NULL;) {
        const pid_t pid = (pid_t)atoi(entry->d_name);
        const size_t n = pid > 0 ? read_proc(pid, "environ", text, sizeof text) : 0;
        if (memmem(text, n, run->temp_dir, strlen(run->temp_dir)) != NULL &&
            memmem(text, n, variable, strlen(variable) + 1) != NULL && !is_zombie(pid))
            found = pid; /* the variable with its NUL: rank 1 is not rank 12 */
    }
    if (proc != NULL)
        closedir(proc);
    return found;
}

int test_processes(const char *marker) {
    for (size_t i = 0; marker[i] != '\0'; i++)
        if (marker[i] == ' ') {
            fprintf(stderr, "\"%s\": a marker must lie inside one word\n", marker);
            exit(2);
        }
    return test_each_process("cmdline", marker, 0);
}
