#include "launcher/bar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/world.h"

enum { CELLS = 24 };

/* Under mpirun every stream looks like a terminal; only the cdpipe that started mpirun knows. */
bool cdp_bar_is_due(void) {
    const char *told = getenv("CDPIPE_TERMINAL");
    return told != NULL ? strcmp(told, "1") == 0 : !cdp_world_has_launcher() && isatty(STDERR_FILENO);
}

void cdp_bar_show(uint64_t n_done, uint64_t n_total, const char *text) {
    char bar[CELLS + 1];
    const double share = n_total > 0 ? (double)n_done / (double)n_total : 0;
    for (int i = 0; i < CELLS; i++)
        bar[i] = i < (int)(share * CELLS) ? '#' : '.';
    bar[CELLS] = '\0';
    fprintf(stderr, "\r[%s] %s\x1b[K", bar, text);
    fflush(stderr);
}

void cdp_bar_clear(void) {
    fputs("\r\x1b[K", stderr);
    fflush(stderr);
}
