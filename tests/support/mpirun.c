/* What runs under mpirun need, and what mpirun adds to their words. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/spawn.h"

void test_run_mpirun(test_run *run, int np) {
    char limit[32], ranks[32];
    snprintf(limit, sizeof limit, "%d", (int)run->deadline_s + 5);
    snprintf(ranks, sizeof ranks, "%d", np);
    test_run_add(run, "mpirun", "--oversubscribe", "--bind-to", "none", "--timeout", limit, NULL);
    test_run_add(run, "--mca", "orte_execute_quiet", "1", "--mca", "pml", "ob1", NULL);
    test_run_add(run, "--mca", "btl", "self,vader", NULL);
    test_run_add(run, "--mca", "btl_vader_backing_directory", run->temp_dir, "-np", ranks, NULL);
    if (geteuid() == 0) {
        test_run_env(run, "OMPI_ALLOW_RUN_AS_ROOT=1");
        test_run_env(run, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    }
}

/* The next line's beginning, or the end. */
static char *line_after(char *line) {
    return line + strcspn(line, "\n") + (strchr(line, '\n') != NULL);
}

void test_run_drop_boxes(test_run *run) {
    static const char edge[] = "--------------------";
    for (char *line = run->err; *line != '\0';) {
        char *const inside = line_after(line), *end = inside;
        if (strncmp(line, edge, strlen(edge)) != 0 || strncmp(inside, "prterun ", strlen("prterun ")) != 0) {
            line = inside;
            continue;
        }
        while (*end != '\0' && strncmp(end, edge, strlen(edge)) != 0)
            end = line_after(end);
        end = line_after(end);
        memmove(line, end, strlen(end) + 1);
    }
    run->n_err = strlen(run->err);
}
